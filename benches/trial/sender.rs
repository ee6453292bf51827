//! The sender's process: this program again, with a hidden first argument. A second process, so
//! that it shares neither allocator, nor threads, nor CPU accounting with what it loads.
//!
//! ```text
//!   bench ── order: one line of JSON ──► stdin   sender, pinned
//!         ◄── report: one line of JSON ── stdout
//! ```
//! It ends when its stdin does, so it cannot outlive the bench.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use core_affinity::CoreId;
use ringest::load::sender::{LoadSpec, run};
use serde::{Deserialize, Serialize};

use super::Failure;

/// The hidden first argument; what follows are cores, one for each thread that may send.
pub(crate) const ARGUMENT: &str = "__sender";

/// What is to be sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) target: SocketAddr,
    /// Payload bytes of a datagram.
    pub(crate) size: usize,
    /// Datagrams a send.
    pub(crate) train: usize,
    /// Datagrams a second; none: as fast as the kernel takes them.
    pub(crate) rate_pps: Option<u64>,
    pub(crate) for_ms: u64,
    /// How many threads send, each on its core.
    pub(crate) threads: usize,
}

/// What was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) unsent: u64,
    pub(crate) elapsed_ns: u64,
    /// Why not, if it could not be done.
    pub(crate) error: Option<String>,
}

/// The bench's end.
#[derive(Debug)]
pub(crate) struct Sender {
    child: Child,
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
}

impl Sender {
    pub(crate) fn start(cores: &[usize]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .args(cores.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let reports = child.stdout.take().ok_or("the sender has no stdout")?;
        Ok(Self { child, orders, reports: BufReader::new(reports) })
    }

    /// Has an order carried out; returns when the last datagram has been sent.
    pub(crate) fn send(&mut self, order: &Order) -> Result<Report, Failure> {
        let pipe = self.orders.as_mut().ok_or("the sender has no stdin")?;
        writeln!(pipe, "{}", serde_json::to_string(order)?)?;
        let mut line = String::new();
        if self.reports.read_line(&mut line)? == 0 {
            return Err(format!("the sender ended: {}", self.child.wait()?).into());
        }
        let report: Report = serde_json::from_str(&line)?;
        match report.error {
            Some(error) => Err(format!("the sender: {error}").into()),
            None => Ok(report),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // The end of its stdin ends it; it is inside an order for a few seconds at most.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// The other end: carries out orders until stdin ends.
pub(crate) fn serve(cores: &[String]) -> Result<(), Failure> {
    let cores = cores.iter().map(|core| core.parse()).collect::<Result<Vec<usize>, _>>()?;
    let mut stdout = io::stdout();
    for line in io::stdin().lock().lines() {
        let report = carry_out(&serde_json::from_str(&line?)?, &cores);
        writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
        stdout.flush()?;
    }
    Ok(())
}

fn carry_out(order: &Order, cores: &[usize]) -> Report {
    let spec = LoadSpec {
        target: order.target,
        rate_pps: order.rate_pps,
        count: None,
        duration: Some(Duration::from_millis(order.for_ms)),
        size: order.size,
        train: order.train,
        flows: 1,
        filled: false,
    };
    let send = |core: usize| {
        core_affinity::set_for_current(CoreId { id: core });
        run(&spec, &AtomicBool::new(false))
    };
    let mut total = Report { sent: 0, unsent: 0, elapsed_ns: 0, error: None };
    std::thread::scope(|scope| {
        let threads = cores.iter().take(order.threads).map(|&core| scope.spawn(move || send(core)));
        for thread in threads.collect::<Vec<_>>() {
            match thread.join() {
                Ok(Ok(report)) => {
                    total.sent += report.sent;
                    total.unsent += report.unsent();
                    total.elapsed_ns = total.elapsed_ns.max(report.elapsed_ns);
                }
                Ok(Err(error)) => total.error = Some(error.to_string()),
                Err(_) => total.error = Some("a sending thread panicked".to_owned()),
            }
        }
    });
    total
}
