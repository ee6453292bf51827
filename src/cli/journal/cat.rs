//! `ringest journal cat`: prints records in the order they arrived.

use std::path::PathBuf;

use clap::Args;
use ringest_records::journal::read::merge::{Merge, Step};

use crate::cli::args::named::named;
use crate::cli::failure::Failure;
use crate::cli::journal::lines::{LineFormat, Lines};
use crate::cli::journal::segments::segments;
use crate::cli::journal::select::{SelectArgs, Troubles};

/// Print the records
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal cat DIR                              one line a record, escaped where it does not print
  ringest journal cat DIR --since 10m --peer 192.0.2.7
  ringest journal cat DIR --since 2026-11-22T10:00:00Z --until 2026-11-22T11:00:00Z --output json
  ringest journal cat DIR --output raw > payloads      the bytes as received, one payload after the other

Records are merged by the time they were received; each worker's stay in the order it wrote them. A peer's records are in \
their order; records that several receivers gave to one worker may be out of order by a batch. Exit code 1 if \
anything is damaged; intact records are printed all the same.")]
pub(crate) struct CatArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    select: SelectArgs,
    /// text: time, peer and payload, escaped; json: one object a line; raw: only payloads, as received
    #[arg(long, value_parser = named::<LineFormat>(), default_value = "text")]
    output: LineFormat,
}

pub(crate) fn run(args: &CatArgs) -> Result<(), Failure> {
    let mut out = Lines::new(args.output);
    let mut troubles = Troubles::default();
    let mut merge = Merge::of(segments(&args.dir)?, args.select.selection()?);
    while let Some(step) = merge.next_step() {
        let record = match step {
            Step::Record(record) => record,
            Step::Trouble(trouble) => {
                troubles.tell(&trouble);
                continue;
            }
            Step::Pause => continue,
        };
        out.add(&record).map_err(|error| Failure::stdout(&error))?;
    }
    out.flush().map_err(|error| Failure::stdout(&error))?;
    troubles.judge()
}
