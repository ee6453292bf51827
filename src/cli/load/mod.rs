//! `ringest load`: sends datagrams on a schedule, and accounts for each one as sent, unsent or refused.

/// The JSON object of a load.
pub(crate) mod object;
/// A load in words.
pub(crate) mod summary;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use ringest_base::text::values::{Cores, Rate};
use ringest_load::generator::{Generator, SoFar};
use ringest_load::replay::{Recording, ReplayError, Survey};
use ringest_load::report::LoadReport;
use ringest_load::spec::{Gso, LoadSpec, PAYLOAD_BYTES_MAX, Pattern, Payload, Replay, Sizes};

use crate::cli::args::named::named;
use crate::cli::args::values;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;

const EXAMPLES: &str = "\
Examples:
  ringest load 127.0.0.1:9000                              10,000 a second for 10 seconds
  ringest load 127.0.0.1:9000 --rate max --gso 32          as fast as this host can, in trains
  ringest load [::1]:9000 --rate 200Mbps --size 1400 --duration 1m
  ringest load host:514 --rate 50k --size imix --flows 64 --threads 2 --cores 2,3
  ringest load host:9001 --rate 1000 --rtt                 round trips off `ringest echo`
  ringest load host:514 --payload message.bin --count 1000 --json
  ringest load host:514 --pcap syslog.pcap                 a capture again, at its own pace
  ringest load host:514 --pcap syslog.pcap --speed 10      ten times as fast
  ringest load host:514 --pcap syslog.pcap --rate 20k      its payloads at an even rate

Each datagram is due at its own time, whatever happened before. One that could not be sent in time is \
counted as `unsent`; the schedule is never stretched. Sent means that this host's kernel accepted the \
datagram. Whether it arrived, only the receiver knows (`ringest listen`, or `ringest bench` for both \
sides at once).";

/// Send datagrams at a rate, and report how well it was kept
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LoadArgs {
    /// Where to send: HOST:PORT or [IP6]:PORT
    #[arg(value_name = "HOST:PORT")]
    target: String,

    /// Datagrams a second (50000, 50k, 1M), payload bits a second (100Mbps, 2.5Gbps), or max [default:
    /// 10k; with --pcap as captured]
    #[arg(long, value_name = "PPS|RATEbps|max", help_heading = "What to send")]
    rate: Option<Rate>,
    /// Payload bytes: N, A-B drawn evenly, or imix (18, 548 and 1472 as 7 : 4 : 1)
    #[arg(long, value_name = "N|A-B|imix", default_value = "64", value_parser = values::sizes,
        help_heading = "What to send")]
    size: Sizes,
    /// Content after the stamp in each datagram: random bytes (the receiver notices a changed one),
    /// zeroes, or the start of a file
    #[arg(
        long,
        value_name = "random|zero|FILE",
        default_value = "zero",
        help_heading = "What to send"
    )]
    payload: String,
    /// Gaps between datagrams: constant, or poisson as from many independent senders (exponential gaps)
    #[arg(long, value_parser = named::<Pattern>(), default_value = "constant", help_heading = "What to send")]
    pattern: Pattern,
    /// Datagrams that are due together, every N / rate
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "What to send")]
    burst: usize,
    /// Datagrams per send (UDP_SEGMENT): auto joins datagrams that are due together, N sends trains of N
    /// datagrams, all due at once
    #[arg(long, value_name = "auto|off|N", default_value = "auto", value_parser = values::gso,
        help_heading = "What to send")]
    gso: Gso,

    /// Send the UDP payloads of a capture (pcap or pcapng) unchanged; each sender in it gets its own
    /// source port
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "payload", "pattern", "burst"],
        help_heading = "What to send")]
    pcap: Option<PathBuf>,
    /// How many times as fast as captured, such as 0.5 or 10 [default: 1]
    #[arg(long, value_name = "X", requires = "pcap", conflicts_with = "rate",
        value_parser = values::speed, help_heading = "What to send")]
    speed: Option<f64>,

    /// Source ports to send from, in turn [default: one per thread; with --pcap one per sender in it, up
    /// to 1024]
    #[arg(long, value_name = "N", help_heading = "From where")]
    flows: Option<usize>,
    /// Threads that share the flows and the rate
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "From where")]
    threads: usize,
    /// Cores to pin the threads to, such as 0,2-3
    #[arg(long, value_name = "LIST", help_heading = "From where")]
    cores: Option<Cores>,
    /// Address to send from
    #[arg(long, value_name = "ADDR", help_heading = "From where")]
    bind: Option<IpAddr>,

    /// Stop after this long [default: 10s, unless --count or --pcap is given]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Ending")]
    duration: Option<Duration>,
    /// Stop after this many datagrams
    #[arg(long, value_name = "N", help_heading = "Ending")]
    count: Option<u64>,

    /// Expect each datagram back (`ringest echo`, or any echo server), and measure round trips; not with
    /// --pcap, whose payloads carry no stamp to know them by
    #[arg(long, help_heading = "Output")]
    rtt: bool,
    /// Print the report as one JSON object on stdout
    #[arg(long, conflicts_with = "csv", help_heading = "Output")]
    json: bool,
    /// Print CSV on stdout: a line a second, and one at the end
    #[arg(long, help_heading = "Output")]
    csv: bool,
    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Output")]
    quiet: bool,

    /// Process id of the parent; the load ends with it
    #[arg(long, hide = true)]
    parent: Option<i32>,
}

/// The length of a load without `--duration`, `--count` or `--pcap`.
const DEFAULT_LENGTH: Duration = Duration::from_secs(10);
/// The rate without `--rate`.
const DEFAULT_RATE: Rate = Rate::Pps(10_000.0);
/// Most source ports for a recording, without `--flows`. Lower, and many of its senders share one; higher, and a
/// capture with forged addresses takes all source ports of this host.
pub(crate) const REPLAY_FLOWS: usize = 1024;

pub(crate) fn run(args: &LoadArgs) -> Result<(), Failure> {
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    let output = Output { json: args.json, csv: args.csv, quiet: args.quiet };
    perform(&args.spec()?, output)
}

/// The outputs of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) csv: bool,
    pub(crate) quiet: bool,
}

/// Runs a load and prints its report.
pub(crate) fn perform(spec: &LoadSpec, output: Output) -> Result<(), Failure> {
    spec.check()?;
    let signals = Signals::block()?;
    if !output.quiet {
        introduce(spec);
    }
    let mut ticker = Ticker::new(output)?;
    let generator = Generator::start(spec)?;
    let mut stopped_by = None;
    while !generator.wait(ticker.left()) {
        if let Some(signal) = signals.take() {
            stopped_by = Some(signal);
            generator.stop();
        }
        ticker.tick(&generator.so_far())?;
    }
    ticker.clear();
    let report = generator.finish()?;
    if !output.quiet {
        paint::say(&summary::render(spec, &report, stopped_by, paint::Paint::stderr()));
    }
    if output.json {
        object::print_json(spec, &report)?;
    }
    ticker.end(&report)?;
    judge(&report)
}

impl LoadArgs {
    /// Returns the cores to pin to, after checking that this process may use them.
    fn cores(&self) -> Result<Vec<usize>, Failure> {
        let Some(Cores(cores)) = &self.cores else { return Ok(Vec::new()) };
        let ours = ringest_bench::document::facts::HostFacts::read().cores;
        match cores.iter().find(|core| !ours.contains(core)) {
            Some(core) => Err(Failure::Usage(format!(
                "--cores {core}: this process may use these cores: {ours:?}"
            ))),
            None => Ok(cores.clone()),
        }
    }

    fn spec(&self) -> Result<LoadSpec, Failure> {
        let target = resolve(&self.target)?;
        let replay = self.pcap.as_deref().map(|path| self.replay(path)).transpose()?;
        let length = match (self.duration, self.count, &replay) {
            (None, None, None) => Some(DEFAULT_LENGTH),
            (length, ..) => length,
        };
        let flows = match &replay {
            // More flows than senders would send nothing.
            Some(replay) => self.flows.unwrap_or(REPLAY_FLOWS).min(replay.survey.flows),
            None => self.flows.unwrap_or(self.threads),
        };
        Ok(LoadSpec {
            bind: self.bind,
            rate: self.rate.unwrap_or(DEFAULT_RATE),
            replay,
            count: self.count,
            duration: length,
            sizes: self.size,
            gso: self.gso,
            burst: self.burst,
            pattern: self.pattern,
            flows,
            threads: self.threads,
            cores: self.cores()?,
            payload: payload(&self.payload)?,
            echo: self.rtt,
            needs_receiver: true,
            ..LoadSpec::new(target)
        })
    }

    /// Reads a capture once, to know its content before any of it is sent.
    fn replay(&self, path: &Path) -> Result<Replay, Failure> {
        let failed = |error: ReplayError| Failure::Failed(error.to_string());
        let about = std::fs::metadata(path);
        if about.as_ref().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
            return Err(Failure::Usage(format!(
                "--pcap {}: this is not a regular file; a capture is read twice, so save it to a file first",
                path.display()
            )));
        }
        if !self.quiet && about.is_ok_and(|about| about.len() > LARGE_BYTES) {
            paint::say(&format!("reading {} …\n", path.display()));
        }
        let recording = Recording::Capture(path.to_owned());
        let survey = recording.open().and_then(Survey::of).map_err(failed)?;
        let speed = match self.rate {
            Some(_) => None,
            None => Some(self.speed.unwrap_or(1.0)),
        };
        Ok(Replay { recording, speed, survey })
    }
}

/// Captures larger than this, in bytes, take long enough to read that it is announced.
const LARGE_BYTES: u64 = 256 << 20;

/// Returns the first address that the resolver gives for `HOST:PORT`.
pub(crate) fn resolve(target: &str) -> Result<SocketAddr, Failure> {
    let mut addresses = target.to_socket_addrs().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Failure::Usage(format!(
            "{target}: an address is HOST:PORT, such as 127.0.0.1:9000, [::1]:9000 or host:514"
        )),
        _ => Failure::Failed(format!("cannot find {target}: {error}")),
    })?;
    let first = addresses.next();
    first.filter(|address| address.port() > 0).ok_or_else(|| {
        Failure::Usage(format!("{target}: nothing can be sent to port 0; give another port"))
    })
}

fn payload(word: &str) -> Result<Payload, Failure> {
    match word {
        "random" => Ok(Payload::Random),
        "zero" => Ok(Payload::Zero),
        path => {
            let failed = |error: io::Error| {
                let hint = "--payload takes random, zero or the path of a file (./zero for one \
                            of that name)";
                Failure::Failed(format!("cannot read {path}: {error}; {hint}"))
            };
            let file = std::fs::File::open(PathBuf::from(path)).map_err(failed)?;
            let mut bytes = Vec::new();
            file.take(PAYLOAD_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.is_empty() {
                return Err(Failure::Usage(format!(
                    "{path} is empty; --payload zero sends zeroes"
                )));
            }
            Ok(Payload::Bytes(bytes.into()))
        }
    }
}

/// Makes the kernel kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG). Fails if the parent died
/// before that.
fn die_with(parent: i32) -> Result<(), Failure> {
    let asked = set_pdeathsig(Signal::SIGKILL);
    if asked.is_err() || getppid() != Pid::from_raw(parent) {
        return Err(Failure::Failed("--parent is for `ringest` itself".to_owned()));
    }
    Ok(())
}

fn introduce(spec: &LoadSpec) {
    let mut text = format!("sending to {} {}\n", spec.target, summary::describe(spec));
    if let Some(unknown) = spec.unknown() {
        text += &format!("{} {unknown}\n", paint::Paint::stderr().yellow("note:"));
    }
    paint::say(&text);
}

/// Returns an error if datagrams were due and none was sent.
fn judge(report: &LoadReport) -> Result<(), Failure> {
    if report.sent == 0 && report.intended > 0 {
        let why = report.errors.first().map_or_else(
            || "no datagram was sent in time".to_owned(),
            |(errno, _)| summary::explain(*errno),
        );
        return Err(Failure::Failed(format!("nothing was sent: {why}")));
    }
    Ok(())
}

/// The progress line on a terminal, or a line of CSV, each second.
struct Ticker {
    live: bool,
    csv: bool,
    next: Instant,
    started: Instant,
    last: (Instant, SoFar),
    shown: bool,
}

impl Ticker {
    fn new(output: Output) -> Result<Self, Failure> {
        let now = Instant::now();
        if output.csv {
            print("elapsed_s,sent,failed,echoed,sent_pps,behind_ns\n")?;
        }
        Ok(Self {
            live: !output.quiet && !output.csv && paint::is_terminal(&io::stderr()),
            csv: output.csv,
            next: now + Duration::from_secs(1),
            started: now,
            last: (now, SoFar::default()),
            shown: false,
        })
    }

    /// Returns how long to wait: until the next line is due, and at most so long that signals are handled in time.
    fn left(&self) -> Duration {
        let left = self.next.saturating_duration_since(Instant::now());
        left.min(Duration::from_millis(100))
    }

    fn tick(&mut self, so_far: &SoFar) -> Result<(), Failure> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next += Duration::from_secs(1);
        let seconds = (now - self.last.0).as_secs_f64().max(1e-3);
        let rate = so_far.sent.saturating_sub(self.last.1.sent) as f64 / seconds;
        let elapsed = (now - self.started).as_secs_f64();
        self.last = (now, *so_far);
        if self.csv {
            return self.line(elapsed, so_far, rate);
        }
        if self.live {
            let mut line = format!(
                "{elapsed:.0} s  {} datagrams/s  behind {}",
                paint::whole(rate),
                paint::nanos(so_far.behind_ns)
            );
            if so_far.failed > 0 {
                line += &format!("  refused {}", paint::count(so_far.failed));
            }
            if so_far.echoed > 0 {
                line += &format!("  back {}", paint::count(so_far.echoed));
            }
            self.shown = true;
            paint::say(&format!("\r{line}\x1b[K"));
        }
        Ok(())
    }

    fn line(&self, elapsed: f64, so_far: &SoFar, rate: f64) -> Result<(), Failure> {
        let SoFar { sent, failed, echoed, behind_ns } = so_far;
        print(&format!("{elapsed:.3},{sent},{failed},{echoed},{rate:.0},{behind_ns}\n"))
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            paint::say("\r\x1b[K");
        }
    }

    /// Prints the last line of the CSV, which covers the whole run.
    fn end(&self, report: &LoadReport) -> Result<(), Failure> {
        if !self.csv {
            return Ok(());
        }
        let so_far = SoFar {
            sent: report.sent,
            failed: report.send_failed + report.qdisc_dropped,
            echoed: report.echo.as_ref().map_or(0, |echo| echo.received),
            behind_ns: self.last.1.behind_ns,
        };
        self.line(report.elapsed_ns as f64 / 1e9, &so_far, report.rate_pps())
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::stdout(&error))
}
