//! One trial, from the intended datagrams to the handler: sends, receives, adds up and checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::document::facts::HostFacts;
use crate::document::report::Setup;
use crate::document::report::StageRecord;
use crate::document::trial::{Costs, Lost, TrialRecord};
use crate::subject::handler::{percentiles_record, stage};
use crate::subject::layers::{Layers, interface_of};
use crate::talk::link::{BenchError, Link};
use crate::wire::message::{ReceiverOutcome, ReceiverSpec, Request};
use ringest_load::generator::Generator;
use ringest_load::report::LoadReport;
use ringest_load::spec::{LoadSpec, Rate, TRAIN_MAX, run_id};

/// The parameters of a trial.
#[derive(Clone, Debug)]
pub struct TrialSpec {
    /// The receiver's name in the report.
    pub variant: String,
    /// The purpose, for the report.
    pub purpose: String,
    /// The receiver; run, flows and boot id are filled in.
    pub receiver: ReceiverSpec,
    /// The load; target and run are filled in.
    pub load: LoadSpec,
    /// Length of the warm-up.
    pub warm: Duration,
}

/// The result of a trial.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The record for the report.
    pub record: TrialRecord,
    /// The receiver's setup.
    pub setup: Setup,
    /// Latency by stage, including the sender's stages.
    pub stages: Vec<StageRecord>,
    /// The sender's report.
    pub sent: LoadReport,
}

/// Wait for datagrams still on their way, as RFC 2544, section 23, asks.
const SETTLE_NETWORK_MS: u64 = 2000;
/// The same on loopback. When a send has returned, datagrams are in the socket, in the backlog, which is
/// watched, or in ksoftirqd, which others may keep from its core.
const SETTLE_LOOPBACK_MS: u64 = 150;

/// The smallest datagram that holds its run id (see `LoadSpec::unknown`).
const NAMED_BYTES: usize = 16;

/// Makes one trial.
///
/// # Errors
/// The server or the sender failed, or `stopped` returned true. A trial whose counts do not balance is no
/// error: its record is marked void.
pub fn run(
    link: &mut Link,
    spec: &TrialSpec,
    stopped: &dyn Fn() -> bool,
) -> Result<Tried, BenchError> {
    let loopback = link.loopback;
    let mut load = LoadSpec { run: run_id(), ..spec.load.clone() };
    let receiver = ReceiverSpec {
        run: load.run,
        flows: load.flows,
        size_max: load.sizes.max(),
        sender_boot_id: HostFacts::boot_id_here(),
        ..spec.receiver.clone()
    };
    let (address, setup) = link.prepare(receiver, stopped)?;
    load.target = address;
    load.check().map_err(|error| BenchError::Usage(error.to_string()))?;
    let settle_ms = if loopback { SETTLE_LOOPBACK_MS } else { SETTLE_NETWORK_MS };
    let warm = warm_up(&load, spec.warm, stopped)?;
    link.mark(warm, settle_ms, stopped)?;
    let interface = interface_towards(load.target);
    let before = Layers::read(interface.as_deref());
    let sent = send(&load, stopped)?;
    let sender_drops = Layers::read(interface.as_deref()).losses_since(&before);
    let finish = Request::Finish {
        sent: sent.sent,
        issued_by_flow: sent.issued_by_flow.clone(),
        failed: sent.send_failed + sent.qdisc_dropped,
        settle_ms,
    };
    let mut outcome = link.finish(&finish, stopped)?;
    if let Some(seen) = &mut outcome.seen
        && load.sizes.min() >= NAMED_BYTES
    {
        seen.foreign = seen.not_named_ours;
    }
    let mut record = account(&sent, &outcome, loopback, load.train());
    record.variant.clone_from(&spec.variant);
    record.purpose.clone_from(&spec.purpose);
    record.intended_pps = load.rate_pps();
    record.flows = load.flows;
    record.sender_drops = sender_drops;
    if load.duration.is_some() && load.count.is_none() {
        // Rates refer to the intended time.
        record.duration_s = load.duration.map_or(record.duration_s, |d| d.as_secs_f64());
    }
    let stages = stage("lateness", &sent.lateness_ns)
        .into_iter()
        .chain(outcome.stages)
        .chain(sent.echo.iter().flat_map(|echo| {
            let intended = stage("rtt_intended", &echo.from_intended_ns);
            intended.into_iter().chain(stage("rtt_actual", &echo.from_actual_ns))
        }))
        .collect();
    Ok(Tried { record, setup, stages, sent })
}

/// Returns the interface through which datagrams leave.
fn interface_towards(target: SocketAddr) -> Option<String> {
    let any: IpAddr =
        if target.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    // Connecting sends nothing, but selects the source address by the route.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    interface_of(socket.local_addr().ok()?.ip())
}

/// Sends the warm-up under another run id. Returns the number of datagrams sent.
fn warm_up(load: &LoadSpec, warm: Duration, stopped: &dyn Fn() -> bool) -> Result<u64, BenchError> {
    if warm.is_zero() {
        return Ok(0);
    }
    // At most 100,000 a second: the warm-up must not overrun the receiver.
    let rate = load.rate_pps().map_or(1e5, |rate| rate.min(1e5));
    let load = LoadSpec {
        run: load.run.wrapping_add(1),
        rate: Rate::Pps(rate),
        burst: 1,
        count: None,
        duration: Some(warm),
        echo: false,
        ..load.clone()
    };
    Ok(send(&load, stopped)?.sent)
}

fn send(load: &LoadSpec, stopped: &dyn Fn() -> bool) -> Result<LoadReport, BenchError> {
    let generator = Generator::start(load)?;
    while !generator.wait(Duration::from_millis(100)) {
        if stopped() {
            return Err(BenchError::Stopped);
        }
    }
    Ok(generator.finish()?)
}

/// Adds up the counts of both sides. `train` is the most datagrams that a kernel buffer may hold.
#[must_use]
pub fn account(
    sent: &LoadReport,
    outcome: &ReceiverOutcome,
    loopback: bool,
    train: usize,
) -> TrialRecord {
    let seen = outcome.seen.unwrap_or_default();
    // Duplicates and foreign datagrams were received, but not sent as part of the load. Late ones, which
    // cannot be told from duplicates, count as lost, as in RFC 7680, section 2.
    let extra = seen.foreign.saturating_add(seen.duplicates).saturating_add(seen.late);
    let mut record = TrialRecord {
        duration_s: seconds(sent.elapsed_ns),
        intended: sent.intended,
        unsent: sent.unsent,
        sent: sent.sent,
        arrived: outcome.arrived,
        received: outcome.received,
        handled: outcome.handled,
        foreign: seen.foreign,
        duplicates: seen.duplicates,
        reordered: seen.reordered,
        reorder_extent: seen.extent_max,
        late: seen.late,
        jitter_ns: seen.jitter_ns,
        lost: Lost {
            unsent: sent.unsent,
            send_failed: sent.send_failed,
            qdisc: sent.qdisc_dropped,
            truncated: outcome.truncated,
            pool: outcome.pool,
            queue: outcome.queue,
            unread: outcome.unread,
            ..Lost::default()
        },
        cpu_ns_per_datagram: costs(outcome),
        thread_ns_per_datagram: thread_costs(outcome),
        host_drops: outcome.layers,
        socket_drop_buffers: outcome.kernel_buffers,
        kernel_unit: if outcome.kernel_exact { "datagrams" } else { "buffers" }.to_owned(),
        ring_exhausted: outcome.ring_exhausted,
        unreachable: sent.unreachable,
        context_switches: outcome.switches,
        handled_pps: per_second(outcome.handled.saturating_sub(extra), sent.elapsed_ns),
        lateness_ns: percentiles_record(&sent.lateness_ns),
        ..TrialRecord::default()
    };
    let placed = place(&mut record, outcome, (loopback, train as u64), extra);
    record.void_reason = placed.err().or_else(|| contradiction(&record, outcome, extra));
    record.void = record.void_reason.is_some();
    record
}

/// Assigns the missing datagrams to causes.
///
/// # Errors
/// The counts contradict each other; the error says how.
fn place(
    record: &mut TrialRecord,
    outcome: &ReceiverOutcome,
    (loopback, train): (bool, u64),
    extra: u64,
) -> Result<(), String> {
    let here = outcome.received.saturating_sub(extra).saturating_add(outcome.unread);
    let missing = record.sent.checked_sub(here).ok_or_else(|| {
        format!(
            "{} datagrams more were received than were sent: somebody else sent here too",
            here - record.sent
        )
    })?;
    if outcome.kernel > missing {
        return Err(format!(
            "the sockets dropped {}, but only {missing} are missing: somebody else sent here too",
            outcome.kernel
        ));
    }
    let mut left = missing;
    let mut take = |count: u64| {
        let taken = count.min(left);
        left -= taken;
        taken
    };
    let lost = &mut record.lost;
    lost.socket = take(outcome.kernel);
    let layers = &outcome.layers;
    lost.checksum = take(layers.checksum);
    // Each packet may be a train that was not segmented yet. On loopback no interface drops.
    if !loopback {
        lost.nic = take(layers.nic.saturating_mul(train));
    }
    lost.backlog = take(layers.backlog.saturating_mul(train));
    if !outcome.kernel_exact {
        // Each buffer held at least one datagram, which is counted, and at most a train. On loopback
        // nothing else can have lost the rest; over a network the cause is unknown.
        let most = outcome.kernel.saturating_mul(TRAIN_MAX as u64 - 1);
        let further = take(most);
        if loopback {
            lost.socket += further;
        } else {
            lost.unplaced = further;
        }
    }
    lost.network = left;
    if loopback && left > 0 {
        return Err(format!("{left} datagrams are nowhere, and there was no network between"));
    }
    Ok(())
}

/// Returns a contradiction in the counts, or `None`.
fn contradiction(record: &TrialRecord, outcome: &ReceiverOutcome, extra: u64) -> Option<String> {
    if outcome.unsettled {
        return Some("counts still moved long after the load: somebody else sends here".to_owned());
    }
    if outcome.residual != 0 {
        return Some(format!("the engine's ledger is off by {}", outcome.residual));
    }
    // Two counters of the same drops: the engine's, by subtraction, and the kernel's.
    let (kernel, buffers) = (outcome.kernel, outcome.kernel_buffers);
    if !(buffers..=buffers.saturating_mul(TRAIN_MAX as u64)).contains(&kernel) {
        return Some(format!(
            "{kernel} are missing at the socket, where the kernel dropped {buffers}"
        ));
    }
    let after = outcome.truncated + outcome.pool + outcome.queue;
    if outcome.received != outcome.handled + after {
        return Some(format!(
            "received {}, but handled {} and dropped {after} after that",
            outcome.received, outcome.handled
        ));
    }
    if let Some(seen) = outcome.seen {
        if !seen.sound {
            return Some(
                "datagrams of this run came that were never sent: forged stamps".to_owned(),
            );
        }
        // Only if all datagrams are long enough to have a number.
        let ours = outcome.handled.saturating_sub(extra);
        let all_named = seen.not_named_ours == seen.foreign;
        if all_named && seen.distinct > 0 && seen.distinct != ours {
            return Some(format!("{ours} were handled, {} of them told apart", seen.distinct));
        }
    }
    (!record.balances()).then(|| "the sums of the accounts differ; this is a bug".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "averages need no 53 bits")]
fn thread_costs(outcome: &ReceiverOutcome) -> Vec<(String, f64)> {
    let each = |cpu_ns: u64| cpu_ns as f64 / outcome.received as f64;
    let threads = outcome.threads.iter().filter(|_| outcome.received > 0);
    threads.map(|(name, cpu_ns)| (name.clone(), each(*cpu_ns))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "averages need no 53 bits")]
fn costs(outcome: &ReceiverOutcome) -> Costs {
    let each = |cpu_ns: u64, count: u64| (count > 0).then(|| cpu_ns as f64 / count as f64);
    Costs {
        receiver: each(outcome.receiver_cpu_ns, outcome.received),
        worker: outcome.worker_cpu_ns.and_then(|cpu_ns| each(cpu_ns, outcome.handled)),
        softirq: each(outcome.softirq_ns, outcome.received),
        host: each(outcome.host_ns, outcome.received),
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to 0.1 us for 30 years")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 / seconds(ns) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::trial::Losses;
    use crate::wire::message::SeenCounts;

    fn sent(intended: u64, sent: u64) -> LoadReport {
        let mut report = LoadReport::empty(1, "io_uring");
        (report.intended, report.sent, report.unsent) = (intended, sent, intended - sent);
        report.elapsed_ns = 1_000_000_000;
        report
    }

    fn outcome(received: u64, kernel: u64) -> ReceiverOutcome {
        let seen = Some(SeenCounts { distinct: received, sound: true, ..SeenCounts::default() });
        let handled = received;
        ReceiverOutcome {
            received,
            handled,
            kernel,
            kernel_buffers: kernel,
            kernel_exact: true,
            seen,
            ..ReceiverOutcome::default()
        }
    }

    #[test]
    fn a_trial_that_lost_nothing_balances() {
        let record = account(&sent(100, 100), &outcome(100, 0), true, 1);
        assert!(!record.void && record.balances(), "{record:?}");
        assert_eq!((record.lost.total(), record.loss_ratio()), (0, 0.0));
    }

    #[test]
    fn each_loss_has_its_place() {
        let mut found = outcome(70, 20);
        (found.handled, found.queue) = (60, 10);
        found.seen = Some(SeenCounts { distinct: 60, sound: true, ..SeenCounts::default() });
        found.layers = Losses { nic: 2, backlog: 3, ..Losses::default() };
        let record = account(&sent(105, 100), &found, false, 1);
        assert!(!record.void && record.balances(), "{record:?}");
        let lost = record.lost;
        assert_eq!((lost.unsent, lost.socket, lost.queue), (5, 20, 10));
        assert_eq!((lost.nic, lost.backlog, lost.network), (2, 3, 5));
        assert_eq!(lost.total(), 45);
    }

    #[test]
    fn what_cannot_be_is_void() {
        let nowhere = account(&sent(100, 100), &outcome(99, 0), true, 1);
        assert!(nowhere.void_reason.is_some_and(|why| why.contains("nowhere")));
        let more = account(&sent(100, 100), &outcome(101, 0), false, 1);
        assert!(more.void_reason.is_some_and(|why| why.contains("more were received")));
        let dropped = account(&sent(100, 100), &outcome(99, 2), false, 1);
        assert!(dropped.void_reason.is_some_and(|why| why.contains("only 1 are missing")));
        let mut off = outcome(100, 0);
        off.residual = 1;
        assert!(account(&sent(100, 100), &off, true, 1).void);
        let mut unhandled = outcome(100, 0);
        unhandled.handled = 99;
        assert!(account(&sent(100, 100), &unhandled, true, 1).void);
    }

    #[test]
    fn drops_in_trains_fit_between_one_and_a_train_each() {
        let mut found = outcome(36, 2);
        found.kernel_exact = false;
        let record = account(&sent(100, 100), &found, true, 32);
        assert!(!record.void, "{record:?}");
        assert_eq!(record.lost.socket, 64);
        found.kernel = 1;
        assert!(account(&sent(100, 100), &found, true, 32).void, "one train holds no 64");
    }

    #[test]
    fn duplicates_and_strangers_are_not_sent_twice() {
        let mut found = outcome(105, 0);
        found.seen =
            Some(SeenCounts { duplicates: 3, foreign: 2, sound: true, ..SeenCounts::default() });
        let record = account(&sent(100, 100), &found, false, 1);
        assert!(!record.void && record.balances(), "{record:?}");
    }
}
