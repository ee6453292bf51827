//! `ringest journal ls`: prints a line for each segment.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use ringest_base::text::rfc3339::Rfc3339;
use ringest_records::journal::read::reader::{ReadError, Reader};

use crate::cli::failure::Failure;
use crate::cli::journal::segments::{name as segment_name, segments};
use crate::cli::show::paint;
use crate::cli::show::paint::count;

/// List the segments
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal ls DIR

A segment that is not sealed is being written, or its writer was ended early; the next start of `listen` seals it.")]
pub(crate) struct LsArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &LsArgs) -> Result<(), Failure> {
    let mut text = format!(
        "{:<23} {:>10} {:>12}  {:<30}  {}\n",
        "segment", "size", "records", "first", "last"
    );
    for segment in segments(&args.dir)? {
        let name = segment_name(&segment);
        let size = paint::bytes(segment.bytes);
        text += &match Reader::open(&segment.path) {
            _ if segment.has_no_header() => {
                format!("{name:<23} {size:>10} {:>12}  just begun\n", "-")
            }
            Ok(reader) => match reader.footer() {
                Some(footer) => format!(
                    "{name:<23} {size:>10} {:>12}  {:<30}  {}\n",
                    count(footer.records),
                    Rfc3339(footer.first_unix_ns).to_string(),
                    Rfc3339(footer.last_unix_ns)
                ),
                None => format!(
                    "{name:<23} {size:>10} {:>12}  {:<30}  not sealed\n",
                    "-",
                    Rfc3339(reader.header().created_unix_ns).to_string()
                ),
            },
            // Retention removed it meanwhile.
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => format!("{name:<23} {size:>10} {:>12}  {error}\n", "-"),
        };
    }
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::stdout(&error))
}
