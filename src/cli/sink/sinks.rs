//! `--sink` and the flags beside it, and the sinks they stand for.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Args;
use ringest::Builder;
use ringest_engine::control::plan::BillLine;
use ringest_records::decode::stage::Formats;
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::open::Journal;
use ringest_records::sink::assemble::Sinks;
use ringest_records::sink::kinds;
use ringest_records::sink::kinds::{FileSpec, SinkKind, SinkSpec};
use ringest_records::sink::lines::Format;
use ringest_records::sink::stdout::Stdout;
use ringest_records::sink::stdout_thread;
use ringest_ship::assemble::{ShippedJournal, ShippedSpec};
use ringest_ship::carrier::Carrier;
use ringest_ship::fleet::{Destination, Watch};
use ringest_ship::target::kinds::Target;

use crate::cli::args::engine::EngineArgs;
use crate::cli::args::named::named;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::run::until_stop;
use crate::cli::run::until_stop::Beside;
use crate::cli::show::paint;
use crate::cli::show::status::Status;
use crate::cli::sink::journal::{JournalArgs, tell_repaired};
use crate::cli::sink::kafka::KafkaArgs;
use crate::cli::sink::nats::NatsArgs;
use crate::cli::sink::ship::ShipArgs;

/// `--sink`, `--output`, and the flags of each kind of sink.
#[derive(Args, Debug)]
pub(crate) struct SinkArgs {
    #[arg(
        long = "sink", value_name = "SINK", default_value = "discard", value_parser = sink,
        help_heading = "Output", help = sink_help()
    )]
    sinks: Vec<SinkArg>,
    /// How --sink stdout and --sink file:PATH write a datagram: text (escaped where it does not print), hex,
    /// or json (peer, time, length, payload) [default: text]
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

/// One `--sink`.
#[derive(Clone, Debug, PartialEq)]
enum SinkArg {
    Discard,
    Stdout,
    File(PathBuf),
    Journal(PathBuf),
    Broker(Target),
}

/// Returns all kinds of sinks, in the order of the help.
fn all_kinds() -> impl Iterator<Item = &'static SinkKind> + Clone {
    kinds::KINDS.iter().chain(ringest_ship::target::kinds::KINDS)
}

fn sink_help() -> String {
    let kinds: Vec<_> = all_kinds().map(|kind| format!("{} {}", kind.form, kind.help)).collect();
    format!("Where datagrams go: {}; repeat it for several", kinds.join(", "))
}

fn sink(text: &str) -> Result<SinkArg, String> {
    let path = |prefix| kinds::path(text, prefix).map_err(Option::unwrap_or_default);
    Ok(match kinds::find(all_kinds(), text)?.name {
        "stdout" => SinkArg::Stdout,
        "file" => SinkArg::File(path("file:")?),
        "journal" => SinkArg::Journal(path("journal:")?),
        "kafka" | "nats" => SinkArg::Broker(text.parse()?),
        "discard" => SinkArg::Discard,
        name => return Err(format!("the sink {name} cannot be written on the command line")),
    })
}

impl SinkArgs {
    /// Returns whether datagrams are only counted.
    pub(crate) fn is_discard(&self) -> bool {
        self.sinks == [SinkArg::Discard]
    }

    fn prints(&self) -> bool {
        self.sinks.contains(&SinkArg::Stdout)
    }

    fn files(&self) -> impl Iterator<Item = FileSpec> {
        let format = self.format();
        self.sinks.iter().filter_map(move |sink| match sink {
            SinkArg::File(path) => Some(FileSpec { path: path.clone(), format }),
            _ => None,
        })
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

    /// Refuses sinks and flags that do not go together.
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
        if !self.prints() && self.files().next().is_none() && self.output.is_some() {
            return usage(
                "--output says how datagrams are printed, and none are; add --sink stdout or --sink \
                 file:PATH",
            );
        }
        let is_again = |(place, sink): (usize, &SinkArg)| {
            matches!(sink, SinkArg::File(_)) && self.sinks.iter().take(place).any(|one| one == sink)
        };
        if self.sinks.iter().enumerate().any(is_again) {
            return usage("--sink file:PATH was given twice with the same PATH; leave one out");
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
        let is_kept = self.dir().is_some();
        let of_broker = |wanted: fn(&Target) -> bool| self.targets().iter().any(wanted);
        // A flag without an effect is a mistake of the user.
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

    /// Returns the memory that sinks take for `workers` workers.
    pub(crate) fn memory(&self, workers: usize) -> Result<Vec<BillLine>, Failure> {
        let bytes = self.journal.buffer_bytes(workers)?;
        let files = self.files().filter_map(|file| file.memory(workers));
        let journal = self.dir().map(|_| {
            let holder = "journal: what the disk has not taken yet (--journal-buffer)".to_owned();
            BillLine { holder, bytes, kernel: false }
        });
        Ok(files.chain(journal).collect())
    }

    /// Returns the directory of the journal or the spool.
    fn dir(&self) -> Option<&Path> {
        self.journal_dir().or(self.ship.spool.as_deref())
    }

    /// Returns the causes why datagrams can be undelivered, with the next move for each.
    fn undelivered(&self) -> String {
        let is_kept = self.dir().is_some();
        let mut causes = Vec::new();
        let has_files = self.files().next().is_some();
        match (self.prints(), is_kept || has_files) {
            (true, false) => causes.push("the reader of stdout went away: see the error below"),
            (true, true) => causes.push(
                "the reader of stdout was behind or went away: give it a file, or a faster reader",
            ),
            (false, _) => {}
        }
        if has_files {
            causes.push("a file could not be written: see what was said of it above, `df -h`");
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
        format!("They were received, but not every sink took them. Possible causes: {causes}.")
    }

    /// Returns how long the journal keeps segments.
    fn retention(&self) -> Retention {
        Retention {
            only_unsent: self.ship.spool.is_some(),
            spool_bytes: self.ship.spool_bytes.map(|bytes| bytes as u64),
            ..self.journal.retention()
        }
    }
}

/// Opened sinks, and what the end of the run needs to know of them.
struct Opened {
    sinks: Sinks,
    /// Standard output as the only sink: when it fails the run is over.
    only_stdout: Option<Stdout<File>>,
    /// The figures of the brokers.
    watch: Option<Watch>,
}

/// Opens the sinks. The journal is last: at the end it is committed before a reader is waited for.
fn open(args: &SinkArgs, workers: usize, quiet: bool) -> Result<Opened, Failure> {
    let mut sinks = Sinks::new();
    let (mut only_stdout, mut watch) = (None, None);
    let failed = |error: &dyn std::error::Error| Failure::Failed(error.to_string());
    let destinations = args.destinations()?;
    let buffer_bytes = args.journal.buffer_bytes(workers)?;
    if args.prints() {
        let stdout = open_stdout(args.format())?;
        if args.sinks.len() > 1 {
            let thread = stdout_thread::start(stdout, sinks.notices())?;
            sinks = sinks.to_open(Box::new(thread));
        } else {
            only_stdout = Some(stdout.clone());
            sinks = sinks.to_open(Box::new(stdout));
        }
    }
    for file in args.files() {
        sinks = sinks.to(file).map_err(|error| failed(&*error))?;
    }
    if let Some(dir) = args.dir() {
        let journal = args.journal.spec(dir, buffer_bytes, args.retention())?;
        if destinations.is_empty() {
            let journal = Journal::open_with(journal, sinks.notices()).map_err(|e| failed(&e))?;
            tell_repaired(&journal, quiet);
            sinks = sinks.to_open(Box::new(journal));
        } else {
            let (window, flush_timeout) = (args.ship.window(), args.ship.flush_timeout());
            let spec = ShippedSpec { journal, destinations, window, flush_timeout };
            let shipped =
                ShippedJournal::open(spec, sinks.notices()).map_err(|error| failed(&*error))?;
            shipped.damaged().iter().for_each(|text| paint::say(&format!("{text}\n")));
            tell_repaired(shipped.journal(), quiet);
            watch = Some(shipped.watch().clone());
            sinks = sinks.to_open(Box::new(shipped));
        }
    }
    Ok(Opened { sinks, only_stdout, watch })
}

/// Receives into the sinks until it is to stop.
pub(crate) fn receive(
    engine_args: &EngineArgs,
    args: &SinkArgs,
    (builder, formats): (Builder, &Formats),
    signals: &Signals,
) -> Result<(), Failure> {
    let workers = builder.plan()?.handlers();
    let Opened { sinks, only_stdout, watch } = open(args, workers, engine_args.quiet)?;
    let (engine, sinks) = sinks.start(builder, formats)?;
    // Datagrams and a status line on one terminal would overwrite each other.
    let quiet = engine_args.quiet || args.prints() && io::stdout().is_terminal();
    let status =
        Status::on_stderr(quiet).with_notices(Some(sinks.notices())).with_watch(watch.as_ref());
    let beside = Beside {
        other: only_stdout.as_ref().map(AsFd::as_fd),
        status,
        sinks: Some(sinks),
        watch,
        has_journal: args.dir().is_some(),
        undelivered: args.undelivered(),
    };
    let ended = until_stop::run_until_stop("listen", engine_args, engine, signals, beside);
    match only_stdout.as_ref().and_then(Stdout::failure) {
        Some(error) => Err(closed(&error)),
        None => ended,
    }
}

/// Opens standard output without std's buffer: the lines of a batch are one write(2), and the bytes written are
/// known.
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
