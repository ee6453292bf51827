//! Runs a started engine: waits for a reason to stop, stops it, and prints the summary.
//!
//! ```text
//!  poll {signals, engine, one descriptor more, next status line, deadline} ─► Why ─► leave
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringest::{Engine, Summary};
use ringest_records::sink::assemble::RunningSinks;
use ringest_ship::fleet::Watch as ShipWatch;

use crate::cli::args::engine::{EngineArgs, StopLimits};
use crate::cli::failure::Failure;
use crate::cli::run::deadlines::StopDeadlines;
use crate::cli::run::signals;
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;
use crate::cli::show::status::Status;
use crate::cli::show::{json, shipments, table};

/// Reason for a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A signal came.
    Signal(&'static str),
    /// The run's time (`--for`) is over.
    Time,
    /// No datagram came for the idle time-out.
    Idle,
    /// The engine stopped itself: the limit was reached, or a thread failed.
    Engine,
    /// The other descriptor is readable or closed.
    Other,
}

/// Events to watch for while an engine runs, besides signals.
#[derive(Debug, Default)]
pub(crate) struct Watch<'a> {
    /// Stop at this time.
    pub(crate) until: Option<Instant>,
    /// Stop when no datagram came for this long.
    pub(crate) idle: Option<Duration>,
    /// Stop when this descriptor is readable or closed.
    pub(crate) other: Option<BorrowedFd<'a>>,
}

/// Waits for a reason to stop, and shows the status line meanwhile. Does not stop the engine.
pub(crate) fn until_stop(
    engine: &Engine,
    signals: &Signals,
    watch: &Watch<'_>,
    status: &mut Status,
) -> Result<Why, Failure> {
    let mut next_tick = status.is_on().then(|| Instant::now() + Status::EVERY);
    loop {
        if let Some(signal) = signals.take() {
            return Ok(Why::Signal(signal));
        }
        if engine.is_stopping() || engine.has_ended() {
            return Ok(Why::Engine);
        }
        let now = Instant::now();
        if watch.until.is_some_and(|until| now >= until) {
            return Ok(Why::Time);
        }
        let idle_at = match watch.idle.map(|bound| idle_until(engine, now, bound)) {
            Some(Some(at)) => Some(at),
            Some(None) => return Ok(Why::Idle),
            None => None,
        };
        if let Some(tick) = &mut next_tick
            && now >= *tick
        {
            status.show(&engine.stats());
            *tick = now + Status::EVERY;
        }
        let deadline = [next_tick, watch.until, idle_at].into_iter().flatten().min();
        // Without another descriptor, the signals' is polled twice; a signal is handled above.
        let other = watch.other.unwrap_or_else(|| signals.as_fd());
        let [_, engine_speaks, other_speaks] =
            signals::wait([signals.as_fd(), engine.as_fd(), other], deadline)?;
        if engine_speaks {
            engine.clear_event();
        }
        if other_speaks && watch.other.is_some() {
            return Ok(Why::Other);
        }
    }
}

/// Returns when the engine will have been idle for `bound`, or `None` if it already has. An engine with a backlog is
/// not idle.
fn idle_until(engine: &Engine, now: Instant, bound: Duration) -> Option<Instant> {
    let left = bound.saturating_sub(engine.idle_for());
    if !left.is_zero() {
        return Some(now + left);
    }
    (engine.stats().ledger.queued > 0).then(|| now + BEHIND_EVERY.min(bound))
}

/// Time between two looks at an engine with a backlog.
const BEHIND_EVERY: Duration = Duration::from_millis(100);

/// Parts of the program beside the engine: sinks, shippers, status line.
#[derive(Debug)]
pub(crate) struct Beside<'a> {
    /// Stops the engine when readable.
    pub(crate) other: Option<BorrowedFd<'a>>,
    pub(crate) status: Status,
    /// The sinks: they are closed when the engine has ended.
    pub(crate) sinks: Option<RunningSinks>,
    /// The figures of the brokers that a journal is shipped to.
    pub(crate) watch: Option<ShipWatch>,
    /// A sink is a journal, which takes its time to close.
    pub(crate) has_journal: bool,
    /// Text that says why datagrams can be undelivered.
    pub(crate) undelivered: String,
}

impl Beside<'_> {
    pub(crate) fn with(status: Status) -> Self {
        let undelivered = "The handler could not pass them on.".to_owned();
        Self { other: None, status, sinks: None, watch: None, has_journal: false, undelivered }
    }
}

/// Runs a started engine until it stops, prints the summary, and closes the parts beside it.
pub(crate) fn run_until_stop(
    title: &str,
    args: &EngineArgs,
    engine: Engine,
    signals: &Signals,
    mut beside: Beside<'_>,
) -> Result<(), Failure> {
    let mut patience = StopDeadlines::new(signals, args.quiet);
    let has_journal = beside.has_journal;
    let ended = finish(title, args, engine, &mut beside, &mut patience);
    let Some(mut sinks) = beside.sinks else { return ended };
    let notices = Arc::clone(sinks.notices());
    let close = move || {
        drop(sinks.take_carriers());
        sinks.close();
    };
    let closed = match has_journal {
        true => patience.run("ringest-close", close),
        false => {
            close();
            Ok(true)
        }
    };
    notices.take().iter().for_each(|text| paint::say(&format!("{text}\n")));
    if matches!(closed, Ok(false)) && !args.quiet {
        paint::say("the journal was left as it is: the next start seals it\n");
    }
    ended.and_then(|()| closed.map(drop))
}

/// Waits for a reason to stop, stops the engine, and prints the summary.
fn finish(
    title: &str,
    args: &EngineArgs,
    engine: Engine,
    beside: &mut Beside<'_>,
    patience: &mut StopDeadlines<'_>,
) -> Result<(), Failure> {
    if !args.quiet {
        introduce(&engine);
    }
    // The parser keeps durations far below what an Instant can hold.
    let limits = args.stop_limits();
    let until = limits.run_for.map(|length| Instant::now() + length);
    let watch = Watch { until, other: beside.other, idle: limits.idle_timeout };
    let why = until_stop(&engine, patience.signals(), &watch, &mut beside.status)?;
    beside.status.clear();
    if !args.quiet
        && let Why::Signal(signal) = why
    {
        paint::say(&format!("{signal}: stopping; a second signal abandons what is on the way\n"));
    }
    let (summary, unwritten) = stop(engine, beside, patience, args.quiet)?;
    let shipped = beside.watch.as_ref().map(ShipWatch::stats).unwrap_or_default();
    if !args.quiet {
        let reason = reason(why, &limits);
        let paint = Paint::stderr();
        let sheet =
            table::render((title, &reason), &summary, unwritten, &beside.undelivered, paint);
        paint::say(&(sheet + &shipments::render(&shipped, paint)));
    }
    if args.json {
        json::print(&summary, &shipped)?;
    }
    judge(&summary, unwritten)?;
    match (why, limits.idle_timeout) {
        (Why::Idle, Some(bound)) => {
            let (bound, received) = (humantime::format_duration(bound), summary.ledger.received);
            let since = if received == 0 { "" } else { " more" };
            Err(Failure::NothingCame(format!("nothing{since} came for {bound}")))
        }
        _ => Ok(()),
    }
}

/// Stops the engine and then what carries its datagrams on. Returns the accounts, and the number of datagrams
/// that a sink was given and has not written.
fn stop(
    engine: Engine,
    Beside { sinks, watch, .. }: &mut Beside<'_>,
    patience: &mut StopDeadlines<'_>,
    quiet: bool,
) -> Result<(Summary, u64), Failure> {
    let Some(sinks) = sinks else { return Ok((patience.stop(engine, || ())?, 0)) };
    let flush_until = Instant::now() + sinks.flush_timeout();
    // After the second signal no worker waits for shippers.
    let mut summary = patience.stop(engine, || sinks.abandon())?;
    let unwritten = sinks.unwritten();
    // Workers wait for what they received; there may be more from earlier runs.
    if let Some(watch) = watch.clone() {
        patience.run("ringest-flush", move || watch.await_empty(flush_until))?;
    }
    // The last acknowledgements are taken, lost records are given up, and the cursors are written.
    let carriers = sinks.take_carriers();
    if !carriers.is_empty() && !patience.run("ringest-leave", move || drop(carriers))? && !quiet {
        paint::say(
            "the shippers were left: what they had under way is sent again at the next start\n",
        );
    }
    if watch.is_some() {
        sinks.settle_late(&mut summary);
    }
    Ok((summary, unwritten))
}

/// Where it listens, with what, and what the operator should know.
fn introduce(engine: &Engine) {
    let stats = engine.stats();
    let addresses: Vec<_> = engine.addresses().iter().map(ToString::to_string).collect();
    let mut text = format!(
        "listening on {} with {} ({})\n",
        addresses.join(", "),
        stats.backend,
        stats.backend_reason
    );
    let options = engine.socket_options();
    if !options.is_empty() {
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        text += &format!("socket options, read back: {}\n", options.join(", "));
    }
    for warning in engine.warnings() {
        text += &format!("{} {warning}\n", Paint::stderr().yellow("warning:"));
    }
    paint::say(&text);
}

fn reason(why: Why, limits: &StopLimits) -> String {
    match (why, limits.run_for, limits.count) {
        (Why::Signal(signal), ..) => format!("stopped by {signal}"),
        (Why::Time, Some(length), _) => {
            format!("stopped by --for {}", humantime::format_duration(length))
        }
        (Why::Engine, _, Some(count)) => format!("stopped by --count {count}"),
        (Why::Idle, ..) => "stopped by --idle-timeout".to_owned(),
        (Why::Other, ..) => "stopped: the sink failed".to_owned(),
        (Why::Engine | Why::Time, ..) => "stopped by itself".to_owned(),
    }
}

/// Fails if the ledger does not balance, or if datagrams were abandoned. `unwritten` is the number of datagrams that
/// sinks have not written.
fn judge(summary: &Summary, unwritten: u64) -> Result<(), Failure> {
    let ledger = &summary.ledger;
    if ledger.residual != 0 {
        return Err(Failure::Failed(format!(
            "the ledger is off by {} datagrams; this is a bug in ringest, please report the summary",
            ledger.residual
        )));
    }
    if ledger.queued + unwritten > 0 {
        return Err(Failure::Failed(format!(
            "{} datagrams were received and abandoned: the second signal came before they were {}",
            ledger.queued + unwritten,
            if unwritten > 0 { "written" } else { "handled" }
        )));
    }
    Ok(())
}
