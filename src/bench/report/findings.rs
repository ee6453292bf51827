//! The conclusions of a report: warnings, figures to quote, the places of losses, and costs. The
//! terminal's tables and the page both show them.

use std::collections::BTreeMap;

use crate::document::report::{Mode, Report};
use crate::document::trial::{Lost, TrialRecord};
use ringest_base::text::figures;
use ringest_base::text::figures::{count, nanos, percent, pps, real};

/// A figure to quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headline {
    /// The name.
    pub name: String,
    /// The figure.
    pub figure: String,
    /// Bounds, load or other context.
    pub note: String,
}

fn headline(name: impl Into<String>, figure: impl Into<String>, note: String) -> Headline {
    Headline { name: name.into(), figure: figure.into(), note }
}

/// Returns the warnings that a reader must know before quoting a figure, the most important first: a
/// generator that fell behind, void trials, the bench's own warnings, loopback.
#[must_use]
pub fn warnings(report: &Report) -> Vec<String> {
    let says = |text: &str, wanted: &str| {
        text.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|word| word == wanted)
    };
    let (first, rest): (Vec<_>, Vec<_>) =
        report.warnings.iter().cloned().partition(|text| says(text, "generator"));
    let said = |word: &str| report.warnings.iter().any(|text| says(text, word));
    let mut warnings = first;
    if warnings.is_empty() {
        warnings.extend(generator(report));
    }
    if report.mode == Mode::Ndr && generator_set_the_limit(report) {
        warnings.push(
            "Above the rate found, most of what is missing was never sent: the limit is the sender's, \
             and the receiver may take more."
                .to_owned(),
        );
    }
    if !said("void") {
        warnings.extend(voids(report));
    }
    warnings.extend(rest);
    if report.loopback && !said("loopback") {
        warnings.push(
            "Loopback: sender and receiver shared one kernel and its cores, and no network card was \
             between them. The figures say what the receiver costs, not what this host can take from \
             a network."
                .to_owned(),
        );
    }
    warnings.iter().map(|warning| sentence(warning)).collect()
}

/// Adds a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut rest = text.trim().chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.trim_end().ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", rest.as_str())
}

/// Returns the trials whose figures are used.
pub fn valid(report: &Report) -> impl Iterator<Item = &TrialRecord> + Clone {
    report.trials.iter().filter(|trial| !trial.void)
}

fn generator(report: &Report) -> Option<String> {
    let share = |trial: &TrialRecord| real(trial.lost.unsent) / real(trial.intended.max(1));
    let behind: Vec<&TrialRecord> = valid(report).filter(|trial| trial.lost.unsent > 0).collect();
    let worst = behind.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    Some(format!(
        "The generator could not keep its schedule in {} of {} trials; at worst {} of the datagrams \
         due were not sent ({}). Unsent counts as lost.",
        count(real_count(behind.len())),
        count(real_count(valid(report).count())),
        percent(share(worst)),
        if worst.purpose.is_empty() { "no purpose noted" } else { worst.purpose.as_str() },
    ))
}

fn generator_set_the_limit(report: &Report) -> bool {
    let found = report.ndr_pps.unwrap_or(0.0);
    let above = valid(report).filter(|trial| trial.intended_pps.is_none_or(|rate| rate > found));
    let (unsent, all) = above.fold((0u64, 0u64), |(unsent, all), trial| {
        (unsent.saturating_add(trial.lost.unsent), all.saturating_add(lost_total(&trial.lost)))
    });
    unsent > all / 2
}

/// Returns the sum of all losses, saturating: a report from another host may hold any counts.
#[must_use]
pub fn lost_total(lost: &Lost) -> u64 {
    lost.lines().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

fn real_count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn voids(report: &Report) -> Option<String> {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for trial in report.trials.iter().filter(|trial| trial.void) {
        *reasons.entry(trial.void_reason.as_deref().unwrap_or("no reason given")).or_default() += 1;
    }
    let void: u64 = reasons.values().sum();
    if void == 0 {
        return None;
    }
    let reasons: Vec<String> =
        reasons.iter().map(|(reason, times)| format!("{reason} ({times})")).collect();
    Some(format!(
        "{} of {} trials are void and their figures are not used: {}.",
        count(void),
        count(real_count(report.trials.len())),
        reasons.join("; ")
    ))
}

/// Returns the figures that answer the mode's question.
#[must_use]
pub fn headlines(report: &Report) -> Vec<Headline> {
    match report.mode {
        Mode::Ndr => rates(report),
        Mode::Compare => cheapest(report),
        Mode::Burst => longest(report),
        Mode::Latency => {
            let mut all = latencies(report);
            all.extend(
                rates(report).into_iter().filter(|rate| rate.figure != figures::dash()).take(1),
            );
            all
        }
        Mode::Curve => knees(report),
    }
}

fn rates(report: &Report) -> Vec<Headline> {
    let bounds = |name: &str| {
        report.goals.iter().find(|goal| goal.name == name).map_or_else(String::new, |goal| {
            match (goal.lower_pps, goal.upper_pps) {
                (None, _) => "not found".to_owned(),
                (Some(lower), None) => {
                    format!("at least {}: even the highest rate tried kept it", pps(Some(lower)))
                }
                (Some(lower), Some(upper)) => {
                    format!("kept at {}, not at {}", pps(Some(lower)), pps(Some(upper)))
                }
            }
        })
    };
    vec![
        headline("NDR, no datagram lost", pps(report.ndr_pps), bounds("ndr")),
        headline("PDR, 0.5 % lost", pps(report.pdr_pps), bounds("pdr")),
    ]
}

fn cheapest(report: &Report) -> Vec<Headline> {
    let cost = |index: usize| report.variants[index].receiver_ns.map(|cost| cost.median);
    let ranked = (0..report.variants.len()).filter_map(|index| Some((index, cost(index)?)));
    let least = ranked.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index);
    let reference = report.variants.iter().position(|variant| variant.reference);
    let mut all = Vec::new();
    let reference = reference.filter(|index| Some(*index) != least);
    for (what, index) in [("Least CPU per datagram", least), ("Reference", reference)] {
        let Some(variant) = index.map(|index| &report.variants[index]) else { continue };
        let figure = figures::cost(variant.receiver_ns.map(|cost| cost.median));
        let verdict = variant
            .verdict
            .as_ref()
            .map_or_else(String::new, |v| format!(": {v} than the reference"));
        let verdict = verdict.replace("no difference shown than", "no difference shown to");
        all.push(headline(what, figure, format!("{}{verdict}", variant.name)));
    }
    all
}

fn longest(report: &Report) -> Vec<Headline> {
    let Some(burst) = &report.burst else { return Vec::new() };
    let figure = figures::whole(burst.longest.median);
    let bounds = format!(
        "{}median of {}, 95 % interval {} – {}",
        if burst.unbounded { "even the longest tried lost nothing; " } else { "" },
        burst.repetitions.len(),
        figures::whole(burst.longest.low),
        figures::whole(burst.longest.high)
    );
    let mut all = vec![headline("Longest burst without loss, datagrams", figure, bounds)];
    if let Some(bytes) = burst.bytes_per_datagram {
        let granted = figures::bytes(real(real_count(report.setting.rcvbuf_granted_bytes)));
        let note = format!(
            "of the {granted} the kernel granted, for payloads of {} bytes",
            report.setting.size
        );
        all.push(headline("Buffer per datagram", figures::bytes(bytes), note));
    }
    all
}

fn latencies(report: &Report) -> Vec<Headline> {
    let figure = |record: &crate::document::report::LatencyRecord| {
        let stage = ["one_way", "rtt_intended"]
            .iter()
            .find_map(|name| record.stages.iter().find(|stage| stage.name == *name))?;
        let [p50, p99, max] = [stage.percentiles.p50, stage.percentiles.p99, stage.percentiles.max]
            .map(|time| nanos(real(time)));
        let name = format!("{} at {} of NDR, p99", stage_name(&stage.name), load(record.load));
        Some(headline(name, p99, format!("p50 {p50}, max {max}, {}", pps(Some(record.rate_pps)))))
    };
    report.latencies.iter().filter_map(figure).collect()
}

/// Formats a share of the NDR: `50 %`.
pub(crate) fn load(load: f64) -> String {
    if load.is_finite() { format!("{} %", figures::whole(load * 100.0)) } else { "?".to_owned() }
}

/// Returns the label of a stage of [`crate::document::report::StageRecord`].
#[must_use]
pub fn stage_name(name: &str) -> String {
    match name {
        "lateness" => "intended → sent",
        "wire" => "sent → socket",
        "socket" => "socket → engine",
        "queue" => "engine → handler",
        "handler" => "in the handler",
        "one_way" => "one way",
        "rtt_intended" => "round trip, from intended",
        "rtt_actual" => "round trip, from sent",
        other => return figures::cut(other, 40),
    }
    .to_owned()
}

/// Returns the numbers of flows, in the order in which they first appear.
pub(crate) fn flows(report: &Report) -> Vec<usize> {
    let mut all = Vec::new();
    for point in &report.curve {
        if !all.contains(&point.flows) {
            all.push(point.flows);
        }
    }
    all
}

fn knees(report: &Report) -> Vec<Headline> {
    let knee = |flows: usize| {
        let points = || report.curve.iter().filter(move |point| point.flows == flows);
        let lossy = points()
            .filter(|point| point.loss_ratio.median > 0.0)
            .min_by(|a, b| a.intended_pps.total_cmp(&b.intended_pps));
        let below = |rate: f64| lossy.is_none_or(|lossy| rate < lossy.intended_pps);
        let clean = points()
            .map(|point| point.intended_pps)
            .filter(|rate| below(*rate))
            .max_by(f64::total_cmp);
        let worst = points().map(|point| point.loss_ratio.median).max_by(f64::total_cmp)?;
        let plural = if flows == 1 { "" } else { "s" };
        let note = match lossy {
            Some(first) => format!(
                "{} lost at {}, at most {}",
                percent(first.loss_ratio.median),
                pps(Some(first.intended_pps)),
                percent(worst)
            ),
            None => "the highest rate tried".to_owned(),
        };
        Some(headline(format!("No loss, {flows} flow{plural}"), pps(clean), note))
    };
    flows(report).into_iter().filter_map(knee).collect()
}

/// The counts of one or several trials, from intended to handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossAccount {
    /// The trials it covers.
    pub title: String,
    /// Number of trials.
    pub trials: u64,
    /// Datagrams that were due.
    pub intended: u64,
    /// Taken by the sender's kernel.
    pub sent: u64,
    /// Taken from the sockets.
    pub received: u64,
    /// Given to the handler.
    pub handled: u64,
    /// Missing datagrams, by cause.
    pub lost: Lost,
}

impl LossAccount {
    fn of<'a>(title: String, trials: impl Iterator<Item = &'a TrialRecord>) -> Self {
        trials.fold(Self { title, ..Self::default() }, |mut sum, trial| {
            sum.trials += 1;
            sum.intended = sum.intended.saturating_add(trial.intended);
            sum.sent = sum.sent.saturating_add(trial.sent);
            sum.received = sum.received.saturating_add(trial.received);
            sum.handled = sum.handled.saturating_add(trial.handled);
            sum.lost = add(&sum.lost, &trial.lost);
            sum
        })
    }
}

fn add(a: &Lost, b: &Lost) -> Lost {
    Lost {
        unsent: a.unsent.saturating_add(b.unsent),
        send_failed: a.send_failed.saturating_add(b.send_failed),
        qdisc: a.qdisc.saturating_add(b.qdisc),
        network: a.network.saturating_add(b.network),
        nic: a.nic.saturating_add(b.nic),
        backlog: a.backlog.saturating_add(b.backlog),
        checksum: a.checksum.saturating_add(b.checksum),
        socket: a.socket.saturating_add(b.socket),
        unplaced: a.unplaced.saturating_add(b.unplaced),
        truncated: a.truncated.saturating_add(b.truncated),
        pool: a.pool.saturating_add(b.pool),
        queue: a.queue.saturating_add(b.queue),
        unread: a.unread.saturating_add(b.unread),
    }
}

/// Returns the accounts to show, the most informative first.
///
/// Most trials of a search are above the host's capacity, so their sum says little. The first account of
/// a search is therefore the slowest trial with a loss: it shows where the first datagram was lost. The
/// sum of all trials follows, and for a comparison one account a variant.
#[must_use]
pub fn accounts(report: &Report) -> Vec<LossAccount> {
    let all = || {
        LossAccount::of(format!("all {} trials that count", valid(report).count()), valid(report))
    };
    if valid(report).next().is_none() {
        return Vec::new();
    }
    let mut accounts = Vec::new();
    if matches!(report.mode, Mode::Ndr | Mode::Curve) {
        let lossy = valid(report).filter(|trial| lost_total(&trial.lost) > 0);
        let rated = lossy.filter_map(|trial| Some((trial.intended_pps?, trial)));
        if let Some((rate, trial)) = rated.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
            let title = format!("slowest trial with loss, {}", pps(Some(rate)));
            accounts.push(LossAccount::of(title, std::iter::once(trial)));
        }
    }
    accounts.push(all());
    if report.mode == Mode::Compare {
        for variant in &report.variants {
            let trials = || valid(report).filter(|trial| trial.variant == variant.name);
            if trials().next().is_some() {
                accounts.push(LossAccount::of(variant.name.clone(), trials()));
            }
        }
    }
    accounts
}

/// CPU time per datagram, the median over the trials of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The trials it covers.
    pub name: String,
    /// Receiver threads, ns.
    pub receiver: Option<f64>,
    /// Worker threads, ns.
    pub worker: Option<f64>,
    /// Interrupts and softirq, ns.
    pub softirq: Option<f64>,
    /// The whole host, ns; includes the others.
    pub host: Option<f64>,
    /// How many trials.
    pub trials: usize,
}

/// Returns the median of the finite values.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(lower / 2.0 + upper / 2.0)
}

/// Returns the costs by variant, by load (latency) or by number of flows (curve). Uses the trials without
/// loss if there are any: an overloaded receiver drops datagrams cheaply.
#[must_use]
pub fn costs(report: &Report) -> Vec<Cost> {
    let name = |trial: &TrialRecord| match report.mode {
        Mode::Compare | Mode::Ndr | Mode::Burst => trial.variant.clone(),
        Mode::Latency => trial.purpose.clone(),
        Mode::Curve => format!("{}, {} flows", trial.variant, trial.flows),
    };
    let mut kinds: Vec<(String, Vec<&TrialRecord>)> = Vec::new();
    for trial in valid(report).filter(|trial| trial.handled > 0) {
        let name = name(trial);
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, trials)) => trials.push(trial),
            None => kinds.push((name, vec![trial])),
        }
    }
    // More rows than this could not be compared by eye.
    kinds.truncate(24);
    let cost = |(name, mut trials): (String, Vec<&TrialRecord>)| {
        if report.mode != Mode::Compare && trials.iter().any(|t| lost_total(&t.lost) == 0) {
            trials.retain(|trial| lost_total(&trial.lost) == 0);
        }
        let of = |part: fn(&TrialRecord) -> Option<f64>| {
            median(trials.iter().filter_map(|trial| part(trial)).filter(|cost| *cost >= 0.0))
        };
        Cost {
            receiver: of(|trial| trial.cpu_ns_per_datagram.receiver),
            worker: of(|trial| trial.cpu_ns_per_datagram.worker),
            softirq: of(|trial| trial.cpu_ns_per_datagram.softirq),
            host: of(|trial| trial.cpu_ns_per_datagram.host),
            trials: trials.len(),
            name,
        }
    };
    kinds.into_iter().map(cost).filter(|cost| cost.receiver.or(cost.host).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_search_is_accounted_for_where_the_first_datagram_went() {
        let accounts = accounts(&sample::report(Mode::Ndr));
        let titles: Vec<&str> = accounts.iter().map(|account| account.title.as_str()).collect();
        assert_eq!(titles, ["slowest trial with loss, 816,300/s", "all 11 trials that count"]);
        for account in &accounts {
            assert_eq!(account.intended, account.handled + lost_total(&account.lost));
        }
        // Neither account holds the void trial.
        assert_eq!(accounts[1].trials, 11);
    }

    #[test]
    fn the_generator_is_blamed_only_for_what_it_did() {
        let mut report = sample::report(Mode::Ndr);
        let blamed = |report: &Report| warnings(report)[1].contains("the limit is the sender's");
        assert!(
            warnings(&report)[0].starts_with("The generator could not keep its schedule in 1 of")
        );
        assert!(!blamed(&report));
        for trial in &mut report.trials {
            trial.lost.unsent += trial.lost.socket;
            trial.lost.socket = 0;
        }
        assert!(blamed(&report));
        report.warnings = vec!["Clock moved.".into(), "generator late (said by the bench)".into()];
        let said = warnings(&report);
        assert_eq!(said[0], "Generator late (said by the bench).");
        assert!(!said.concat().contains("could not keep its schedule"));
        report.trials.clear();
        report.warnings.clear();
        report.loopback = false;
        assert!(warnings(&report).is_empty());
    }

    #[test]
    fn costs_are_of_trials_that_lost_nothing_where_there_are_any() {
        let report = sample::report(Mode::Ndr);
        assert_eq!(costs(&report)[0].trials, 4);
        let compared = costs(&sample::report(Mode::Compare));
        assert_eq!(compared.len(), 6);
        assert!(compared.iter().all(|cost| cost.trials == 5));
        assert_eq!(median([3.0, f64::NAN, 1.0, 2.0, 4.0].into_iter()), Some(2.5));
        assert_eq!(median([f64::NAN].into_iter()), None);
    }
}
