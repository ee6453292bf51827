//! From config and host to a plan: which thread on which core, and what memory it will take. A pure
//! function; it opens nothing.

use crate::backend::kind::BackendKind;
use crate::batch::arena::Batch;
use crate::control::bind::{Bind, assign_groups, binds, groups};
use crate::control::config::{BackendChoice, Config, ListenAddr};
use crate::error::{Error, Result};
use crate::socket::steer::Steer;
use crate::wire::cmsg::Asked;
use ringest_base::host::resources::Host;

/// Plan of an engine: threads, cores, sizes, memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The core of each receiver.
    pub receiver_cores: Vec<usize>,
    /// The core of each worker; empty: handlers run on the receivers.
    pub worker_cores: Vec<usize>,
    /// Addresses to bind, in the order given.
    pub listen: Vec<Bind>,
    /// Slots per receiver, a power of two.
    pub slots: u16,
    /// Frames a batch holds at most.
    pub batch_entries: usize,
    /// Batches per receiver.
    pub batches: usize,
    /// Reply batches per worker (per receiver if there are no workers).
    pub reply_batches: usize,
    /// Memory, line by line.
    pub bill: Vec<BillLine>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// One line of the memory bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillLine {
    /// The part of the program, or of the kernel, that holds it.
    pub holder: String,
    /// Size, bytes.
    pub bytes: usize,
    /// Whether it is the kernel's memory (socket buffers), taken only as it fills.
    pub kernel: bool,
}

impl Plan {
    /// Returns the number of handlers.
    #[must_use]
    pub fn handlers(&self) -> usize {
        if self.worker_cores.is_empty() {
            self.receiver_cores.len()
        } else {
            self.worker_cores.len()
        }
    }

    /// Returns the memory that the process itself will hold, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bill.iter().filter(|line| !line.kernel).map(|line| line.bytes).sum()
    }
}

const THREADS_MAX: usize = 1024;
/// A train must fit a batch whatever is in it, so an arena holds at least the largest frame.
const BATCH_BYTES_MIN: usize = 64 << 10;
const BATCH_BYTES_MAX: usize = 1 << 30;
const SLOTS_MAX: usize = 32_768;
const RCVBUF_BYTES_MAX: usize = (1 << 30) - 1;

/// Makes the plan.
///
/// # Errors
/// [`Error::Setting`] names the setting that cannot be, and what can.
pub fn plan(config: &Config, host: &Host) -> Result<Plan> {
    check_sizes(config)?;
    let (receivers, workers) = threads(config, host)?;
    let (receiver_cores, worker_cores, mut warnings) = pin(config, host, receivers, workers)?;
    let batch_entries = (config.batch_bytes / 256).clamp(64, 4096);
    let batches = batches(config, receivers, workers)?;
    let repliers = if workers == 0 { receivers } else { workers };
    let reply_batches = match config.reply_bytes {
        0 => 0,
        bytes => (bytes / config.batch_bytes / repliers).max(2),
    };
    let slots = u16::try_from(config.slots.next_power_of_two()).unwrap_or(32_768);
    let mut listen = binds(config, host)?;
    assign_groups(&groups(config, &listen), &mut listen, receivers)?;
    let mut cores = receiver_cores.clone();
    cores.sort_unstable();
    cores.dedup();
    if config.steer == Steer::Cpu && cores.len() < receivers {
        warnings.push(format!(
            "steered by CPU {receivers} receivers on {} cores: of those that share a core only the first \
             gets its datagrams; give as many receivers as cores",
            cores.len()
        ));
    }
    if config.steer == Steer::RoundRobin && receivers > 1 {
        warnings.push(format!(
            "round-robin: one peer's datagrams go to {receivers} receivers in turn, their order is \
             given up"
        ));
    }
    if !host.ipv6 {
        for address in config.listen.iter().filter(|a| matches!(a, ListenAddr::Any { .. })) {
            warnings.push(format!("{address}: IPv6 is not available here, listening on IPv4 only"));
        }
    }
    let mut plan = Plan {
        receiver_cores,
        worker_cores,
        listen,
        slots,
        batch_entries,
        batches,
        reply_batches,
        bill: Vec::new(),
        warnings,
    };
    plan.bill = bill(config, &plan);
    let wanted = plan.memory_bytes() as u64;
    if let Some(memory) = host.memory_bytes.filter(|&memory| wanted > memory) {
        return Err(Error::setting(
            "pool-bytes",
            config.pool_bytes,
            format!("with the slots it makes {wanted} bytes, and this host has {memory}"),
        ));
    }
    Ok(plan)
}

fn check_range(name: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::setting(name, value, format!("must be from {min} to {max}")))
}

fn check_sizes(config: &Config) -> Result<()> {
    if config.listen.is_empty() {
        return Err(Error::setting(
            "listen",
            "nothing",
            "give at least one address, such as 127.0.0.1:9000",
        ));
    }
    for (index, address) in config.listen.iter().enumerate() {
        let fixed = address.port() != 0;
        if fixed && config.listen[..index].contains(address) {
            return Err(Error::setting("listen", address, "the address is given twice"));
        }
    }
    check_range("slots", config.slots, 2, SLOTS_MAX)?;
    check_range("batch-bytes", config.batch_bytes, BATCH_BYTES_MIN, BATCH_BYTES_MAX)?;
    check_range("rcvbuf", config.rcvbuf_bytes, 1, RCVBUF_BYTES_MAX)?;
    check_range("queue-batches", config.queue_batches, 1, 1 << 20)?;
    check_range("pool-bytes", config.pool_bytes, config.batch_bytes, 1 << 40)?;
    check_range("reply-bytes", config.reply_bytes, 0, 1 << 40)?;
    if config.coalesce.as_millis() > 1000 {
        let value = format!("{:?}", config.coalesce);
        return Err(Error::setting(
            "coalesce",
            &value,
            "is latency added to datagrams: 1s at most",
        ));
    }
    if config.idle_tick.is_some_and(|tick| tick.is_zero()) {
        return Err(Error::setting("idle-tick", "0", "must be longer than nothing"));
    }
    if config.limit == Some(0) {
        return Err(Error::setting("count", 0, "must be at least 1"));
    }
    Ok(())
}

/// Receivers and workers: as asked, or by the cores (and quota) there are. On one core a queue only
/// costs, so handlers run inline; otherwise half of the cores receive.
fn threads(config: &Config, host: &Host) -> Result<(usize, usize)> {
    let cores = config.cores.as_ref().map_or(host.cores.len(), Vec::len);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a quota is positive, and `as` saturates"
    )]
    let usable = host.quota_cores.map_or(cores, |quota| cores.min(quota.ceil() as usize)).max(1);
    let receivers = config.receivers.unwrap_or_else(|| (usable / 2).max(1));
    let workers = config.workers.unwrap_or_else(|| usable.saturating_sub(receivers));
    check_range("receivers", receivers, 1, THREADS_MAX)?;
    check_range("workers", workers, 0, THREADS_MAX)?;
    Ok((receivers, workers))
}

type Pinned = (Vec<usize>, Vec<usize>, Vec<String>);

/// Receivers take the first cores, workers the next; with more threads than cores they share, from
/// the first one on.
fn pin(config: &Config, host: &Host, receivers: usize, workers: usize) -> Result<Pinned> {
    let cores = config.cores.as_ref().unwrap_or(&host.cores);
    if let Some(core) = cores.iter().find(|core| !host.cores.contains(core)) {
        let allowed: Vec<_> = host.cores.iter().map(ToString::to_string).collect();
        let reason = format!(
            "this process may not run there (taskset, cpuset); it may use {}",
            allowed.join(",")
        );
        return Err(Error::setting("cores", core, reason));
    }
    if cores.is_empty() {
        return Err(Error::setting("cores", "nothing", "give at least one core"));
    }
    let mut warnings = Vec::new();
    if receivers + workers > cores.len() {
        warnings.push(format!(
            "{receivers} receivers and {workers} workers share {} cores; expect them to take turns",
            cores.len()
        ));
    }
    let mut round = cores.iter().copied().cycle();
    let receiver_cores = round.by_ref().take(receivers).collect();
    let worker_cores = round.take(workers).collect();
    Ok((receiver_cores, worker_cores, warnings))
}

/// Batches per receiver: one open for each worker, one on its way, one being handled.
fn batches(config: &Config, receivers: usize, workers: usize) -> Result<usize> {
    let needed = workers.max(1) + 1;
    let batches = config.pool_bytes / config.batch_bytes / receivers;
    if batches < needed {
        let least = needed * receivers * config.batch_bytes;
        let reason = format!(
            "{receivers} receivers with {workers} workers need {needed} batches of {} each: \
             at least {least}",
            config.batch_bytes
        );
        return Err(Error::setting("pool-bytes", config.pool_bytes, reason));
    }
    Ok(batches)
}

fn bill(config: &Config, plan: &Plan) -> Vec<BillLine> {
    let receivers = plan.receiver_cores.len();
    let repliers = if plan.worker_cores.is_empty() { receivers } else { plan.worker_cores.len() };
    let batch = Batch::footprint_bytes(config.batch_bytes, plan.batch_entries);
    let sockets = receivers * plan.listen.len();
    let kind = match config.backend {
        BackendChoice::Recvmmsg => BackendKind::Recvmmsg,
        BackendChoice::Auto | BackendChoice::IoUring => BackendKind::IoUring,
    };
    let slots = kind.slots_bill(plan.slots, plan.asked(config));
    let slots = BillLine {
        holder: format!("slots: {receivers} receivers x {}", slots.holder),
        bytes: receivers * slots.bytes,
        kernel: false,
    };
    vec![
        slots,
        BillLine {
            holder: format!(
                "pool: {receivers} receivers x {} batches of {} B, {} frames",
                plan.batches, config.batch_bytes, plan.batch_entries
            ),
            bytes: receivers * plan.batches * batch,
            kernel: false,
        },
        BillLine {
            holder: format!("replies: {repliers} x {} batches", plan.reply_batches),
            bytes: repliers * plan.reply_batches * batch,
            kernel: false,
        },
        BillLine {
            holder: format!(
                "queues: {} x {} places",
                plan.worker_cores.len(),
                config.queue_batches
            ),
            bytes: plan.worker_cores.len() * config.queue_batches * (size_of::<Batch>() + 8),
            kernel: false,
        },
        BillLine {
            holder: format!("receive buffers: {sockets} sockets, in the kernel, as they fill"),
            bytes: sockets * config.rcvbuf_bytes * 2,
            kernel: true,
        },
    ]
}

impl Plan {
    /// Returns what listeners ask the kernel for. Replies from a wildcard address need the local address of each
    /// datagram; it also tells a directed broadcast from a datagram to this host.
    pub(crate) fn asked(&self, config: &Config) -> Asked {
        let wildcard = self.listen.iter().any(|bind| bind.address.ip().is_unspecified());
        let headers = config.ip_headers || config.socket.transparent;
        let pktinfo = (config.reply_bytes > 0 && wildcard) || headers;
        Asked { gro: config.gro, pktinfo, timestamps: config.timestamps, headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn host(cores: usize, quota_cores: Option<f64>) -> Host {
        Host {
            cores: (0..cores).collect(),
            quota_cores,
            memory_bytes: Some(8 << 30),
            ipv6: true,
            rmem_max_bytes: None,
        }
    }

    fn config() -> Config {
        Config { listen: vec!["127.0.0.1:9000".parse().unwrap()], ..Config::default() }
    }

    #[test]
    fn threads_follow_cores_and_quota() {
        for (cores, quota, receivers, workers) in [
            (1, None, 1, 0),
            (2, None, 1, 1),
            (8, None, 4, 4),
            (8, Some(2.0), 1, 1),
            (8, Some(0.5), 1, 0),
            (3, Some(16.0), 1, 2),
        ] {
            let plan = plan(&config(), &host(cores, quota)).unwrap();
            let got = (plan.receiver_cores.len(), plan.worker_cores.len());
            assert_eq!(got, (receivers, workers), "{cores} cores, quota {quota:?}");
        }
    }

    #[test]
    fn receivers_come_first_and_too_many_threads_are_said() {
        let config =
            Config { cores: Some(vec![3, 1]), receivers: Some(1), workers: Some(2), ..config() };
        let plan = plan(&config, &host(4, None)).unwrap();
        assert_eq!(plan.receiver_cores, [3]);
        assert_eq!(plan.worker_cores, [1, 3]);
        assert_eq!(plan.warnings.len(), 1);
    }

    #[test]
    fn absurd_settings_are_named() {
        let base = config();
        let cases: Vec<(&str, Config)> = vec![
            ("listen", Config { listen: vec![], ..base.clone() }),
            ("listen", Config { listen: vec![base.listen[0]; 2], ..base.clone() }),
            ("slots", Config { slots: 0, ..base.clone() }),
            ("slots", Config { slots: 65_536, ..base.clone() }),
            ("batch-bytes", Config { batch_bytes: 1000, ..base.clone() }),
            ("pool-bytes", Config { pool_bytes: 0, ..base.clone() }),
            ("pool-bytes", Config { pool_bytes: 128 << 10, ..base.clone() }),
            ("pool-bytes", Config { pool_bytes: 64 << 30, ..base.clone() }),
            ("rcvbuf", Config { rcvbuf_bytes: 0, ..base.clone() }),
            ("rcvbuf", Config { rcvbuf_bytes: usize::MAX, ..base.clone() }),
            ("receivers", Config { receivers: Some(0), ..base.clone() }),
            ("workers", Config { workers: Some(5000), ..base.clone() }),
            ("cores", Config { cores: Some(vec![9]), ..base.clone() }),
            ("cores", Config { cores: Some(vec![]), ..base.clone() }),
            ("coalesce", Config { coalesce: Duration::from_secs(2), ..base.clone() }),
            ("count", Config { limit: Some(0), ..base.clone() }),
        ];
        for (name, config) in cases {
            match plan(&config, &host(4, None)) {
                Err(Error::Setting { setting, .. }) => assert_eq!(setting, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_bill_is_what_the_parts_take() {
        let plan = plan(&config(), &host(2, None)).unwrap();
        assert_eq!(plan.bill.len(), 5);
        assert!(plan.memory_bytes() > 32 << 20 && plan.memory_bytes() < 48 << 20);
    }
}
