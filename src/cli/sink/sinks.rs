//! What `--sink` says, and the places that datagrams go to by it.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ringest::Builder;
use ringest_engine::control::plan::BillLine;
use ringest_records::decode::stage::Formats;
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::open::Journal;
use ringest_records::sink::handler::{Sink, SinkEnd, SinkHandler};
use ringest_records::sink::stdout::{Format, Stdout};
use ringest_records::sink::stdout_thread::StdoutThread;
use ringest_ship::carrier::Carrier;
use ringest_ship::fleet::{CursorPositions, Destination, Fleet};

use crate::cli::args::engine::EngineArgs;
use crate::cli::args::named::named;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::run::until_stop;
use crate::cli::run::until_stop::Beside;
use crate::cli::show::paint;
use crate::cli::show::status::Status;
use crate::cli::sink::journal::JournalArgs;
use crate::cli::sink::kafka::{KafkaArgs, KafkaTarget};
use crate::cli::sink::nats::{NatsArgs, NatsTarget};
use crate::cli::sink::ship::ShipArgs;

/// Where datagrams go.
#[derive(Args, Debug)]
pub(crate) struct SinkArgs {
    /// Where datagrams go: discard counts them, stdout prints them, journal:DIR puts them on disk,
    /// kafka:BROKERS/TOPIC and nats:URL/STREAM/SUBJECT carry them on from there; repeat it for several
    #[arg(
        long = "sink", value_name = "SINK", default_value = "discard", value_parser = sink,
        help_heading = "Output"
    )]
    sinks: Vec<SinkArg>,
    /// How --sink stdout prints a datagram: text (escaped where it does not print), hex, or json
    /// (peer, time, length, payload) [default: text]
    #[arg(long, value_parser = named::<Format>(), help_heading = "Output")]
    output: Option<Format>,
    #[command(flatten)]
    journal: JournalArgs,
    #[command(flatten)]
    ship: ShipArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    nats: NatsArgs,
}

#[derive(Clone, Debug, PartialEq)]
enum SinkArg {
    Discard,
    Stdout,
    Journal(PathBuf),
    Broker(Target),
}

/// A broker's stream or topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Kafka(KafkaTarget),
    Nats(NatsTarget),
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(target) => target.fmt(out),
            Self::Nats(target) => target.fmt(out),
        }
    }
}

fn sink(text: &str) -> Result<SinkArg, String> {
    let (kind, place) = text.split_once(':').unwrap_or((text, ""));
    match (kind, place) {
        ("discard", "") => Ok(SinkArg::Discard),
        ("stdout", "") => Ok(SinkArg::Stdout),
        ("journal", dir) if !dir.is_empty() => Ok(SinkArg::Journal(dir.into())),
        ("kafka", _) => Ok(SinkArg::Broker(Target::Kafka(text.parse()?))),
        ("nats", _) => Ok(SinkArg::Broker(Target::Nats(text.parse()?))),
        _ => Err("expected discard, stdout, journal:DIR, kafka:BROKERS/TOPIC or \
                  nats:URL/STREAM/SUBJECT"
            .to_owned()),
    }
}

impl SinkArgs {
    /// Whether datagrams are only counted.
    pub(crate) fn is_discard(&self) -> bool {
        self.sinks == [SinkArg::Discard]
    }

    fn prints(&self) -> bool {
        self.sinks.contains(&SinkArg::Stdout)
    }

    fn journal_dir(&self) -> Option<&Path> {
        self.sinks.iter().find_map(|sink| match sink {
            SinkArg::Journal(dir) => Some(dir.as_path()),
            _ => None,
        })
    }

    fn targets(&self) -> Vec<Target> {
        let target = |sink: &SinkArg| match sink {
            SinkArg::Broker(target) => Some(target.clone()),
            _ => None,
        };
        self.sinks.iter().filter_map(target).collect()
    }

    /// What cannot go together.
    pub(crate) fn check(&self, json: bool) -> Result<(), Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        let count =
            |wanted: fn(&SinkArg) -> bool| self.sinks.iter().filter(|sink| wanted(sink)).count();
        if self.prints() && json {
            return usage(
                "--sink stdout and --json would both write to stdout, and no reader could tell one \
                 from the other; leave one out (--output json prints datagrams as JSON)",
            );
        }
        if !self.prints() && self.output.is_some() {
            return usage(
                "--output says how datagrams are printed, and none are; add --sink stdout",
            );
        }
        if self.sinks.len() > 1 && self.sinks.contains(&SinkArg::Discard) {
            return usage("--sink discard throws away what other sinks keep; leave it out");
        }
        if count(|sink| *sink == SinkArg::Stdout) > 1
            || count(|sink| matches!(sink, SinkArg::Journal(_))) > 1
        {
            return usage("one --sink stdout and one --sink journal:DIR are enough");
        }
        self.ship.check(&self.targets(), self.journal_dir().is_some())?;
        let is_kept = self.journal_dir().is_some() || self.ship.spool.is_some();
        let of_broker = |wanted: fn(&Target) -> bool| self.targets().iter().any(wanted);
        // A flag that does nothing was typed by somebody who takes it to do something.
        for (flag, is_used, sink) in [
            (self.journal.given(), is_kept, "journal:DIR"),
            (self.kafka.given(), of_broker(|one| matches!(one, Target::Kafka(_))), "kafka:…"),
            (self.nats.given(), of_broker(|one| matches!(one, Target::Nats(_))), "nats:…"),
        ] {
            if let (Some(flag), false) = (flag, is_used) {
                return usage(&format!(
                    "{flag} does nothing here: add --sink {sink}, or leave it out"
                ));
            }
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.output.unwrap_or_default()
    }

    fn carrier(&self, target: &Target) -> Result<Box<dyn Carrier>, String> {
        match target {
            Target::Kafka(target) => self.kafka.carrier(target),
            Target::Nats(target) => self.nats.carrier(target),
        }
    }

    fn destinations(&self) -> Result<Vec<Destination>, Failure> {
        let mut destinations: Vec<Destination> = Vec::new();
        for target in self.targets() {
            let name = target.to_string();
            if destinations.iter().any(|other| other.name == name) {
                return Err(Failure::Usage(format!("--sink {name} was given twice")));
            }
            let carrier = self.carrier(&target).map_err(Failure::Usage)?;
            destinations.push(Destination { name, carrier });
        }
        Ok(destinations)
    }

    /// What sinks hold of memory for so many workers.
    pub(crate) fn memory(&self, workers: usize) -> Result<Option<BillLine>, Failure> {
        let is_kept = self.journal_dir().is_some() || self.ship.spool.is_some();
        let bytes = self.journal.buffer_bytes(workers)?;
        let holder = "journal: what the disk has not taken yet (--journal-buffer)".to_owned();
        Ok(is_kept.then_some(BillLine { holder, bytes, kernel: false }))
    }

    /// Why datagrams can be undelivered, and the next move.
    fn undelivered(&self) -> String {
        let is_kept = self.journal_dir().is_some() || self.ship.spool.is_some();
        let mut causes = Vec::new();
        match (self.prints(), is_kept) {
            (true, false) => causes.push("the reader of stdout went away: see the error below"),
            (true, true) => causes.push(
                "the reader of stdout was behind or went away: give it a file, or a faster reader",
            ),
            (false, _) => {}
        }
        if is_kept {
            causes.push("the disk failed or is full: see what was said of it above, `df -h`");
        }
        if !self.targets().is_empty() {
            causes.push("a broker never takes them: `ringest journal cat` shows what is in dead-…");
        }
        if self.ship.spool_bytes.is_some() {
            causes.push("the spool was full: a larger --spool-bytes");
        }
        let causes = causes.join("; or ");
        format!("They were received, but not every sink took them. Either of: {causes}.")
    }

    /// How long what was not sent is kept.
    fn retention(&self) -> Retention {
        Retention {
            only_unsent: self.ship.spool.is_some(),
            spool_bytes: self.ship.spool_bytes.map(|bytes| bytes as u64),
            ..self.journal.retention()
        }
    }
}

/// Receives into the sinks that were asked for, until it is to stop.
pub(crate) fn receive(
    engine_args: &EngineArgs,
    args: &SinkArgs,
    (mut builder, formats): (Builder, &Formats),
    signals: &Signals,
) -> Result<(), Failure> {
    let quiet = engine_args.quiet;
    let destinations = args.destinations()?;
    let dir = args.journal_dir().or(args.ship.spool.as_deref());
    let cursors = match dir {
        Some(dir) => CursorPositions::read(dir, &destinations)
            .map_err(|error| Failure::Failed(format!("{}: {error}", dir.display())))?,
        None => CursorPositions::default(),
    };
    cursors.damaged.iter().for_each(|text| paint::say(&format!("{text}\n")));
    let readers = cursors.positions.clone();
    let (workers, carriers) = (builder.plan()?.handlers(), destinations.len());
    let buffer_bytes = args.journal.buffer_bytes(workers)?;
    let journal = dir
        .map(|dir| args.journal.open(dir, buffer_bytes, (args.retention(), readers), quiet))
        .transpose()?;
    if journal.is_some() {
        // Its workers commit also when nothing comes.
        builder = builder.idle_tick(args.journal.commit_interval());
    }
    let out = Out::open(args, journal.as_ref())?;
    let mut tallies = Vec::new();
    let engine = builder.start(|worker| {
        let printer = out.printer().map(SinkEnd::from);
        let pen = journal
            .as_ref()
            .map(|journal| SinkEnd { sink: Box::new(journal.writer(worker, workers)), carriers });
        let ends = printer.into_iter().chain(pen).collect();
        let flush = args.ship.flush_timeout();
        let landing = SinkHandler::with_sets(formats.stage(), vec![ends], Vec::new(), flush);
        tallies.extend(landing.tallies().map(Arc::clone));
        landing
    })?;
    let first_lane = usize::from(args.prints());
    let fleet = match &journal {
        Some(journal) if carriers > 0 => Some(Fleet::start(
            journal,
            destinations,
            cursors.positions,
            (&tallies, first_lane),
            args.ship.window(),
        )?),
        _ => None,
    };
    // Datagrams and a status line on one terminal would overwrite each other.
    let quiet = quiet || args.prints() && io::stdout().is_terminal();
    let status = Status::on_stderr(quiet)
        .with_notices(journal.as_ref().map(Journal::notices))
        .with_watch(fleet.as_ref().map(Fleet::watch));
    let other = out.ending().map(AsFd::as_fd);
    let undelivered = args.undelivered();
    let flush = args.ship.flush_timeout();
    let beside = Beside { other, status, tallies, fleet, flush, journal, undelivered };
    let ended = until_stop::run_until_stop("listen", engine_args, engine, signals, beside);
    match out.ending().and_then(Stdout::failure) {
        Some(error) => Err(closed(&error)),
        None => ended,
    }
}

/// Standard output as a sink.
enum Out {
    Nowhere,
    /// There is no other: its reader sets the pace, and when that goes it is over.
    PacedStdout(Stdout<File>),
    /// There are others, which do not wait for it.
    StdoutThread(StdoutThread),
}

impl Out {
    fn open(args: &SinkArgs, journal: Option<&Journal>) -> Result<Self, Failure> {
        if !args.prints() {
            return Ok(Self::Nowhere);
        }
        let stdout = open_stdout(args.format())?;
        Ok(match journal {
            // Every sink beside it has a journal.
            Some(journal) => Self::StdoutThread(StdoutThread::start(stdout, journal.notices())?),
            None => Self::PacedStdout(stdout),
        })
    }

    /// One worker's end.
    fn printer(&self) -> Option<Box<dyn Sink>> {
        match self {
            Self::Nowhere => None,
            Self::PacedStdout(stdout) => Some(Box::new(stdout.printer())),
            Self::StdoutThread(aside) => Some(Box::new(aside.printer())),
        }
    }

    /// What ends everything when it fails.
    fn ending(&self) -> Option<&Stdout<File>> {
        match self {
            Self::PacedStdout(stdout) => Some(stdout),
            Self::Nowhere | Self::StdoutThread(_) => None,
        }
    }
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
