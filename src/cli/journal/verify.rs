//! `ringest journal verify`: every record's checksum, every sealed segment's hash.

use std::path::PathBuf;

use clap::Args;
use ringest::journal::reader::Reader;
use ringest::journal::seal::{is_intact, survey};
use serde::Serialize;

use super::Failure;
use crate::cli::json;
use crate::cli::paint::{self, count};

/// Check every checksum and hash
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal verify DIR
  ringest journal verify DIR --json | jq .damaged

Exit codes: 0 nothing is damaged, 1 something is, or cannot be read. Torn bytes at the end of a segment
that is not sealed are no damage: a record is being written, or a crash cut one off.")]
pub(super) struct VerifyArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// The contract with scripts: keys and their order.
#[derive(Debug, Default, Serialize)]
struct Document {
    version: u32,
    segments: u64,
    records: u64,
    bytes: u64,
    damaged: u64,
    torn_bytes: u64,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let mut sum = Document { version: 1, ..Document::default() };
    let mut troubles = Vec::new();
    for segment in super::segments(&args.dir)? {
        sum.segments += 1;
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut reader = match Reader::open(&segment.path) {
            Ok(reader) => reader,
            Err(error) => {
                sum.damaged += 1;
                troubles.push(format!("{name}: {error}"));
                continue;
            }
        };
        let failed = |error| Failure::Failed(format!("cannot read {name}: {error}"));
        let found = survey(&mut reader, |_| {}).map_err(failed)?;
        let sealed = reader.footer().is_some();
        sum.records += found.records;
        sum.bytes += found.payload_bytes;
        let mut damaged = found.damaged;
        if let Some(offset) = found.first_damage {
            troubles.push(format!(
                "{name}: {} places are no record, the first at byte {offset}",
                count(found.damaged)
            ));
        }
        if sealed && found.torn_bytes > 0 {
            damaged += 1;
            troubles.push(format!(
                "{name}: the last {} bytes before its index are no record",
                count(found.torn_bytes)
            ));
        } else {
            sum.torn_bytes += found.torn_bytes;
        }
        let intact = is_intact(&segment.path)
            .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
        if intact == Some(false) {
            troubles.push(format!("{name}: it is not what was sealed (its hash differs)"));
            damaged = damaged.max(1);
        }
        sum.damaged += damaged;
    }
    for trouble in &troubles {
        paint::say(&format!("{trouble}\n"));
    }
    if args.json {
        json::print_line(&sum)?;
    } else {
        paint::say(&format!(
            "{} segments, {} records, {} of payload, {} damaged, {} torn bytes\n",
            count(sum.segments),
            count(sum.records),
            paint::bytes(sum.bytes),
            count(sum.damaged),
            count(sum.torn_bytes)
        ));
    }
    match sum.damaged {
        0 => Ok(()),
        _ => Err(Failure::Failed(
            "the journal is damaged; what is sound of it can be read with `ringest journal cat`"
                .to_owned(),
        )),
    }
}
