//! `ringest journal verify`: checks the checksum of every record and the hash of every sealed segment.

use std::io;
use std::path::PathBuf;

use clap::Args;
use ringest_records::journal::keep::seal::survey;
use ringest_records::journal::read::merge::{ENDLESS, is_endless};
use ringest_records::journal::read::reader::{ReadError, Reader};
use ringest_records::journal::segment;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::journal::segments::{name as segment_name, segments, unreadable};
use crate::cli::show::json;
use crate::cli::show::paint;
use crate::cli::show::paint::count;

/// Check every checksum and hash
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal verify DIR
  ringest journal verify DIR --json | jq .damaged

Exit codes: 0 nothing is damaged, 1 something is damaged or cannot be read. Torn bytes at the end of a segment \
that is not sealed are no damage: a record is being written, or a crash cut one off. An unsealed segment is itself \
damage if a later segment of the same worker is sealed.")]
pub(crate) struct VerifyArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// The JSON object of `--json`. Its keys and their order are a contract with scripts.
#[derive(Debug, Default, Serialize)]
struct VerifyResult {
    version: u32,
    segments: u64,
    records: u64,
    bytes: u64,
    damaged: u64,
    torn_bytes: u64,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let mut sum = VerifyResult { version: 1, ..VerifyResult::default() };
    let mut troubles = Vec::new();
    let segments = segments(&args.dir)?;
    for (index, segment) in segments.iter().enumerate() {
        let name = segment_name(segment);
        if segment.has_no_header() {
            sum.segments += 1;
            sum.torn_bytes += segment.bytes;
            continue;
        }
        match Reader::open(&segment.path) {
            Ok(reader) => {
                let behind = segments[index + 1..].iter();
                let behind = behind.take_while(|other| other.worker == segment.worker);
                let unsealed = reader.footer().is_none();
                if let Err(error) = check(reader, &name, &mut sum, &mut troubles) {
                    sum.damaged += 1;
                    troubles.push(format!("{name}: cannot be read to its end: {error}"));
                } else if unsealed && is_endless(&segment.path, behind) {
                    sum.damaged += 1;
                    troubles.push(format!("{name}: {ENDLESS}"));
                }
            }
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                sum.damaged += 1;
                troubles.push(format!("{name}: {error}"));
            }
        }
        sum.segments += 1;
    }
    let aside = segment::aside(&args.dir).map_err(|error| unreadable(&args.dir, &error))?;
    for one in aside {
        sum.damaged += 1;
        let (name, bytes) = (segment_name(&one), paint::bytes(one.bytes));
        troubles
            .push(format!("{name}: {bytes} were set aside, because nothing in it could be read"));
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
            "the journal is damaged; `ringest journal cat` prints its intact records".to_owned(),
        )),
    }
}

/// Reads one segment and adds what it finds to `sum` and `troubles`.
fn check(
    mut reader: Reader,
    name: &str,
    sum: &mut VerifyResult,
    troubles: &mut Vec<String>,
) -> io::Result<()> {
    let mut tell = |what: String| troubles.push(format!("{name}: {what}"));
    let found = survey(&mut reader, |_| {})?;
    sum.records += found.records;
    sum.bytes += found.payload_bytes;
    if found.intact.is_none() {
        // It is being written, or its writer was ended early. Records that are not there yet are no damage.
        sum.torn_bytes += found.torn_bytes;
        sum.damaged += found.damaged - found.blank;
        if found.damaged > found.blank {
            tell(format!("{} places are no record", count(found.damaged - found.blank)));
        }
        return Ok(());
    }
    let mut damaged = found.damaged;
    if let Some(offset) = found.first_damage {
        let places = count(found.damaged);
        tell(format!("{places} places are no record, the first at byte {offset}"));
    }
    if found.torn_bytes > 0 {
        damaged += 1;
        let bytes = count(found.torn_bytes);
        tell(format!("the last {bytes} bytes before its index are no record"));
    }
    if reader.flaws() > 0 {
        tell(format!("{} places of the compressed file are damaged", count(reader.flaws())));
    } else if found.intact == Some(false) {
        tell("its content differs from what was sealed (the hash does not match)".to_owned());
    }
    sum.damaged += damaged.max(u64::from(found.intact == Some(false)));
    Ok(())
}
