//! `ringest journal tail`: prints the last records, and with -f new ones as they arrive.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use clap::Args;
use ringest_base::sys::background::BackgroundTask;
use ringest_records::journal::format::Record;
use ringest_records::journal::read::follow;
use ringest_records::journal::read::follow::{Follow, FollowError, OwnedRecord};
use ringest_records::journal::read::select::Selection;

use crate::cli::args::named::named;
use crate::cli::failure::Failure;
use crate::cli::journal::lines::{LineFormat, Lines};
use crate::cli::journal::segments::segments;
use crate::cli::journal::select::{SelectArgs, Troubles};
use crate::cli::run::signals;
use crate::cli::run::signals::Signals;

/// Print the last records, and new ones as they arrive
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal tail DIR                             the last ten
  ringest journal tail DIR -f                          and new ones, until ^C
  ringest journal tail DIR -f -n 0 --peer 192.0.2.7    only new ones, of one peer
  ringest journal tail DIR -n 1000 --output json | jq -r .peer

With -f a record is printed once it is in its file, which is a moment before it is committed. Records that several \
workers wrote at different times may be out of order. Ends with exit code 0 on SIGINT or SIGTERM, or when the reader of \
its output goes away.")]
pub(crate) struct TailArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print new records as they arrive, until stopped
    #[arg(short, long)]
    follow: bool,
    /// How many of the last records to print
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    #[command(flatten)]
    select: SelectArgs,
    /// text: time, peer and payload, escaped; json: one object a line; raw: only payloads, as received
    #[arg(long, value_parser = named::<LineFormat>(), default_value = "text")]
    output: LineFormat,
}

/// Why following ended.
#[derive(Debug)]
enum Ended {
    /// The reader of stdout went away.
    Closed,
    Failed(Failure),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(Failure::stdout(&error)),
        }
    }
}

impl From<FollowError> for Ended {
    fn from(error: FollowError) -> Self {
        Self::Failed(failed(&error))
    }
}

fn failed(error: &FollowError) -> Failure {
    Failure::Failed(format!("cannot follow the journal any more: {error}"))
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(crate) fn run(args: &TailArgs) -> Result<(), Failure> {
    // Fails early, and names the directory, if it cannot be read.
    segments(&args.dir)?;
    if args.follow { print_on(args) } else { print(args) }
}

fn print(args: &TailArgs) -> Result<(), Failure> {
    let selection = args.select.selection()?;
    let mut troubles = Troubles::default();
    let last = follow::last(&args.dir, &selection, args.lines, &mut |one| troubles.tell(&one));
    let last = last.map_err(|error| failed(&FollowError::from(error)))?;
    print_kept(&mut Lines::new(args.output), &last).map_err(|error| Failure::stdout(&error))?;
    troubles.judge()
}

/// Prints on a thread of its own until a signal comes. The reader of stdout may stop reading; the signal ends the
/// command all the same.
fn print_on(args: &TailArgs) -> Result<(), Failure> {
    let signals = Signals::block()?;
    let selection = args.select.selection()?;
    let (dir, lines, output) = (args.dir.clone(), args.lines, args.output);
    let (end, ended) = mpsc::channel();
    let printer = BackgroundTask::begin("ringest-tail", move || {
        // The receiving end lives until this thread has ended.
        let _ = end.send(print_all(&dir, (selection, lines), output));
    })?;
    loop {
        if printer.has_ended() {
            return match ended.recv() {
                Ok(Ended::Failed(failure)) => Err(failure),
                Ok(Ended::Closed) | Err(_) => Ok(()),
            };
        }
        signals::wait([signals.as_fd(), printer.as_fd()], None)?;
        if signals.take().is_some() {
            return Ok(());
        }
    }
}

/// Prints the last records and new ones, until that fails.
fn print_all(dir: &Path, wanted: (Selection, usize), output: LineFormat) -> Ended {
    let Err(ended) = follow_on(dir, wanted, output);
    ended
}

fn follow_on(
    dir: &Path,
    (selection, lines): (Selection, usize),
    output: LineFormat,
) -> Result<Infallible, Ended> {
    let mut troubles = Troubles::default();
    let mut out = Lines::new(output);
    let (last, mut follow) = Follow::open(dir, selection, lines, &mut |one| troubles.tell(&one))?;
    print_kept(&mut out, &last)?;
    drop(last);
    loop {
        let each = |record: &Record<'_>| Ok::<_, Ended>(out.add(record)?);
        follow.take(&mut |one| troubles.tell(&one), each)?;
        out.flush()?;
        if signals::wait_or_closed([follow.as_fd()], io::stdout().as_fd())? {
            return Err(Ended::Closed);
        }
    }
}

fn print_kept(out: &mut Lines, last: &[OwnedRecord]) -> io::Result<()> {
    last.iter().try_for_each(|kept| out.add(&kept.record()))?;
    out.flush()
}
