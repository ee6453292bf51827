//! `ringest journal tail`: the last records, and with -f those that come.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use ringest::journal::follow::{self, Follow, FollowError, Kept};
use ringest::journal::format::Record;

use super::Failure;
use super::lines::{Lines, OutputArg};
use super::select::{SelectArgs, Troubles};
use crate::cli::signals::{self, Signals};

/// Print the last records, and those that come
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal tail DIR                             the last ten
  ringest journal tail DIR -f                          and what comes, until ^C
  ringest journal tail DIR -f -n 0 --peer 192.0.2.7    only what comes, of one peer
  ringest journal tail DIR -n 1000 --output json | jq -r .peer

With -f a record is shown when it is in its file, which is a moment before it is committed. Records come
in the order they were received, as far as workers put them there together. It ends on SIGINT or SIGTERM,
or when nobody reads its output any more, with exit code 0.")]
pub(super) struct TailArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How many of those that are there
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    #[command(flatten)]
    select: SelectArgs,
    /// text: time, peer and payload, escaped; json: one object a line; raw: payloads alone, as they came
    #[arg(long, value_enum, default_value = "text")]
    output: OutputArg,
}

/// Why it ended before it was done.
enum Ended {
    /// Nobody reads on.
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
        Self::Failed(Failure::Failed(format!("cannot follow the journal any more: {error}")))
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(super) fn run(args: &TailArgs) -> Result<(), Failure> {
    let mut troubles = Troubles::default();
    match print(args, &mut troubles) {
        Ok(()) if !args.follow => troubles.judge(),
        Ok(()) | Err(Ended::Closed) => Ok(()),
        Err(Ended::Failed(failure)) => Err(failure),
    }
}

fn print(args: &TailArgs, troubles: &mut Troubles) -> Result<(), Ended> {
    let selection = args.select.selection()?;
    let mut out = Lines::new(args.output);
    // Says where to look if the directory cannot be read.
    super::segments(&args.dir)?;
    if !args.follow {
        let last = follow::last(&args.dir, &selection, args.lines, &mut |one| troubles.tell(&one));
        print_kept(&mut out, &last.map_err(FollowError::from)?)?;
        return Ok(());
    }
    let signals = Signals::block()?;
    let (last, mut follow) =
        Follow::open(&args.dir, selection, args.lines, &mut |one| troubles.tell(&one))?;
    print_kept(&mut out, &last)?;
    drop(last);
    while signals.take().is_none() {
        let each = |record: &Record<'_>| Ok::<_, Ended>(out.add(record)?);
        follow.take(&mut |one| troubles.tell(&one), each)?;
        out.flush()?;
        let closed =
            signals::wait_or_closed([signals.as_fd(), follow.as_fd()], io::stdout().as_fd());
        if closed? {
            return Err(Ended::Closed);
        }
    }
    Ok(())
}

fn print_kept(out: &mut Lines, last: &[Kept]) -> io::Result<()> {
    last.iter().try_for_each(|kept| out.add(&kept.record()))?;
    out.flush()
}
