//! Reports as a bench would write them, for tests of what is made of them. Compiled into the library's
//! tests, the program's and the integration tests; each has `facts`, `report` and `trial` in its parent.

#![allow(dead_code, reason = "each test binary uses a part")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of some millions, all above 0"
)]

use super::facts::{HostFacts, Interface};
use super::report::*;
use super::trial::*;

/// Every mode, and the charts its page must have.
pub(crate) const CHARTS: &[(Mode, &[&str])] = &[
    (Mode::Ndr, &["chart-loss", "chart-ledger", "chart-costs"]),
    (Mode::Compare, &["chart-compare", "chart-ledger", "chart-costs"]),
    (Mode::Burst, &["chart-burst", "chart-ledger", "chart-costs"]),
    (
        Mode::Latency,
        &[
            "chart-loss",
            "chart-latency-1",
            "chart-latency-2",
            "chart-latency-3",
            "chart-ledger",
            "chart-costs",
        ],
    ),
    (Mode::Curve, &["chart-loss", "chart-ledger", "chart-costs"]),
];

fn host() -> HostFacts {
    let lo = Interface {
        name: "lo".into(),
        driver: "virtual".into(),
        speed_mbps: None,
        mtu: 65_536,
        queues: (1, 1),
    };
    let eth = Interface {
        name: "ens5f0np0".into(),
        driver: "mlx5_core".into(),
        speed_mbps: Some(25_000),
        mtu: 1500,
        queues: (16, 16),
    };
    HostFacts {
        hostname: "rx-01.example.net".into(),
        kernel: "6.12.48+deb13-amd64".into(),
        cpu: "AMD EPYC 9354P 32-Core Processor".into(),
        cores: (0..8).collect(),
        mitigations: vec![
            "spec_store_bypass: Speculative Store Bypass disabled via prctl".into(),
            "spectre_v1: usercopy/swapgs barriers and __user pointer sanitization".into(),
            "spectre_v2: Enhanced / Automatic IBRS".into(),
        ],
        governor: "performance".into(),
        virtual_machine: false,
        interfaces: vec![eth, lo],
        sysctls: [
            ("net.core.rmem_max", "67108864"),
            ("net.core.rmem_default", "212992"),
            ("net.core.netdev_max_backlog", "1000"),
            ("net.core.busy_poll", "0"),
            ("net.ipv4.udp_mem", "188544 251392 377088"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into(),
        boot_id: "1f0c7b3c-8f4f-4d35-8d0f-2a9a34a2d1aa".into(),
    }
}

/// Returns a report that found nothing.
pub(crate) fn empty(mode: Mode) -> Report {
    Report {
        version: VERSION,
        mode,
        ndr_pps: None,
        pdr_pps: None,
        host: host(),
        sender: host(),
        loopback: true,
        ringest: "0.1.0".into(),
        started_at_unix_s: 1_790_000_000,
        command: String::new(),
        setting: Setting {
            size: "64".into(),
            train: 1,
            flows: 16,
            threads: 2,
            pattern: "constant".into(),
            trial_s: 2.0,
            seed: 42,
            backend: "io_uring".into(),
            gro: true,
            receiver_cores: vec![2, 3],
            worker_cores: vec![4, 5],
            sender_cores: vec![6, 7],
            rcvbuf_asked_bytes: 4 << 20,
            rcvbuf_granted_bytes: 8 << 20,
        },
        warnings: Vec::new(),
        goals: Vec::new(),
        variants: Vec::new(),
        burst: None,
        latencies: Vec::new(),
        curve: Vec::new(),
        trials: Vec::new(),
    }
}

/// Returns a trial at `rate` with `lost` of every thousand lost, most at the socket.
pub(crate) fn trial(rate: f64, lost_per_mille: u64, purpose: &str) -> TrialRecord {
    let intended = (rate * 2.0) as u64;
    let lost = intended * lost_per_mille / 1000;
    let (queue, backlog) = (lost / 5, lost / 10);
    let socket = lost - queue - backlog;
    let handled = intended - lost;
    TrialRecord {
        variant: "ringest io_uring".into(),
        purpose: purpose.into(),
        intended_pps: Some(rate),
        duration_s: 2.0,
        flows: 16,
        intended,
        sent: intended,
        arrived: Some(intended - backlog),
        received: handled + queue,
        handled,
        lost: Lost { socket, queue, backlog, ..Lost::default() },
        cpu_ns_per_datagram: Costs {
            receiver: Some(310.0 + rate / 10_000.0),
            worker: Some(84.0),
            softirq: Some(402.0),
            host: Some(1610.0),
        },
        context_switches: Switches { voluntary: 812, involuntary: 14 },
        handled_pps: handled as f64 / 2.0,
        lateness_ns: PercentilesRecord {
            count: intended,
            p50: 2_100,
            p90: 9_800,
            p99: 41_000,
            p999: 220_000,
            max: 1_900_000,
        },
        ..TrialRecord::default()
    }
}

fn around(median: f64, share: f64) -> Interval {
    Interval { median, low: median * (1.0 - share), high: median * (1.0 + share), samples: 7 }
}

fn goals(report: &mut Report) {
    let goal = |name: &str, loss_ratio, lower, upper| GoalRecord {
        name: name.into(),
        loss_ratio,
        exceed_ratio: 0.5,
        relative_width: 0.005,
        lower_pps: Some(lower),
        upper_pps: Some(upper),
        throughput_pps: Some(lower),
    };
    report.goals =
        vec![goal("ndr", 0.0, 812_400.0, 816_300.0), goal("pdr", 0.005, 871_000.0, 875_200.0)];
    report.ndr_pps = Some(812_400.0);
    report.pdr_pps = Some(871_000.0);
}

fn search() -> Vec<TrialRecord> {
    let rates = [
        (2_000_000.0, 520),
        (1_000_000.0, 61),
        (500_000.0, 0),
        (707_000.0, 0),
        (841_000.0, 3),
        (871_000.0, 5),
        (875_200.0, 9),
        (790_000.0, 0),
        (812_400.0, 0),
        (816_300.0, 1),
        (812_400.0, 0),
        (871_000.0, 4),
    ];
    let mut trials: Vec<TrialRecord> =
        rates.into_iter().map(|(rate, lost)| trial(rate, lost, "search")).collect();
    let behind = &mut trials[0];
    behind.lost.unsent = 600_000;
    behind.unsent = 600_000;
    behind.sent -= 600_000;
    behind.lost.socket -= 500_000;
    behind.handled -= 100_000;
    behind.received -= 100_000;
    trials[3].void = true;
    trials[3].void_reason = Some("3 datagrams more were handled than were sent".into());
    trials
}

fn compare(report: &mut Report) {
    let variants = [
        ("ringest io_uring", 1.0, None),
        ("ringest recvmmsg", 1.21, Some("dearer")),
        ("bare recvmmsg, UDP_GRO", 0.83, Some("cheaper")),
        ("bare recvmmsg", 1.02, Some("no difference shown")),
        ("bare recvmsg, UDP_GRO", 1.44, Some("dearer")),
        ("bare recvmsg", 2.31, Some("dearer")),
    ];
    for (name, ratio, verdict) in variants {
        report.variants.push(VariantRecord {
            setup: Default::default(),
            name: name.into(),
            reference: verdict.is_none(),
            receiver_ns: Some(around(402.0 * ratio, 0.04)),
            worker_ns: (!name.starts_with("bare")).then(|| around(81.0, 0.02)),
            host_ns: Some(around(1590.0 * ratio, 0.03)),
            received_pps: Some(around(640_000.0 / ratio, 0.02)),
            loss_ratio: Some(around(0.12 * ratio, 0.2)),
            ratio: verdict.map(|_| around(ratio, 0.05)),
            verdict: verdict.map(Into::into),
        });
        for round in 1..=5 {
            let mut trial = trial(700_000.0, 12, &format!("round {round}"));
            trial.variant = name.into();
            trial.intended_pps = None;
            trial.cpu_ns_per_datagram.receiver = Some(402.0 * ratio + f64::from(round));
            if name.starts_with("bare") {
                trial.cpu_ns_per_datagram.worker = None;
            }
            report.trials.push(trial);
        }
    }
}

fn latency(report: &mut Report) {
    let stages = [
        ("lateness", 900.0),
        ("wire", 5_200.0),
        ("socket", 2_800.0),
        ("queue", 3_900.0),
        ("handler", 310.0),
        ("one_way", 13_000.0),
        ("rtt_intended", 31_000.0),
        ("rtt_actual", 29_000.0),
    ];
    for (load, worse) in [(0.1, 1.0), (0.5, 1.6), (0.9, 9.0)] {
        let stage = |(name, base): (&str, f64)| {
            let at = |nines: f64| (base * worse * (1.0 + nines * nines * nines)) as u64;
            let curve = (0..=40).map(|step| {
                let nines = f64::from(step) / 10.0;
                (100.0 * (1.0 - 10f64.powf(-nines)), at(nines))
            });
            StageRecord {
                name: name.into(),
                percentiles: PercentilesRecord {
                    count: 1_600_000,
                    p50: at(0.3),
                    p90: at(1.0),
                    p99: at(2.0),
                    p999: at(3.0),
                    max: at(5.0),
                },
                curve: curve.chain([(100.0, at(5.0))]).collect(),
            }
        };
        let rate_pps = load * 812_400.0;
        let stages = stages.into_iter().map(stage).collect();
        report.latencies.push(LatencyRecord { load, rate_pps, stages });
        for _ in 0..3 {
            let purpose = format!("{:.0} % of NDR", load * 100.0);
            report.trials.push(trial(rate_pps, 0, &purpose));
        }
    }
}

fn curve(report: &mut Report) {
    for (flows, knee) in [(1, 240_000.0), (16, 620_000.0), (1024, 410_000.0)] {
        for step in 1..=12 {
            let rate = f64::from(step) * 90_000.0;
            let loss: f64 = if rate <= knee { 0.0 } else { 1.0 - knee / rate };
            let ends = Interval {
                median: loss,
                low: (loss - 0.03).max(0.0),
                high: if loss > 0.0 { loss + 0.04 } else { 0.0 },
                samples: 7,
            };
            report.curve.push(CurvePoint {
                flows,
                intended_pps: rate,
                loss_ratio: ends,
                receiver_loss_ratio: ends,
                trials: 3,
            });
            let mut trial = trial(rate, (loss * 1000.0) as u64, "curve");
            trial.flows = flows;
            report.trials.push(trial);
        }
    }
}

/// Returns a report of `mode` with figures that could be.
pub(crate) fn report(mode: Mode) -> Report {
    let mut report = empty(mode);
    report.command = format!("ringest bench {} --size 64 --seed 42", mode.as_str());
    match mode {
        Mode::Ndr => {
            goals(&mut report);
            report.trials = search();
        }
        Mode::Compare => compare(&mut report),
        Mode::Burst => {
            let repetitions = vec![11_840, 11_905, 11_312, 11_840, 11_777, 11_902, 11_850];
            report.burst = Some(BurstRecord {
                send_pps: 1_700_000.0,
                drain_pps: 1_100_000.0,
                buffer_datagrams: Some(4180.0),
                longest: Interval { median: 11_840.0, low: 11_312.0, high: 11_905.0, samples: 10 },
                bytes_per_datagram: Some(708.5),
                repetitions,
                unbounded: false,
            });
            for (repetition, lost) in (1..=7).zip([0, 2, 0, 1, 0, 0, 3]) {
                let purpose = format!("repetition {repetition}");
                report.trials.push(trial(6_000.0, lost, &purpose));
            }
        }
        Mode::Latency => {
            goals(&mut report);
            report.trials = search();
            latency(&mut report);
        }
        Mode::Curve => curve(&mut report),
    }
    report
}

/// Returns the same report from a host that sends hostile texts.
pub(crate) fn hostile(mode: Mode) -> Report {
    let ill = "\"'></style></svg><script>alert(1)</script><img src=x onerror=\"x\">\x1b[2J\u{202e}";
    let mut report = report(mode);
    for host in [&mut report.host, &mut report.sender] {
        host.hostname = ill.into();
        host.cpu = ill.repeat(20);
        host.kernel = ill.into();
        host.mitigations = vec![ill.into()];
        host.sysctls = vec![(ill.into(), ill.into())];
        host.interfaces[0].name = ill.into();
    }
    report.ringest = ill.into();
    report.command = ill.into();
    report.warnings = vec![ill.into()];
    report.setting.size = ill.into();
    report.setting.backend = ill.into();
    for trial in &mut report.trials {
        trial.variant = ill.into();
        trial.purpose = ill.into();
        trial.void_reason = Some(ill.into());
    }
    for variant in &mut report.variants {
        variant.name = ill.into();
        variant.verdict = Some(ill.into());
    }
    for goal in &mut report.goals {
        goal.name = ill.into();
    }
    for stage in report.latencies.iter_mut().flat_map(|latency| &mut latency.stages) {
        stage.name = ill.into();
    }
    report
}
