//! When to let datagrams gather before waking up for them.
//!
//! Between idle and saturation a receiver is woken for every datagram or two, and the wake-ups cost
//! more than the datagrams. With `min_wait` (io_uring, Linux 6.12) the kernel lets it sleep a
//! bounded time and wakes it once for all that came. This file decides how long:
//!
//! - quiet: no wait. A lone datagram is handled at once.
//! - busy: long enough to gather about `GATHER_MAX` datagrams, at most the bound the user gave.
//! - a wait that gathered next to nothing did not pay (a request–response peer sends its next
//!   datagram only after our answer): waiting is suspended, doubling up to a second.
//!
//! Pure arithmetic on stamps and counts; the receiver feeds it and does the sleeping.

/// Frames one wait aims to gather. Too low and wake-ups dominate again; too high only adds
/// latency, since 256 already spread a wake-up of about 1 µs to 4 ns a datagram.
pub const GATHER_MAX: u64 = 256;
/// Fewer expected within the bound than this, and waiting cannot pay for its latency.
const GATHER_MIN: u64 = 8;
/// A wait that gathered fewer than this did not pay.
const PAID_MIN: u64 = 4;
/// The time over which the arrival rate is averaged. Too short and one burst of a quiet sender
/// turns waiting on; too long and the start of a busy phase is paid one wake-up at a time.
const AVERAGE_OVER_NS: f64 = 10e6;
const SUSPEND_FIRST_NS: u64 = 10_000_000;
const SUSPEND_MAX_NS: u64 = 1_000_000_000;

/// Bytes of the receive buffer that a frame takes beside its payload: the `truesize` of a small datagram is 768 on a 64-bit
/// kernel.
const FRAME_COST_BYTES: f64 = 768.0;

/// Decides the waits of one receiver.
#[derive(Debug)]
pub struct Coalescer {
    /// The longest wait that the user allows, µs; 0: never wait.
    bound_us: u32,
    /// Bytes of the receive buffer that a wait may fill: a quarter.
    room_bytes: f64,
    /// Bytes of the receive buffer that a frame takes, averaged.
    frame_bytes: f64,
    rate_per_ns: f64,
    last_ns: u64,
    waited: bool,
    suspended_until_ns: u64,
    suspend_ns: u64,
}

impl Coalescer {
    /// Returns a coalescer that waits for at most `bound_us`. `rcvbuf_bytes`: the receive buffer as granted; a wait must not
    /// fill more than a quarter of it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a size needs no 53 bits")]
    pub fn new(bound_us: u32, rcvbuf_bytes: usize) -> Self {
        Self {
            bound_us,
            room_bytes: rcvbuf_bytes as f64 / 4.0,
            frame_bytes: FRAME_COST_BYTES,
            rate_per_ns: 0.0,
            last_ns: 0,
            waited: false,
            suspended_until_ns: 0,
            suspend_ns: SUSPEND_FIRST_NS,
        }
    }

    /// Returns how long the next sleep may gather datagrams, µs; 0: wake for the first.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "both operands are positive and small; `as` saturates"
    )]
    pub fn next_wait_us(&mut self) -> u32 {
        let bound_ns = f64::from(self.bound_us) * 1e3;
        let expected = self.rate_per_ns * bound_ns;
        let gather_max = (self.room_bytes / self.frame_bytes).min(GATHER_MAX as f64);
        let pays = expected >= GATHER_MIN as f64 && gather_max >= GATHER_MIN as f64;
        self.waited = pays && self.last_ns >= self.suspended_until_ns;
        if !self.waited {
            return 0;
        }
        let fill_us = gather_max / self.rate_per_ns / 1e3;
        (fill_us as u32).clamp(1, self.bound_us)
    }

    /// Notes that the receiver woke at `now_ns` and found `arrivals` frames of `bytes` together.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    pub fn observe(&mut self, now_ns: u64, arrivals: u64, bytes: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.last_ns).max(1) as f64;
        self.last_ns = now_ns;
        let weight = elapsed_ns / (elapsed_ns + AVERAGE_OVER_NS);
        self.rate_per_ns += (arrivals as f64 / elapsed_ns - self.rate_per_ns) * weight;
        if arrivals > 0 {
            let cost = FRAME_COST_BYTES + bytes as f64 / arrivals as f64;
            // Larger frames count at once, smaller ones slowly: too short a wait only costs CPU.
            self.frame_bytes = cost.max(self.frame_bytes * 0.9 + cost * 0.1);
        }
        if std::mem::take(&mut self.waited) {
            if arrivals < PAID_MIN {
                self.suspended_until_ns = now_ns + self.suspend_ns;
                self.suspend_ns = (self.suspend_ns * 2).min(SUSPEND_MAX_NS);
            } else {
                self.suspend_ns = SUSPEND_FIRST_NS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender of fixed rate: the receiver sleeps for the wait, or until the next datagram.
    /// Returns wake-ups and datagrams of the last half of `seconds`.
    fn paced(rate_pps: u64, seconds: u64, coalescer: &mut Coalescer) -> (u64, u64) {
        let gap_ns = 1_000_000_000 / rate_pps;
        let (mut now, mut wakes, mut seen) = (0, 0, 0);
        while now < seconds * 1_000_000_000 {
            let wait_ns = u64::from(coalescer.next_wait_us()) * 1000;
            let next = now - now % gap_ns + gap_ns;
            let woke = next.max(now + wait_ns);
            let arrivals = woke / gap_ns - now / gap_ns;
            coalescer.observe(woke, arrivals, arrivals * 64);
            now = woke;
            if now > seconds * 500_000_000 {
                wakes += 1;
                seen += arrivals;
            }
        }
        (wakes, seen)
    }

    #[test]
    fn a_quiet_socket_is_never_waited_on() {
        let mut coalescer = Coalescer::new(1000, 8 << 20);
        let (wakes, seen) = paced(1000, 4, &mut coalescer);
        assert_eq!(wakes, seen, "one wake-up a datagram");
    }

    #[test]
    fn a_busy_socket_is_woken_by_the_bound() {
        let mut coalescer = Coalescer::new(1000, 8 << 20);
        let (wakes, seen) = paced(100_000, 4, &mut coalescer);
        assert!(seen / wakes >= 90, "{seen} in {wakes} wake-ups");
    }

    #[test]
    fn a_fast_socket_waits_no_longer_than_it_takes_to_gather() {
        let mut coalescer = Coalescer::new(1000, 8 << 20);
        paced(1_000_000, 1, &mut coalescer);
        assert!((250..=260).contains(&coalescer.next_wait_us()));
    }

    #[test]
    fn a_small_receive_buffer_is_not_overrun_by_waiting() {
        let mut coalescer = Coalescer::new(1000, 277 * 768);
        paced(1_000_000, 1, &mut coalescer);
        assert!(coalescer.next_wait_us() <= 70, "a quarter of 277 datagrams at 1 per µs");
        let mut trains = Coalescer::new(1000, 425_984);
        trains.observe(1_000_000_000, 1, 64_000);
        trains.observe(1_001_000_000, 1000, 64_000_000);
        assert_eq!(trains.next_wait_us(), 0, "six trains fill the buffer");
        let mut tiny = Coalescer::new(1000, 10 * 768);
        paced(1_000_000, 1, &mut tiny);
        assert_eq!(tiny.next_wait_us(), 0);
    }

    #[test]
    fn zero_is_off() {
        let mut coalescer = Coalescer::new(0, 8 << 20);
        paced(1_000_000, 1, &mut coalescer);
        assert_eq!(coalescer.next_wait_us(), 0);
    }

    /// One peer that sends its next datagram 20 µs after our answer: waiting would slow it to one
    /// datagram a millisecond for nothing.
    #[test]
    fn a_ping_pong_peer_is_not_slowed_for_long() {
        let mut coalescer = Coalescer::new(1000, 8 << 20);
        let (mut now, mut slowed_ns) = (0u64, 0u64);
        while now < 10_000_000_000 {
            let wait_ns = u64::from(coalescer.next_wait_us()) * 1000;
            let woke = now + wait_ns.max(20_000);
            if wait_ns > 20_000 && now > 5_000_000_000 {
                slowed_ns += wait_ns;
            }
            coalescer.observe(woke, 1, 64);
            now = woke;
        }
        assert!(slowed_ns < 50_000_000, "{slowed_ns} ns of 5 s spent waiting");
    }
}
