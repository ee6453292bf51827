//! `ringest load`: an honest sender. Everything that was due is sent, unsent or refused, and said.

/// What a load came to.
pub(crate) mod report;

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

A datagram is due at its time whatever happened before: what could not be sent in time is `unsent`, \
never stretched in silence. Sent means that this host's kernel took it; whether it arrived, the \
receiver knows (`ringest listen`, or `ringest bench` for both sides at once).";

/// Send datagrams at a rate, and say what could not be kept
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LoadArgs {
    /// To whom: HOST:PORT or [IP6]:PORT
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
    /// What follows the stamp in each datagram: random bytes of which a changed one is noticed, zeroes,
    /// or the start of a file
    #[arg(
        long,
        value_name = "random|zero|FILE",
        default_value = "zero",
        help_heading = "What to send"
    )]
    payload: String,
    /// Spread over time: evenly, or as many independent senders would (exponential gaps)
    #[arg(long, value_parser = named::<Pattern>(), default_value = "constant", help_heading = "What to send")]
    pattern: Pattern,
    /// Datagrams that are due together, every N / rate
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "What to send")]
    burst: usize,
    /// Datagrams per send (UDP_SEGMENT): auto joins what is due together, N sends trains of N which
    /// are due together
    #[arg(long, value_name = "auto|off|N", default_value = "auto", value_parser = values::gso,
        help_heading = "What to send")]
    gso: Gso,

    /// Send the UDP payloads of a capture (pcap or pcapng) unchanged; of each sender in it, from a source
    /// port of its own
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
    /// Threads that share flows and rate
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
    /// Print a line a second and one at the end as CSV on stdout
    #[arg(long, help_heading = "Output")]
    csv: bool,
    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Output")]
    quiet: bool,

    /// The process that asked for it; the load ends with it
    #[arg(long, hide = true)]
    parent: Option<i32>,
}

/// How long a load takes that nobody bounded.
const DEFAULT_LENGTH: Duration = Duration::from_secs(10);
/// How fast a load is that nobody set a rate for.
const DEFAULT_RATE: Rate = Rate::Pps(10_000.0);
/// Sockets for a capture unless told otherwise. Too low and many of its senders share one; higher, and
/// a capture of forged addresses takes all source ports of this host.
pub(crate) const REPLAY_FLOWS: usize = 1024;

pub(crate) fn run(args: &LoadArgs) -> Result<(), Failure> {
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    let output = Output { json: args.json, csv: args.csv, quiet: args.quiet };
    perform(&args.spec()?, output)
}

/// What is told of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) csv: bool,
    pub(crate) quiet: bool,
}

/// Sends it, and tells how it went.
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
        paint::say(&report::render(spec, &report, stopped_by, paint::Paint::stderr()));
    }
    if output.json {
        report::print_json(spec, &report)?;
    }
    ticker.end(&report)?;
    judge(&report)
}

impl LoadArgs {
    /// Cores to pin to, all of which there are.
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
            // Of more than there are senders, the rest would send nothing.
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

    /// Looks a capture through before any of it is sent.
    fn replay(&self, path: &Path) -> Result<Replay, Failure> {
        let failed = |error: ReplayError| Failure::Failed(error.to_string());
        let about = std::fs::metadata(path);
        if about.as_ref().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
            return Err(Failure::Usage(format!(
                "--pcap {}: this is no file; a capture is read twice, so save it to one first",
                path.display()
            )));
        }
        if !self.quiet && about.is_ok_and(|about| about.len() > LARGE_BYTES) {
            paint::say(&format!("looking through {} …\n", path.display()));
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

/// Looking through a capture of this size takes long enough to be said.
const LARGE_BYTES: u64 = 256 << 20;

/// An address of the name; the first the resolver gives.
pub(crate) fn resolve(target: &str) -> Result<SocketAddr, Failure> {
    let mut addresses = target.to_socket_addrs().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Failure::Usage(format!(
            "{target}: an address is HOST:PORT, such as 127.0.0.1:9000, [::1]:9000 or host:514"
        )),
        _ => Failure::Failed(format!("cannot find {target}: {error}")),
    })?;
    let first = addresses.next();
    first
        .filter(|address| address.port() > 0)
        .ok_or_else(|| Failure::Usage(format!("{target}: there is nothing to send to at port 0")))
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

/// A parent that is killed cannot end us, so the kernel does (prctl(2), PR_SET_PDEATHSIG). One that
/// died before we asked is noticed by its absence.
fn die_with(parent: i32) -> Result<(), Failure> {
    let asked = set_pdeathsig(Signal::SIGKILL);
    if asked.is_err() || getppid() != Pid::from_raw(parent) {
        return Err(Failure::Failed("--parent is for `ringest` itself".to_owned()));
    }
    Ok(())
}

fn introduce(spec: &LoadSpec) {
    let mut text = format!("sending to {} {}\n", spec.target, report::describe(spec));
    if let Some(unknown) = spec.unknown() {
        text += &format!("{} {unknown}\n", paint::Paint::stderr().yellow("note:"));
    }
    paint::say(&text);
}

/// Whether everything that was due has left.
fn judge(report: &LoadReport) -> Result<(), Failure> {
    if report.sent == 0 && report.intended > 0 {
        let why = report.errors.first().map_or_else(
            || "the sender never got to it".to_owned(),
            |(errno, _)| report::explain(*errno),
        );
        return Err(Failure::Failed(format!("nothing was sent: {why}")));
    }
    Ok(())
}

/// The live line on a terminal, or CSV, each second.
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

    /// How long to wait: until the next line, and never so long that a signal is answered late.
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

    /// The last line of the CSV: the whole run.
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
