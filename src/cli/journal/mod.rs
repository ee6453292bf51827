//! `ringest journal`: commands that read a journal. Another process may be writing it meanwhile.

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;

/// Which records: the flags that `cat`, `tail`, `export` and `replay` share.
mod select;
/// Prints records on stdout.
mod lines;
/// The segments of a journal's directory.
mod segments;
/// `ringest journal ls`.
mod ls;
/// `ringest journal cat`.
mod cat;
/// `ringest journal tail`.
mod tail;
/// `ringest journal verify`.
mod verify;
/// `ringest journal export`.
mod export;
/// `ringest journal replay`.
mod replay;

const EXAMPLES: &str = "\
Examples:
  ringest listen '*:514' --sink journal:/var/lib/ringest    write one
  ringest journal ls /var/lib/ringest                       list its segments
  ringest journal cat /var/lib/ringest --since 10m          the last ten minutes
  ringest journal tail /var/lib/ringest -f                  new records, as they arrive
  ringest journal cat DIR --peer 192.0.2.7 --grep error --output json
  ringest journal verify DIR --json                         check every checksum and hash
  ringest journal export DIR --format pcapng --out day.pcapng
  ringest journal replay DIR collector:514 --speed 10       send it again

ls, cat, tail and export end with exit code 0 when the reader of their output goes away, as `head` does. Reading needs \
no lock: a journal that is being written can be read up to the last record on disk.";

/// Read a journal, or check it
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

/// Makes a success of an end because the reader of stdout went away, as `head` does.
fn while_read(ended: Result<(), Failure>) -> Result<(), Failure> {
    match ended {
        Err(Failure::Unread) => Ok(()),
        ended => ended,
    }
}
