//! `ringest demo`: the first command for a newcomer. Runs an engine here and a sender in a second process, in
//! two phases, and prints one table that says what became of every datagram.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use ringest::{Engine, Plan, Summary};
use ringest_records::sink::discard::Discard;

use crate::cli::demo::phase::{PHASES, Phase};
use crate::cli::demo::verdict;
use crate::cli::demo::verdict::{Outcome, Report};
use crate::cli::failure::Failure;
use crate::cli::load::object::LoadObject;
use crate::cli::run::deadlines::StopDeadlines;
use crate::cli::run::signals::Signals;
use crate::cli::run::until_stop;
use crate::cli::run::until_stop::{Watch, Why};
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;
use crate::cli::show::status::Status;

const EXAMPLES: &str = "\
Examples:
  cargo run --release -- demo    from a checkout
  ringest demo                   the same, installed

It uses 127.0.0.1 only, needs no rights, and takes about ten seconds. As root (CAP_BPF) it can also \
prove how many datagrams were in the trains the kernel dropped.";

/// Payload of the demo's datagrams, bytes. Small, because the cost of a datagram hardly depends on its size.
const SIZE_BYTES: usize = 64;

/// Show what this host can receive, and that every datagram is accounted for
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Length of each of the two phases
    #[arg(long, value_name = "N", default_value_t = 5, hide = true,
        value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let signals = Signals::block()?;
    let length = Duration::from_secs(args.seconds.into());
    let paint = Paint::stdout();
    let localhost = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    print(&introduction(&Engine::builder().listen(localhost).plan()?, args.seconds, paint))?;
    let mut outcomes = Vec::new();
    for (index, phase) in PHASES.iter().enumerate() {
        let number = format!("{} of {}", index + 1, PHASES.len());
        let heading = format!("\n  {}  {}", paint.bold(&number), phase.title);
        print(&format!("{}\n{}", heading, paint::paragraph(phase.explanation, 10)))?;
        let outcome = run_phase(phase, length, &signals)?;
        print(&format!("{:10}{}\n", "", verdict::one_line(&outcome)))?;
        outcomes.push((phase, outcome));
    }
    print(&verdict::render(&outcomes, &program(), paint))?;
    verdict::judge(&outcomes)
}

fn introduction(plan: &Plan, seconds: u32, paint: Paint) -> String {
    let seats = |kind: &str, cores: &[usize]| -> String {
        let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
        let plural = if cores.len() == 1 { "" } else { "s" };
        format!("{} {kind}{plural} on core{plural} {}", cores.len(), cores.join(", "))
    };
    let workers = if plan.worker_cores.is_empty() {
        "handling inline".to_owned()
    } else {
        seats("worker", &plan.worker_cores)
    };
    let mut text = format!(
        "\n{}\n\n  engine    {}, {workers}\n  sender    a second process, {SIZE_BYTES} bytes a \
         datagram, as fast as it can, to 127.0.0.1\n  time      {seconds} s for each of two \
         phases\n",
        paint.bold("ringest demo: take every datagram, and account for each one"),
        seats("receiver", &plan.receiver_cores),
    );
    if cfg!(debug_assertions) {
        let warning = "a debug build: the ledger is exact, the speed is not; cargo run --release";
        text += &format!("  {} {warning}\n", paint.yellow("warning: "));
    }
    text
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}

/// Returns the name by which this program was called, so that the suggested commands can be typed as shown.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_else(|| "ringest".to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if called.chars().all(plain) { called } else { "ringest".to_owned() }
}

fn run_phase(phase: &Phase, length: Duration, signals: &Signals) -> Result<Outcome, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let engine =
        Engine::builder().listen(address).reply_bytes(0).gro(phase.gro).start(|_| Discard)?;
    let mut sender = Sender::start(engine.addresses()[0], phase.train, length)?;
    let mut status = Status::on_stderr(false).indented(10);
    let why = {
        let output = sender.output()?;
        let other = Some(output.as_fd());
        until_stop::until_stop(&engine, signals, &Watch { other, ..Watch::default() }, &mut status)
    };
    status.clear();
    let why = why?;
    if why != Why::Other {
        // The sender first: otherwise it would keep sending while the engine drains.
        drop(sender);
        StopDeadlines::new(signals, true).stop(engine, || {})?;
        return Err(Failure::Failed(match why {
            Why::Signal(signal) => format!("stopped by {signal} before the end; nothing was shown"),
            _ => "the engine stopped before its sender did".to_owned(),
        }));
    }
    let report = sender.finish()?;
    let summary: Summary = StopDeadlines::new(signals, true).stop(engine, || {})?;
    let elapsed = Duration::try_from_secs_f64(report.elapsed_s).unwrap_or_default();
    let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
    let report = Report { sent: report.sent, elapsed_ns };
    Ok(Outcome { report, summary })
}

/// The sender process. Dropping this kills and reaps it.
#[derive(Debug)]
struct Sender {
    child: Child,
}

impl Sender {
    fn start(target: SocketAddr, train: usize, length: Duration) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::Failed(format!("cannot start the sender process: {error}; see `ulimit -u`"))
        };
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("load")
            .arg(target.to_string())
            .args(["--rate", "max", "--json", "--quiet"])
            .args(["--duration", &humantime::format_duration(length).to_string()])
            .args(["--size", &SIZE_BYTES.to_string()])
            .args(["--gso", &train.to_string()])
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(Self { child })
    }

    fn output(&mut self) -> Result<&mut std::process::ChildStdout, Failure> {
        let missing = || Failure::Failed("the sender process has no output".to_owned());
        self.child.stdout.as_mut().ok_or_else(missing)
    }

    /// Waits for the process to end and returns its report.
    fn finish(mut self) -> Result<LoadObject, Failure> {
        let mut text = String::new();
        let read = self.output()?.read_to_string(&mut text);
        let status = self.child.wait();
        parse(read.and(status), &text)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Both calls fail only if the process has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(status: io::Result<ExitStatus>, text: &str) -> Result<LoadObject, Failure> {
    let failed = |why: String| Failure::Failed(format!("the sender process failed: {why}"));
    let status = status.map_err(|error| failed(error.to_string()))?;
    match status.code() {
        Some(0) => {}
        Some(_) => return Err(failed(format!("{status}; its own message is above"))),
        None => return Err(failed(format!("something ended it ({status}); run the demo again"))),
    }
    serde_json::from_str(text).map_err(|error| failed(format!("its report is unreadable: {error}")))
}
