//! `ringest journal`: what is in a journal, whether anybody writes it or not.

use std::io;
use std::path::Path;

use clap::{Args, Subcommand};
use ringest_records::journal::segment::SegmentFile;

use crate::cli::failure::Failure;

/// Options of `cat`, `tail`, `export` and `replay` that select records.
mod select;
/// Prints the records of `cat` and `tail`, some thousand at a time.
mod lines;
/// `ringest journal ls`: one line a segment.
mod ls;
/// `ringest journal cat`: the records, in the order they arrived.
mod cat;
/// `ringest journal tail`: the last records, and with -f those that come.
mod tail;
/// `ringest journal verify`: every record's checksum, every sealed segment's hash.
mod verify;
/// `ringest journal export`: records for other programs.
mod export;
/// `ringest journal replay`: sends records as datagrams again.
mod replay;

const EXAMPLES: &str = "\
Examples:
  ringest listen '*:514' --sink journal:/var/lib/ringest    write one
  ringest journal ls /var/lib/ringest                       its segments
  ringest journal cat /var/lib/ringest --since 10m          what came in the last ten minutes
  ringest journal tail /var/lib/ringest -f                  what comes
  ringest journal cat DIR --peer 192.0.2.7 --grep error --output json
  ringest journal verify DIR --json                         check every checksum and hash
  ringest journal export DIR --format pcapng --out day.pcapng
  ringest journal replay DIR collector:514 --speed 10       send it again

ls, cat, tail and export end with exit code 0 when nobody reads on, as `head` does. Reading needs no lock: a journal that is being written is read up to what is on disk by now.";

/// Look at a journal, or check it
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct JournalCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Tail(tail::TailArgs),
    Verify(verify::VerifyArgs),
    Export(export::ExportArgs),
    Replay(replay::ReplayArgs),
}

pub(crate) fn run(args: &JournalCommand) -> Result<(), Failure> {
    match &args.action {
        Action::Ls(args) => while_read(ls::run(args)),
        Action::Cat(args) => while_read(cat::run(args)),
        Action::Tail(args) => while_read(tail::run(args)),
        Action::Verify(args) => verify::run(args),
        Action::Export(args) => while_read(export::run(args)),
        Action::Replay(args) => replay::run(args),
    }
}

/// What is read until nobody wants more of it, by `head` for example, ends well then.
fn while_read(ended: Result<(), Failure>) -> Result<(), Failure> {
    match ended {
        Err(Failure::Unread) => Ok(()),
        ended => ended,
    }
}

/// The segments of a journal.
fn segments(dir: &Path) -> Result<Vec<SegmentFile>, Failure> {
    ringest_records::journal::segment::list(dir).map_err(|error| unreadable(dir, &error))
}

fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    let dir = dir.display();
    Failure::Failed(format!(
        "cannot read {dir}: {error}; give the directory of `--sink journal:DIR`"
    ))
}

/// What a segment is called.
fn name(segment: &SegmentFile) -> String {
    segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
