//! From a started engine to its last word: wait for a reason to stop, let it end, tell what it came to.
//!
//! ```text
//!  poll {signals, engine, one descriptor more, next status line, deadline} ─► Why ─► leave
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringest::{Engine, Summary};
use ringest_records::journal::open::Journal;
use ringest_records::settle::tally::Tally;
use ringest_ship::fleet::Fleet;

use crate::cli::args::engine::{EngineArgs, StopLimits};
use crate::cli::failure::Failure;
use crate::cli::run::deadlines::StopDeadlines;
use crate::cli::run::signals;
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;
use crate::cli::show::status::Status;
use crate::cli::show::{json, shipments, table};

/// Why an engine is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A signal came.
    Signal(&'static str),
    /// The time is up.
    Time,
    /// Nothing came for as long as was to be waited.
    Idle,
    /// The engine stopped itself: the limit was reached, or a thread failed.
    Engine,
    /// The other descriptor has something to say.
    Other,
}

/// What else to watch while an engine runs.
#[derive(Debug, Default)]
pub(crate) struct Watch<'a> {
    /// Stop then.
    pub(crate) until: Option<Instant>,
    /// Stop when nothing came for this long.
    pub(crate) idle: Option<Duration>,
    /// Stop when it is readable or closed.
    pub(crate) other: Option<BorrowedFd<'a>>,
}

/// Waits until the engine is to stop, with a status line meanwhile. Does not stop it.
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
        // Without another descriptor the signals stand in: readable, it is looked at above.
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

/// When an engine that nothing comes to has been idle for `bound`; `None`: it has. One that is behind
/// with what came is not idle.
fn idle_until(engine: &Engine, now: Instant, bound: Duration) -> Option<Instant> {
    let left = bound.saturating_sub(engine.idle_for());
    if !left.is_zero() {
        return Some(now + left);
    }
    (engine.stats().ledger.queued > 0).then(|| now + BEHIND_EVERY.min(bound))
}

/// How often an engine that is behind is looked at.
const BEHIND_EVERY: Duration = Duration::from_millis(100);

/// What goes on beside an engine.
#[derive(Debug)]
pub(crate) struct Beside<'a> {
    /// Stops the engine when readable.
    pub(crate) other: Option<BorrowedFd<'a>>,
    pub(crate) status: Status,
    /// Where the workers' datagrams are settled.
    pub(crate) tallies: Vec<Arc<Tally>>,
    /// Shippers: they end when the engine has.
    pub(crate) fleet: Option<Fleet>,
    /// How long they are waited for then.
    pub(crate) flush: Duration,
    /// It is closed when all others have ended.
    pub(crate) journal: Option<Journal>,
    /// Why datagrams can be undelivered.
    pub(crate) undelivered: String,
}

impl Beside<'_> {
    pub(crate) fn with(status: Status) -> Self {
        let undelivered = "The handler could not pass them on.".to_owned();
        let (tallies, flush) = (Vec::new(), Duration::ZERO);
        Self { other: None, status, tallies, fleet: None, flush, journal: None, undelivered }
    }
}

/// Runs a started engine to its end, prints what it came to, and closes what is beside it.
pub(crate) fn run_until_stop(
    title: &str,
    args: &EngineArgs,
    engine: Engine,
    signals: &Signals,
    mut beside: Beside<'_>,
) -> Result<(), Failure> {
    let mut patience = StopDeadlines::new(signals, args.quiet);
    let journal = beside.journal.take();
    let ended = finish(title, args, engine, beside, &mut patience);
    if let Some(journal) = journal {
        let notices = Arc::clone(journal.notices());
        let closed = patience.run("ringest-close", move || journal.close());
        notices.take().iter().for_each(|text| paint::say(&format!("{text}\n")));
        if matches!(closed, Ok(false)) && !args.quiet {
            paint::say("the journal was left as it is: the next start seals it\n");
        }
        return ended.and_then(|()| closed.map(drop));
    }
    ended
}

/// Waits until a started engine is to stop, stops it, and prints what it came to.
fn finish(
    title: &str,
    args: &EngineArgs,
    engine: Engine,
    Beside { other, mut status, tallies, fleet, flush, undelivered, .. }: Beside<'_>,
    patience: &mut StopDeadlines<'_>,
) -> Result<(), Failure> {
    if !args.quiet {
        introduce(&engine);
    }
    // The parser keeps durations far below what an Instant can hold.
    let limits = args.stop_limits();
    let until = limits.run_for.map(|length| Instant::now() + length);
    let watch = Watch { until, other, idle: limits.idle_timeout };
    let why = until_stop(&engine, patience.signals(), &watch, &mut status)?;
    status.clear();
    if !args.quiet
        && let Why::Signal(signal) = why
    {
        paint::say(&format!("{signal}: stopping; once more abandons what is on the way\n"));
    }
    let flush_until = Instant::now() + flush;
    // A worker that waits for the shippers waits no longer then.
    let mut summary = patience.stop(engine, || tallies.iter().for_each(|tally| tally.abandon()))?;
    let unwritten = tallies.iter().map(|tally| tally.unwritten()).sum();
    let watch = fleet.as_ref().map(|fleet| fleet.watch().clone());
    // Workers wait for what they received; there may be more from earlier runs.
    if let Some(watch) = watch.clone() {
        patience.run("ringest-flush", move || watch.await_empty(flush_until))?;
    }
    // The last acknowledgements are taken, what is gone is given up, and the cursors are kept.
    if let Some(fleet) = fleet
        && !patience.run("ringest-leave", move || drop(fleet))?
        && !args.quiet
    {
        paint::say("the shippers were left: what they had under way is sent again\n");
    }
    if watch.is_some() {
        let undelivered = tallies.iter().map(|tally| tally.totals().1).sum();
        let pending = tallies.iter().map(|tally| tally.pending()).sum();
        summary.ledger.settled_late(undelivered, pending);
    }
    let shipped = watch.map(|watch| watch.stats()).unwrap_or_default();
    if !args.quiet {
        let reason = reason(why, &limits);
        let paint = Paint::stderr();
        let sheet = table::render((title, &reason), &summary, unwritten, &undelivered, paint);
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

/// Whether the run did what it promises. `unwritten`: what the sinks were given and have not written.
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
