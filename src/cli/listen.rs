//! `ringest listen`: take datagrams, hand them to a sink, account for them.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use ringest::Builder;
use ringest::decode::intake::Formats;
use ringest::sink::discard::{Discard, DiscardRecords};
use ringest::sink::landing::Landing;
use ringest::sink::stdout::{Format, Stdout};

use super::attend;
use super::decode_args::DecodeArgs;
use super::failure::Failure;
use super::journal_args::JournalArgs;
use super::options::EngineArgs;
use super::paint;
use super::plan;
use super::signals::Signals;
use super::status::Status;

const EXAMPLES: &str = "\
Examples:
  ringest listen 127.0.0.1:9000                     count what arrives, until ^C
  ringest listen '*:514' --sink stdout              print it, one line a datagram
  ringest listen '*:514' --sink stdout --output json | jq .payload
  ringest listen '*:514' --sink stdout --decode lines   one line a record, however they were packed
  ringest listen '*:514' --sink journal:/var/lib/ringest --decode lines
  ringest listen '[::1]:9000' --for 10s --json      measure for 10 seconds, for a script
  ringest listen '*:514' --rcvbuf 64M --receivers 2 --workers 2 --plan

^C (SIGINT) or SIGTERM stops: what the sockets hold is still taken and handled. A second one stops
at once and says what was abandoned.";

/// Receive datagrams, hand them to a sink, and account for every one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListenArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Where datagrams go: discard counts them, stdout prints them, journal:DIR puts them on disk
    #[arg(
        long, value_name = "discard|stdout|journal:DIR", default_value = "discard",
        value_parser = sink, help_heading = "Output"
    )]
    sink: SinkArg,
    /// How --sink stdout prints a datagram: text (escaped where it does not print), hex, or json
    /// (peer, time, length, payload) [default: text]
    #[arg(long, value_enum, help_heading = "Output")]
    output: Option<OutputArg>,
    #[command(flatten)]
    decoding: DecodeArgs,
    #[command(flatten)]
    journal: JournalArgs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SinkArg {
    Discard,
    Stdout,
    Journal(PathBuf),
}

fn sink(text: &str) -> Result<SinkArg, String> {
    match (text, text.strip_prefix("journal:")) {
        ("discard", _) => Ok(SinkArg::Discard),
        ("stdout", _) => Ok(SinkArg::Stdout),
        (_, Some(dir)) if !dir.is_empty() => Ok(SinkArg::Journal(dir.into())),
        _ => Err("expected discard, stdout or journal:DIR".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputArg {
    Text,
    Hex,
    Json,
}

impl ListenArgs {
    fn check(&self) -> Result<(), Failure> {
        if self.sink == SinkArg::Stdout && self.engine.json {
            return Err(Failure::Usage(
                "--sink stdout and --json would both write to stdout, and no reader could tell one \
                 from the other; leave one out (--output json prints datagrams as JSON)"
                    .to_owned(),
            ));
        }
        if self.sink != SinkArg::Stdout && self.output.is_some() {
            return Err(Failure::Usage(
                "--output says how datagrams are printed, and none are; add --sink stdout"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn format(&self) -> Format {
        match self.output {
            None | Some(OutputArg::Text) => Format::Text,
            Some(OutputArg::Hex) => Format::Hex,
            Some(OutputArg::Json) => Format::Json,
        }
    }
}

pub(super) fn run(args: &ListenArgs) -> Result<(), Failure> {
    args.check()?;
    let (builder, places) = args.engine.listening()?;
    let builder = builder.reply_bytes(0);
    let formats = args.decoding.formats(args.engine.addresses(), &places)?;
    if args.engine.plan {
        return plan::print(&builder.plan()?);
    }
    let signals = Signals::block()?;
    match &args.sink {
        SinkArg::Discard => {
            let engine = match formats.are_raw() {
                true => builder.start(|_| Discard)?,
                false => builder.start(|_| DiscardRecords::new(formats.intake()))?,
            };
            let status = Status::on_stderr(args.engine.quiet);
            attend::attend("listen", &args.engine, engine, &signals, (None, status))
        }
        SinkArg::Journal(dir) => into_journal(args, dir, (builder, &formats), &signals),
        SinkArg::Stdout => {
            let sink = open_stdout(args.format())?;
            let engine = builder
                .start(|_| Landing::new(formats.intake(), vec![Box::new(sink.printer())]))?;
            // Datagrams and a status line on one terminal would overwrite each other.
            let quiet = args.engine.quiet || io::stdout().is_terminal();
            let with = (Some(sink.as_fd()), Status::on_stderr(quiet));
            let ended = attend::attend("listen", &args.engine, engine, &signals, with);
            match sink.failure() {
                Some(error) => Err(closed(&error)),
                None => ended,
            }
        }
    }
}

/// Receives into a journal. Its workers commit also when nothing comes.
fn into_journal(
    args: &ListenArgs,
    dir: &Path,
    (builder, formats): (Builder, &Formats),
    signals: &Signals,
) -> Result<(), Failure> {
    let workers = builder.plan()?.handlers();
    let journal = args.journal.open(dir, args.engine.quiet)?;
    let engine = builder.idle_tick(args.journal.commit_interval()).start(|worker| {
        let pen = journal.pen(worker, workers);
        Landing::new(formats.intake(), vec![Box::new(pen)])
    })?;
    let alarms = journal.alarms();
    let status = Status::on_stderr(args.engine.quiet).with_alarms(alarms);
    let ended = attend::attend("listen", &args.engine, engine, signals, (None, status));
    let alarms = Arc::clone(alarms);
    journal.close();
    alarms.take().iter().for_each(|text| paint::say(&format!("journal: {text}\n")));
    ended
}

/// Standard output without std's buffer: a batch's lines are one write, and what was written is
/// known to the byte.
fn open_stdout(format: Format) -> Result<Stdout<File>, Failure> {
    let fd = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Failure::stdout(&error))?;
    Stdout::new(File::from(fd), format).map_err(|error| Failure::stdout(&error))
}

fn closed(error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::BrokenPipe => "stdout was closed by its reader".to_owned(),
        _ => format!("cannot write to stdout: {error}"),
    };
    Failure::Failed(format!(
        "{what}; datagrams received after that are counted as undelivered. To read only the first \
         N, use --count N"
    ))
}
