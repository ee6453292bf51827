//! The parameters of a load. Nothing here opens a socket; `LoadSpec::check` finds invalid ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ringest_base::sys::entropy::unpredictable;
pub use ringest_base::text::values::Rate;

use crate::replay::{Recording, Survey};
use crate::stamp::STAMP_BYTES;
use ringest_base::sys::chance::Chance;
pub use ringest_engine::wire::limits::{PAYLOAD_BYTES_MAX, TRAIN_DATAGRAMS_MAX as TRAIN_MAX};

/// The longest train of `gso auto`. In longer ones the kernel's cost per datagram hardly falls.
const TRAIN_AUTO: usize = 32;
/// The most source ports of one host for one target: the kernel's widest range.
pub const FLOWS_MAX: usize = 64_511;

/// The payload sizes of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// One size, payload bytes.
    Fixed(usize),
    /// Random sizes from the first to the second, both included.
    Range(usize, usize),
    /// Payloads of 18, 548 and 1472 bytes 7 : 4 : 1, which are IP packets of 46, 576 and 1500: the
    /// "simple IMIX" (RFC 6985, section 4, takes it as its example of a named mix).
    Imix,
}

/// The simple IMIX, one round.
const IMIX: [usize; 12] = [18, 548, 18, 18, 548, 18, 1472, 18, 548, 18, 548, 18];

impl Sizes {
    /// Returns the largest size.
    #[must_use]
    pub fn max(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Range(_, size) => size,
            Self::Imix => 1472,
        }
    }

    /// Returns the smallest size.
    #[must_use]
    pub fn min(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Range(size, _) => size,
            Self::Imix => 18,
        }
    }

    /// Returns the mean size, bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sizes are below 65536")]
    pub fn mean(self) -> f64 {
        match self {
            Self::Fixed(size) => size as f64,
            Self::Range(low, high) => (low + high) as f64 / 2.0,
            Self::Imix => IMIX.iter().sum::<usize>() as f64 / IMIX.len() as f64,
        }
    }

    /// Returns the size of the datagram with this number; always the same for a number.
    #[must_use]
    pub(crate) fn of(self, number: u64) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Range(low, high) => low + below(Chance::new(number).next(), high - low + 1),
            Self::Imix => IMIX[below_exact(number, IMIX.len())],
        }
    }
}

/// Scales 64 random bits to a number below `bound`.
fn below(random: u64, bound: usize) -> usize {
    usize::try_from((u128::from(random) * bound as u128) >> 64).unwrap_or(0)
}

fn below_exact(number: u64, bound: usize) -> usize {
    usize::try_from(number % bound as u64).unwrap_or(0)
}

/// The number of datagrams per send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// Datagrams that are due together, with the same size and flow, are sent together; none waits.
    Auto,
    /// One datagram per send.
    Off,
    /// Exactly this many, which are due together.
    Trains(usize),
}

/// The distribution of datagrams over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Even gaps.
    Constant,
    /// Exponential gaps, as of many independent senders.
    Poisson,
}

ringest_base::names!(Pattern {
    "constant" => Constant;
    "poisson" => Poisson
});

/// The bytes after the stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Zeroes.
    Zero,
    /// Pseudo-random bytes, in which the receiver notices any change
    /// ([`stamp::is_intact`](crate::stamp::is_intact)). They cost the sender about 1 ns a byte.
    Random,
    /// These bytes, repeated from the start of each datagram; the stamp overwrites the first ones.
    Bytes(Arc<[u8]>),
}

/// A recording to send instead of generated datagrams.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The recording.
    pub recording: Recording,
    /// The factor to the captured pace; `None` to send at the load's rate.
    pub speed: Option<f64>,
    /// The totals of the recording.
    pub survey: Survey,
}

/// The parameters of a load.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// The receiver's address.
    pub target: SocketAddr,
    /// The source address; `None` to let the kernel choose.
    pub bind: Option<IpAddr>,
    /// The rate of a load.
    pub rate: Rate,
    /// Datagrams after which to stop; `None` for no limit.
    pub count: Option<u64>,
    /// Time after which to stop; `None` for no limit.
    pub duration: Option<Duration>,
    /// The payload sizes of a load.
    pub sizes: Sizes,
    /// The number of datagrams per send.
    pub gso: Gso,
    /// Datagrams that are due together, every `burst / rate`.
    pub burst: usize,
    /// The distribution over time.
    pub pattern: Pattern,
    /// Sockets that send in turn; each has its own source port.
    pub flows: usize,
    /// Threads that share the flows.
    pub threads: usize,
    /// Cores to pin the threads to, in turn; empty to not pin them.
    pub cores: Vec<usize>,
    /// The bytes after the stamp.
    pub payload: Payload,
    /// A recording to send unchanged, without sizes, stamps and bursts. Its flows are mapped to `flows` in
    /// turn; `count` counts its datagrams.
    pub replay: Option<Replay>,
    /// Whether to expect each datagram back.
    pub echo: bool,
    /// The run id in the stamps.
    pub run: u32,
    /// Whether to stop if ICMP errors arrive within the first second, which means that no receiver is
    /// there. If not, they are counted and the load goes on.
    pub needs_receiver: bool,
    /// Whether to send through io_uring where it works; `false` for sendmmsg(2) always.
    pub io_uring: bool,
}

impl LoadSpec {
    /// Returns a load of one flow of 64-byte datagrams, at full speed, without end.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            bind: None,
            rate: Rate::Max,
            count: None,
            duration: None,
            sizes: Sizes::Fixed(64),
            gso: Gso::Off,
            burst: 1,
            pattern: Pattern::Constant,
            flows: 1,
            threads: 1,
            cores: Vec::new(),
            payload: Payload::Zero,
            replay: None,
            echo: false,
            run: run_id(),
            needs_receiver: false,
            io_uring: true,
        }
    }

    /// Returns the rate, datagrams a second; `None` for full speed or the captured pace.
    #[must_use]
    pub fn rate_pps(&self) -> Option<f64> {
        match self.rate {
            _ if self.replay.as_ref().is_some_and(|replay| replay.speed.is_some()) => None,
            Rate::Max => None,
            Rate::Pps(pps) => Some(pps),
            Rate::Bps(bps) => Some(bps / 8.0 / self.mean_bytes().max(1.0)),
        }
    }

    /// Returns whether datagrams have no deadlines, so that none is ever late.
    #[must_use]
    pub fn is_flat_out(&self) -> bool {
        let paced = self.replay.as_ref().is_some_and(|replay| replay.speed.is_some());
        self.rate_pps().is_none() && !paced
    }

    /// Returns the mean payload, bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no 53 bits")]
    pub fn mean_bytes(&self) -> f64 {
        match &self.replay {
            Some(Replay { survey, .. }) => survey.bytes as f64 / survey.datagrams.max(1) as f64,
            None => self.sizes.mean(),
        }
    }

    /// Returns the most datagrams per send. Only equal sizes share a send, at most 64 and 65507 bytes.
    #[must_use]
    pub fn train(&self) -> usize {
        let fits = (PAYLOAD_BYTES_MAX / self.sizes.max().max(1)).min(TRAIN_MAX);
        match (self.gso, self.sizes) {
            (Gso::Off, _) => 1,
            // Datagrams that are due together and have the same flow and size.
            (Gso::Auto | Gso::Trains(_), _) if self.replay.is_some() => TRAIN_AUTO,
            // An empty datagram has no segments.
            (_, Sizes::Range(..) | Sizes::Imix | Sizes::Fixed(0)) => 1,
            (Gso::Auto, Sizes::Fixed(_)) => fits.clamp(1, TRAIN_AUTO),
            (Gso::Trains(train), Sizes::Fixed(_)) => train,
        }
    }

    /// Returns the largest send, bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        match &self.replay {
            Some(Replay { survey, .. }) => {
                let train = survey.payload_max.saturating_mul(self.train());
                train.min(PAYLOAD_BYTES_MAX).max(survey.payload_max)
            }
            None => self.sizes.max() * self.train(),
        }
    }

    /// Returns the datagrams of one flow that are taken together: those due together, or at full speed a
    /// whole train.
    pub(crate) fn group(&self) -> usize {
        let together = self.together();
        if self.rate_pps().is_none() { together.max(self.train()) } else { together }
    }

    /// Returns the datagrams that are due together: a burst, or whole trains if trains were asked for.
    #[must_use]
    pub fn together(&self) -> usize {
        match self.gso {
            Gso::Trains(train) => self.burst.next_multiple_of(train.max(1)),
            Gso::Auto | Gso::Off => self.burst,
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first invalid one: the flag, its value, the reason and the valid values.
    pub fn check(&self) -> Result<(), SpecError> {
        let refuse = |setting, value: String, reason: &str| {
            Err(SpecError { setting, value, reason: reason.to_owned() })
        };
        if let Some(replay) = &self.replay {
            self.check_replay(replay)?;
        }
        if self.sizes.max() > PAYLOAD_BYTES_MAX {
            let value = self.sizes.max().to_string();
            return refuse("size", value, "a UDP datagram carries at most 65507 bytes");
        }
        if let Some(pps) = self.rate_pps()
            && !(pps.is_finite() && pps > 0.0 && pps <= RATE_MAX_PPS)
        {
            let value = pps.to_string();
            return refuse("rate", value, "from above 0 to 10^9 datagrams a second, or max");
        }
        if let Gso::Trains(train) = self.gso {
            let value = train.to_string();
            if !(1..=TRAIN_MAX).contains(&train) {
                return refuse("gso", value, "a train has 1 to 64 datagrams");
            }
            if train > 1 && !matches!(self.sizes, Sizes::Fixed(1..)) {
                let reason = "datagrams of a train are all of one size, at least 1; give --size N";
                return refuse("gso", value, reason);
            }
            if train * self.sizes.max() > PAYLOAD_BYTES_MAX {
                let fits = PAYLOAD_BYTES_MAX / self.sizes.max().max(1);
                let reason =
                    format!("a train has at most 65507 bytes: {fits} datagrams of this size");
                return refuse("gso", value, &reason);
            }
        }
        self.check_counts()
    }

    fn check_replay(&self, replay: &Replay) -> Result<(), SpecError> {
        let refuse = |setting, value: &str, reason: &str| {
            Err(SpecError { setting, value: value.to_owned(), reason: reason.to_owned() })
        };
        if let Some(speed) = replay.speed
            && !(SPEED_MIN..=SPEED_MAX).contains(&speed)
        {
            return refuse("speed", &speed.to_string(), "from 0.000001 to 1000000 times as fast");
        }
        if self.echo {
            let reason = "round trips are told by the stamp of each datagram, and a capture's payloads \
                          are sent unchanged; leave one out";
            return refuse("rtt", "with --pcap", reason);
        }
        if let Gso::Trains(_) = self.gso {
            let reason = "a capture's datagrams have sizes of their own; take auto or off";
            return refuse("gso", "N with --pcap", reason);
        }
        if self.burst > 1 {
            return refuse("burst", "with --pcap", "the capture says what is due together");
        }
        if self.pattern == Pattern::Poisson {
            return refuse(
                "pattern",
                "with --pcap",
                "the capture, or an even --rate, sets the gaps",
            );
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), SpecError> {
        let refuse = |setting, value: usize, reason: String| {
            Err(SpecError { setting, value: value.to_string(), reason })
        };
        if !(1..=FLOWS_MAX).contains(&self.flows) {
            let reason = format!("1 to {FLOWS_MAX}: a flow is a source port of its own");
            return refuse("flows", self.flows, reason);
        }
        if !(1..=self.flows).contains(&self.threads) && self.replay.is_some() {
            let reason =
                format!("1 to the number of flows: {} of this capture are sent", self.flows);
            return refuse("threads", self.threads, reason);
        }
        if !(1..=self.flows).contains(&self.threads) {
            let reason = format!("1 to the number of flows ({}); raise --flows", self.flows);
            return refuse("threads", self.threads, reason);
        }
        if !(1..=BURST_MAX).contains(&self.burst) {
            return refuse("burst", self.burst, format!("1 to {BURST_MAX} datagrams"));
        }
        if self.count == Some(0) {
            return refuse("count", 0, "nothing to send; at least 1".to_owned());
        }
        Ok(())
    }

    /// Returns what a receiver cannot tell because the datagrams are too short, or `None` if it can tell
    /// all.
    #[must_use]
    pub fn unknown(&self) -> Option<&'static str> {
        if self.replay.is_some() {
            return Some(
                "payloads go out as they were captured, without a stamp: a receiver knows how many came, \
                 not which, nor when they were due or sent",
            );
        }
        match self.sizes.min() {
            STAMP_BYTES.. => None,
            24.. => Some("below 32 bytes a datagram does not say when it was sent"),
            16.. => {
                Some("below 24 bytes a datagram says neither when it was due nor when it was sent")
            }
            8.. => Some(
                "below 16 bytes a datagram has its sequence only: whose it is, and when it was sent, \
                 is not known",
            ),
            _ => Some(
                "below 8 bytes a datagram says nothing of itself: only how many came is known, not \
                 which",
            ),
        }
    }
}

/// The highest rate, datagrams a second. No host can keep up with more, and gaps would be below 1 ns.
pub const RATE_MAX_PPS: f64 = 1e9;
/// The limits of `speed`: a second of the capture may take eleven days, or a microsecond.
const SPEED_MIN: f64 = 1e-6;
const SPEED_MAX: f64 = 1e6;
/// The longest burst; no buffer holds more.
const BURST_MAX: usize = 100_000_000;

/// An invalid parameter of a load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{setting} {value}: {reason}")]
pub struct SpecError {
    /// The flag, without dashes.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// The reason, and the valid values.
    pub reason: String,
}

/// Returns a random number to mark a run.
#[must_use]
pub fn run_id() -> u32 {
    u32::try_from(unpredictable() >> 32).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LoadSpec {
        LoadSpec::new("127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_flag() {
        let refused = |spec: LoadSpec| spec.check().map_err(|error| error.setting);
        assert_eq!(refused(spec()), Ok(()));
        assert_eq!(refused(LoadSpec { sizes: Sizes::Fixed(65_508), ..spec() }), Err("size"));
        for pps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e10] {
            assert_eq!(refused(LoadSpec { rate: Rate::Pps(pps), ..spec() }), Err("rate"), "{pps}");
        }
        for train in [0, 65] {
            assert_eq!(refused(LoadSpec { gso: Gso::Trains(train), ..spec() }), Err("gso"));
        }
        let large = LoadSpec { gso: Gso::Trains(64), sizes: Sizes::Fixed(1400), ..spec() };
        assert_eq!(refused(large), Err("gso"));
        let mixed = LoadSpec { gso: Gso::Trains(2), sizes: Sizes::Imix, ..spec() };
        assert_eq!(refused(mixed), Err("gso"));
        assert_eq!(refused(LoadSpec { flows: 70_000, ..spec() }), Err("flows"));
        assert_eq!(refused(LoadSpec { threads: 2, ..spec() }), Err("threads"));
        assert_eq!(refused(LoadSpec { burst: 0, ..spec() }), Err("burst"));
        assert_eq!(refused(LoadSpec { count: Some(0), ..spec() }), Err("count"));
    }

    #[test]
    fn trains_fit_the_kernel_and_bits_become_datagrams() {
        let train = |gso, sizes| LoadSpec { gso, sizes, ..spec() }.train();
        assert_eq!(train(Gso::Auto, Sizes::Fixed(64)), 32);
        assert_eq!(train(Gso::Auto, Sizes::Fixed(9000)), 7);
        assert_eq!(train(Gso::Auto, Sizes::Fixed(65_507)), 1);
        assert_eq!(train(Gso::Auto, Sizes::Fixed(0)), 1);
        assert_eq!(train(Gso::Auto, Sizes::Imix), 1);
        assert_eq!(train(Gso::Trains(7), Sizes::Fixed(100)), 7);
        let spec = LoadSpec { rate: Rate::Bps(8e6), sizes: Sizes::Fixed(1000), ..spec() };
        assert_eq!(spec.rate_pps(), Some(1000.0));
        let trains = LoadSpec { gso: Gso::Trains(8), burst: 20, ..spec };
        assert_eq!(trains.together(), 24);
    }

    #[test]
    fn sizes_stay_in_their_range_and_come_to_their_mean() {
        for sizes in [Sizes::Fixed(9), Sizes::Range(10, 19), Sizes::Imix] {
            let drawn: Vec<usize> = (0..12_000).map(|number| sizes.of(number)).collect();
            assert!(drawn.iter().all(|size| (sizes.min()..=sizes.max()).contains(size)));
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let mean = drawn.iter().sum::<usize>() as f64 / 12_000.0;
            assert!((mean - sizes.mean()).abs() < 0.1, "{sizes:?}: {mean}");
        }
    }
}
