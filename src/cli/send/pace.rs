//! When the next datagram is due, and the progress line.

use std::io;
use std::time::{Duration, Instant};

use ringest_base::text::values::Rate;

use crate::cli::send::report::SendTally;
use crate::cli::show::paint;

/// The schedule of datagrams. Each is due at its time, counted from the start: a late one does not delay the others.
#[derive(Debug)]
pub(crate) struct Pace {
    kind: Kind,
    next: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    AtOnce,
    /// Seconds from one datagram to the next.
    PerDatagram(f64),
    /// Seconds for each bit of payload.
    PerBit(f64),
    /// Time from one message to the next.
    PerMessage(Duration),
}

/// How far behind its schedule a sender may be and still catch up, after a full send buffer or a wait for replies.
/// Lower, and the average rate is missed; higher, and a burst follows every delay.
const CATCH_UP: Duration = Duration::from_millis(100);

impl Pace {
    pub(crate) fn new(rate: Option<Rate>, interval: Option<Duration>, now: Instant) -> Self {
        let kind = match (interval, rate) {
            (Some(interval), _) => Kind::PerMessage(interval),
            (None, Some(Rate::Pps(pps))) => Kind::PerDatagram(1.0 / pps),
            (None, Some(Rate::Bps(bps))) => Kind::PerBit(1.0 / bps),
            (None, Some(Rate::Max) | None) => Kind::AtOnce,
        };
        Self { kind, next: now }
    }

    /// Returns when a datagram of `bytes` of payload is due. `first`: it is the first one of its message, which goes to
    /// each peer.
    pub(crate) fn due(&mut self, bytes: usize, first: bool, now: Instant) -> Instant {
        let due = self.next;
        match self.kind {
            Kind::AtOnce => {}
            Kind::PerDatagram(seconds) => self.advance(now, CATCH_UP, span(seconds)),
            Kind::PerBit(seconds) => {
                #[expect(clippy::cast_precision_loss, reason = "a datagram is below 2^52 bits")]
                let bits = bytes as f64 * 8.0;
                self.advance(now, CATCH_UP, span(seconds * bits));
            }
            Kind::PerMessage(interval) if first => self.advance(now, Duration::ZERO, interval),
            Kind::PerMessage(_) => {}
        }
        due
    }

    fn advance(&mut self, now: Instant, catch_up: Duration, by: Duration) {
        let oldest = now.checked_sub(catch_up).unwrap_or(now);
        let from = self.next.max(oldest);
        self.next = from.checked_add(by.min(SPAN_MAX)).unwrap_or(from);
    }
}

/// The longest gap: longer than any run.
const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(SPAN_MAX)
}

/// The progress line of a long run, on a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the line is due again. `None`: it is not shown.
    next: Option<Instant>,
    started: Instant,
    shown: bool,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(quiet: bool, now: Instant) -> Self {
        let on = !quiet && paint::is_terminal(&io::stderr());
        Self { next: on.then(|| now + Self::EVERY), started: now, shown: false }
    }

    /// Returns when the line is due again; `None` if it is not shown.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Rewrites the line once a second.
    pub(crate) fn tick(&mut self, tally: &SendTally) {
        let now = Instant::now();
        let Some(next) = self.next.filter(|next| now >= *next) else { return };
        self.next = Some(next.max(now) + Self::EVERY);
        self.shown = true;
        let seconds = now.saturating_duration_since(self.started).as_secs();
        let mut line = format!("{seconds} s  {} sent", paint::count(tally.total_sent()));
        for (number, what) in
            [(tally.total_failed(), "not sent"), (tally.total_replies(), "replies")]
        {
            if number > 0 {
                line += &format!("  {} {what}", paint::count(number));
            }
        }
        paint::say(&format!("\r{line}\x1b[K"));
    }

    /// Removes the line, so that the next text starts at the margin.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            paint::say("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the first of `count` datagrams of 125 bytes are due, ms, if each leaves in time.
    fn due_ms(rate: Option<Rate>, interval: Option<Duration>, first: bool) -> Vec<u128> {
        let start = Instant::now();
        let mut pace = Pace::new(rate, interval, start);
        let mut now = start;
        let next = || {
            now = now.max(pace.due(125, first, now));
            now.duration_since(start).as_millis()
        };
        std::iter::repeat_with(next).take(4).collect()
    }

    #[test]
    fn datagrams_are_due_at_their_time() {
        assert_eq!(due_ms(Some(Rate::Pps(100.0)), None, true), [0, 10, 20, 30]);
        assert_eq!(due_ms(Some(Rate::Bps(1e6)), None, true), [0, 1, 2, 3]);
        assert_eq!(due_ms(Some(Rate::Max), None, true), [0; 4]);
        assert_eq!(due_ms(None, None, true), [0; 4]);
        let interval = Some(Duration::from_millis(5));
        assert_eq!(due_ms(None, interval, true), [0, 5, 10, 15]);
        // To the other peers of a message there is no interval.
        assert_eq!(due_ms(None, interval, false), [0; 4]);
    }

    #[test]
    fn what_was_held_up_is_caught_up_within_bounds_and_an_interval_never() {
        let start = Instant::now();
        let late = start + Duration::from_secs(10);
        let mut pace = Pace::new(Some(Rate::Pps(1000.0)), None, start);
        pace.due(1, true, late);
        let burst =
            std::iter::repeat_with(|| pace.due(1, true, late)).take_while(|due| *due <= late);
        assert_eq!(burst.count(), 100);
        let mut pace = Pace::new(None, Some(Duration::from_secs(1)), start);
        pace.due(1, true, late);
        assert_eq!(pace.due(1, true, late), late + Duration::from_secs(1));
    }

    #[test]
    fn a_rate_of_next_to_nothing_is_no_overflow() {
        let now = Instant::now();
        for rate in [Rate::Pps(1e-300), Rate::Bps(f64::MIN_POSITIVE)] {
            let mut pace = Pace::new(Some(rate), None, now);
            for _ in 0..3 {
                pace.due(65_507, true, now);
            }
        }
    }
}
