//! What the host says of itself: facts for the head of the table, CPU clocks of threads, and what is
//! still in the kernel's backlog.

use std::fs::read_to_string;
use std::io;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

use super::{Failure, RCVBUF_BYTES};

/// The CPU clock of one thread of this process, readable from any other
/// (clock_gettime(2), CLOCK_THREAD_CPUTIME_ID; pthread_getcpuclockid(3)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(ClockId);

impl ThreadClock {
    /// Finds a thread by its name. It may still be starting, so it is looked for during a second.
    pub(crate) fn of(name: &str) -> Result<Self, Failure> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            if let Some(thread) = find_thread(name)? {
                // MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) in linux/posix-timers_types.h.
                return Ok(Self(ClockId::from_raw(!thread << 3 | 0b110)));
            }
            if Instant::now() > deadline {
                return Err(format!("no thread is called {name}").into());
            }
            std::thread::yield_now();
        }
    }

    /// CPU time used so far, ns.
    pub(crate) fn ns(self) -> Result<u64, Failure> {
        let time = clock_gettime(self.0)?;
        Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
    }
}

fn find_thread(name: &str) -> io::Result<Option<i32>> {
    for entry in std::fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread that has just ended has no name any more.
        let comm = read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            return Ok(entry.file_name().to_str().and_then(|id| id.parse().ok()));
        }
    }
    Ok(None)
}

/// One column of /proc/net/softnet_stat, summed over CPUs; 0 where the file cannot be read.
fn softnet(column: usize) -> u64 {
    let text = read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let cell = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    text.lines().filter_map(cell).sum()
}

/// Packets the kernel gave up on before any socket saw them: the backlog of a CPU was full.
pub(crate) fn backlog_drops() -> u64 {
    softnet(1)
}

/// Waits until no sent packet is on its way to a socket any more. The sender's own CPU delivers
/// them, as a rule before its send returns, else in ksoftirqd a little later; there is nothing to
/// block on.
pub(crate) fn await_empty_backlog() {
    let deadline = Instant::now() + Duration::from_secs(1);
    while softnet(11) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The cores this run uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) receiver: usize,
    pub(crate) sender: usize,
    /// Where the worker was asked to run.
    worker: Option<usize>,
    /// Threads that send where the load is flat out.
    pub(crate) senders: usize,
}

impl Cores {
    /// The first core receives, the second one sends; a second sender shares the receiver's.
    pub(crate) fn choose(worker: Option<usize>, senders: usize) -> Result<Self, Failure> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let receiver = cores.first().ok_or("this process may run on no core")?.id;
        let sender = cores.get(1).map_or(receiver, |core| core.id);
        Ok(Self { receiver, sender, worker, senders })
    }

    /// Where the engine's worker runs, unless told otherwise. There are three threads and, as a
    /// rule here, two cores:
    ///
    /// - Flat out the receiver's core is full, so the worker shares the sender's. Beside the
    ///   receiver it would preempt it in the middle of a batch and take over warm cache lines that
    ///   on a machine with a core for each it would have to fetch. The sender loses a few per cent.
    /// - Paced, the sender spins to its deadlines, and a worker on its core would wait milliseconds
    ///   for a turn: a latency of the bench, not of the engine. The receiver's core is mostly idle
    ///   then, so the worker goes there. That is not kind to the receiver: it pays a switch between
    ///   threads for each hand-over, where across cores it would pay for a signal at most.
    pub(crate) fn worker(&self, paced: bool) -> usize {
        self.worker.unwrap_or(if paced { self.receiver } else { self.sender })
    }
}

/// The facts a reader needs to compare this table with another one, as Markdown list items.
pub(crate) fn facts(cores: Cores, rcvbuf_granted: usize) -> Vec<String> {
    let line = |path: &str| read_to_string(path).map_or_else(|_| unknown(), |t| t.trim().into());
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(unknown, |(_, model)| model.trim().to_owned());
    let count = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
    let shared =
        if cores.receiver == cores.sender { " (one core for all: not a bench)" } else { "" };
    let also = if cores.senders > 1 { " and, flat out, on the receiver's" } else { "" };
    vec![
        format!("kernel {}", line("/proc/sys/kernel/osrelease")),
        format!("{count} x {model}; mitigations: {}", mitigations()),
        format!(
            "receive buffer: asked for {RCVBUF_BYTES} B, granted {} B; net.core.rmem_max {} B",
            rcvbuf_granted / 2,
            line("/proc/sys/net/core/rmem_max"),
        ),
        format!(
            "receiver on core {}, sender (second process) on core {}{also}{shared}, worker on core \
             {} flat out and {} paced; loopback, so nothing is merged but what was sent as a train",
            cores.receiver,
            cores.sender,
            cores.worker(false),
            cores.worker(true)
        ),
    ]
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What the kernel does about the CPU's flaws, one short clause each; flaws it has not are left out.
fn mitigations() -> String {
    let Ok(files) = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return unknown();
    };
    let mut named: Vec<String> = files
        .filter_map(|file| {
            let file = file.ok()?;
            let status = read_to_string(file.path()).ok()?;
            let clause = status.trim().split([';', ',']).next()?.to_owned();
            let clause = clause.strip_prefix("Mitigation: ").unwrap_or(&clause);
            let name = file.file_name().to_string_lossy().into_owned();
            (clause != "Not affected").then(|| format!("{name}: {clause}"))
        })
        .collect();
    named.sort();
    if named.is_empty() { "none needed".to_owned() } else { named.join(", ") }
}

/// A number that differs from run to run, for the order of trials.
pub(crate) fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| u64::from(since.subsec_nanos()));
    now ^ u64::from(gettid().as_raw().unsigned_abs()) << 32
}
