//! A campaign: the trials of one bench over one link, and the report they are recorded in.

use std::time::Duration;

use crate::document::facts::HostFacts;
use crate::document::report::{Interval, Mode, Report, Setting, VERSION};
use crate::document::stats::{Estimate, median_interval};
use crate::document::trial::TrialRecord;
use crate::talk::link::{BenchError, Link};
use crate::talk::trial;
use crate::talk::trial::{TrialSpec, Tried};
use crate::wire::message::{Kind, ReceiverSpec};
use ringest_load::spec::{Gso, LoadSpec, Pattern, Rate, Sizes};

/// The settings from which every trial starts.
#[derive(Clone, Debug)]
pub struct Base {
    /// The load.
    pub load: LoadSpec,
    /// The receiver.
    pub receiver: ReceiverSpec,
    /// Length of a full trial.
    pub trial: Duration,
    /// Length of the warm-up, which does not count.
    pub warm: Duration,
    /// The seed of everything random.
    pub seed: u64,
}

/// A void trial is repeated at most this many times.
const RETRIES: usize = 2;

/// The progress of a bench, for display.
#[derive(Clone, Debug)]
pub struct CampaignStep<'a> {
    /// Trials made so far.
    pub done: usize,
    /// Trials expected in all, or `None` if that is not known.
    pub total: Option<usize>,
    /// The purpose of the current or the last trial.
    pub what: &'a str,
    /// The trial just made, or `None` before it.
    pub last: Option<&'a TrialRecord>,
}

/// A running bench.
pub struct Campaign<'a> {
    link: &'a mut Link,
    /// The settings from which trials start.
    pub base: Base,
    /// The results so far.
    pub report: Report,
    total: Option<usize>,
    tell: &'a mut dyn FnMut(&CampaignStep<'_>),
    stopped: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Campaign<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Campaign").field("base", &self.base).finish_non_exhaustive()
    }
}

impl<'a> Campaign<'a> {
    /// Begins a campaign. `tell` is called before and after each trial; `stopped` is polled during it.
    pub fn new(
        link: &'a mut Link,
        mode: Mode,
        base: Base,
        tell: &'a mut dyn FnMut(&CampaignStep<'_>),
        stopped: &'a dyn Fn() -> bool,
    ) -> Self {
        let report = blank(link, mode, &base);
        Self { link, base, report, total: None, tell, stopped }
    }

    /// Sets the number of trials to expect.
    pub fn expect(&mut self, total: usize) {
        self.total = Some(total);
    }

    /// Returns a trial with the base settings.
    #[must_use]
    pub fn trial(&self, purpose: impl Into<String>) -> TrialSpec {
        TrialSpec {
            variant: name_of(&self.base.receiver),
            purpose: purpose.into(),
            receiver: self.base.receiver.clone(),
            load: LoadSpec { duration: Some(self.base.trial), ..self.base.load.clone() },
            warm: self.base.warm,
        }
    }

    /// Makes a trial and repeats it while it is void; records all. The returned trial may still be void.
    ///
    /// # Errors
    /// The link or the sender failed, or `stopped` returned true.
    pub fn run(&mut self, spec: &TrialSpec) -> Result<Tried, BenchError> {
        let mut left = RETRIES;
        loop {
            self.say(&spec.purpose, None);
            let tried = trial::run(self.link, spec, self.stopped);
            // A stop breaks the link, so it is the cause of any error.
            let tried = if (self.stopped)() { Err(BenchError::Stopped) } else { tried }?;
            let void = tried.record.void;
            self.report.trials.push(tried.record.clone());
            self.note(&tried);
            self.say(&spec.purpose, Some(&tried.record));
            if !void || left == 0 {
                return Ok(tried);
            }
            left -= 1;
        }
    }

    /// As [`run`](Self::run), for callers that need a valid trial.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), or the trial was void each time.
    pub fn run_sound(&mut self, spec: &TrialSpec) -> Result<Tried, BenchError> {
        let tried = self.run(spec)?;
        match tried.record.void_reason {
            None => Ok(tried),
            Some(reason) => Err(BenchError::Void(reason)),
        }
    }

    fn say(&mut self, what: &str, last: Option<&TrialRecord>) {
        let done = self.report.trials.len();
        (self.tell)(&CampaignStep { done, total: self.total, what, last });
    }

    /// Records the receiver's setup.
    fn note(&mut self, tried: &Tried) {
        let setting = &mut self.report.setting;
        setting.backend.clone_from(&tried.setup.backend);
        setting.receiver_cores.clone_from(&tried.setup.receiver_cores);
        setting.worker_cores.clone_from(&tried.setup.worker_cores);
        setting.rcvbuf_granted_bytes = tried.setup.rcvbuf_bytes;
    }

    /// Adds the warnings and returns the report.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut report = self.report;
        report.warnings = warnings(&report);
        report
    }
}

/// Measures the sender's highest rate, in a short trial at full speed. Returns datagrams a second.
///
/// # Errors
/// Those of [`Campaign::run`].
pub fn flat_out_pps(campaign: &mut Campaign<'_>, purpose: &str) -> Result<f64, BenchError> {
    let mut spec = campaign.trial(purpose);
    spec.load.rate = Rate::Max;
    spec.load.duration = Some(campaign.base.trial.min(Duration::from_millis(500)));
    Ok(campaign.run(&spec)?.sent.rate_pps())
}

/// Returns a report without results.
fn blank(link: &Link, mode: Mode, base: &Base) -> Report {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let sender = HostFacts::read();
    Report {
        version: VERSION,
        mode,
        ndr_pps: None,
        pdr_pps: None,
        host: link.host.clone(),
        loopback: link.loopback,
        sender,
        ringest: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_unix_s: now.map_or(0, |since| since.as_secs()),
        command: String::new(),
        setting: setting(base),
        warnings: Vec::new(),
        goals: Vec::new(),
        variants: Vec::new(),
        burst: None,
        latencies: Vec::new(),
        curve: Vec::new(),
        trials: Vec::new(),
    }
}

fn setting(base: &Base) -> Setting {
    let load = &base.load;
    Setting {
        size: match load.sizes {
            Sizes::Fixed(size) => size.to_string(),
            Sizes::Range(low, high) => format!("{low}-{high}"),
            Sizes::Imix => "imix".to_owned(),
        },
        train: load.train(),
        flows: load.flows,
        threads: load.threads,
        pattern: match load.pattern {
            Pattern::Constant => "constant".to_owned(),
            Pattern::Poisson => "poisson".to_owned(),
        },
        trial_s: base.trial.as_secs_f64(),
        seed: base.seed,
        gro: base.receiver.gro,
        sender_cores: load.cores.clone(),
        rcvbuf_asked_bytes: base.receiver.rcvbuf_bytes,
        ..Setting::default()
    }
}

/// Returns the name of a receiver in a report.
#[must_use]
pub fn name_of(receiver: &ReceiverSpec) -> String {
    let gro = if receiver.gro { ", UDP_GRO" } else { "" };
    match &receiver.kind {
        Kind::Engine(engine) => {
            let inline = if engine.workers == 0 { ", inline" } else { "" };
            format!("ringest {}{inline}{gro}", engine.backend)
        }
        Kind::Bare { call } => format!("bare {}{gro}", call.replace('_', " + ")),
    }
}

/// Returns the warnings, the most important first: a generator that was the bottleneck invalidates every
/// other figure.
fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let sound: Vec<&TrialRecord> = report.trials.iter().filter(|trial| !trial.void).collect();
    let late: Vec<f64> = sound
        .iter()
        .filter(|trial| trial.unsent > 0)
        .map(|trial| ratio(trial.unsent, trial.intended))
        .collect();
    if !late.is_empty() {
        let worst = late.iter().copied().fold(0.0, f64::max) * 100.0;
        warnings.push(format!(
            "the generator could not keep the schedule in {} of {} trials (at worst {worst:.2} % were \
             due and not sent); unsent counts as loss, so rates found here may be the sender's limit, \
             not the receiver's: see where the loss is in each trial",
            late.len(),
            sound.len()
        ));
    }
    // In a burst bench, bursts without loss are the aim.
    if report.mode != Mode::Burst
        && let Some(limit) = sender_limit(&sound)
    {
        warnings.push(limit);
    }
    let void = report.trials.len() - sound.len();
    if void > 0 {
        warnings.push(format!(
            "{void} of {} trials did not balance and are void; none of their figures was used",
            report.trials.len()
        ));
    }
    if report.loopback {
        warnings.push(
            "loopback: sender and receiver share this host's cores and memory, the sender's core does \
             the network stack's work for both, and no interface, driver or interrupt is measured"
                .to_owned(),
        );
    }
    let told: u64 = sound.iter().map(|trial| trial.unreachable).sum();
    if told > 0 {
        warnings.push(format!(
            "{told} ICMP errors came back to the sender: the port was closed, or a firewall says no; see \
             the receiving host's rules for UDP at the control port's number"
        ));
    }
    let Setting { rcvbuf_asked_bytes: asked, rcvbuf_granted_bytes: granted, .. } = report.setting;
    if granted > 0 && granted < asked {
        warnings.push(format!(
            "the receive buffer is {granted} bytes, not the {asked} asked for: raise \
             net.core.rmem_max on the host under test"
        ));
    }
    if let Gso::Trains(train @ 2..) = gso_of(report)
        && !report.setting.gro
    {
        warnings.push(format!(
            "datagrams were sent {train} at a time (UDP_SEGMENT) and arrive in bursts of that length"
        ));
    }
    warnings
}

/// Warns if the sender was the bottleneck at full speed. Nothing is late then, so the sign is that
/// nothing was lost.
fn sender_limit(sound: &[&TrialRecord]) -> Option<String> {
    let flat_out = || sound.iter().filter(|trial| trial.intended_pps.is_none());
    let whole =
        flat_out().filter(|t| t.duration_s > 0.05 && t.receiver_loss_ratio() < 1e-4).count();
    let all = flat_out().filter(|trial| trial.duration_s > 0.05).count();
    (whole > 0).then(|| {
        format!(
            "in {whole} of {all} trials the sender, flat out, did not overrun the receiver: rates there \
             are the sender's, not what the receiver can take"
        )
    })
}

fn gso_of(report: &Report) -> Gso {
    if report.setting.train > 1 { Gso::Trains(report.setting.train) } else { Gso::Off }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Returns the median of `values` with its interval, or `None` without numbers.
pub(crate) fn interval(values: &[f64], seed: u64) -> Option<Interval> {
    median_interval(values, seed).map(|estimate| as_interval(&estimate))
}

pub(crate) fn as_interval(estimate: &Estimate) -> Interval {
    let (low, high) = (*estimate.interval.start(), *estimate.interval.end());
    Interval { median: estimate.value, low, high, samples: estimate.samples }
}
