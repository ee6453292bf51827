//! What to send. Nothing here opens a socket; `LoadSpec::check` says what cannot be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use ringest_base::text::values::Rate;

use crate::replay::{Recording, Survey};
use crate::stamp::STAMP_BYTES;
use ringest_base::sys::chance::Chance;
pub use ringest_engine::wire::limits::{PAYLOAD_BYTES_MAX, TRAIN_DATAGRAMS_MAX as TRAIN_MAX};

/// What `gso auto` puts into a train at most. Beyond it the kernel's cost per datagram hardly falls.
const TRAIN_AUTO: usize = 32;
/// Source ports of one host for one peer: the kernel's widest range.
pub const FLOWS_MAX: usize = 64_511;

/// How large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All the same, payload bytes.
    Fixed(usize),
    /// Drawn evenly from these, both included.
    Range(usize, usize),
    /// Payloads of 18, 548 and 1472 bytes 7 : 4 : 1, which are IP packets of 46, 576 and 1500: the
    /// "simple IMIX" (RFC 6985, section 4, takes it as its example of a named mix).
    Imix,
}

/// The simple IMIX, one round.
const IMIX: [usize; 12] = [18, 548, 18, 18, 548, 18, 1472, 18, 548, 18, 548, 18];

impl Sizes {
    /// The largest.
    #[must_use]
    pub fn max(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Range(_, size) => size,
            Self::Imix => 1472,
        }
    }

    /// The smallest.
    #[must_use]
    pub fn min(self) -> usize {
        match self {
            Self::Fixed(size) | Self::Range(size, _) => size,
            Self::Imix => 18,
        }
    }

    /// The mean, bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sizes are below 65536")]
    pub fn mean(self) -> f64 {
        match self {
            Self::Fixed(size) => size as f64,
            Self::Range(low, high) => (low + high) as f64 / 2.0,
            Self::Imix => IMIX.iter().sum::<usize>() as f64 / IMIX.len() as f64,
        }
    }

    /// The size of the datagram with this number; the same number always has the same.
    #[must_use]
    pub(crate) fn of(self, number: u64) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Range(low, high) => low + below(Chance::new(number).next(), high - low + 1),
            Self::Imix => IMIX[below_exact(number, IMIX.len())],
        }
    }
}

/// A number below `bound` out of 64 even bits.
fn below(random: u64, bound: usize) -> usize {
    usize::try_from((u128::from(random) * bound as u128) >> 64).unwrap_or(0)
}

fn below_exact(number: u64, bound: usize) -> usize {
    usize::try_from(number % bound as u64).unwrap_or(0)
}

/// Datagrams per send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// What is due together and equal in size and flow goes together; nothing waits for company.
    Auto,
    /// Each alone.
    Off,
    /// Exactly so many, which are due together.
    Trains(usize),
}

/// How datagrams are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Evenly.
    Constant,
    /// Independently of each other: gaps are exponential, as when many senders add up.
    Poisson,
}

ringest_base::names!(Pattern {
    "constant" => Constant;
    "poisson" => Poisson
});

/// What follows the stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing but zeroes.
    Zero,
    /// Bytes that look random, and of which any that changed on the way is noticed
    /// ([`stamp::is_intact`](crate::stamp::is_intact)). Costs the sender about 1 ns a byte.
    Random,
    /// These bytes, over and over, from the start of each datagram; the stamp lies over them.
    Bytes(Arc<[u8]>),
}

/// A recording to send instead of datagrams made for the purpose.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Where they come from.
    pub recording: Recording,
    /// As captured, this many times as fast; `None`: at the load's rate.
    pub speed: Option<f64>,
    /// What it holds.
    pub survey: Survey,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// To whom.
    pub target: SocketAddr,
    /// From which address; `None`: the kernel chooses.
    pub bind: Option<IpAddr>,
    /// How fast.
    pub rate: Rate,
    /// Stop after this many.
    pub count: Option<u64>,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// How large.
    pub sizes: Sizes,
    /// Datagrams per send.
    pub gso: Gso,
    /// Datagrams that are due together, every `burst / rate`.
    pub burst: usize,
    /// Spread over time.
    pub pattern: Pattern,
    /// Sockets, and so source ports, that send in turn.
    pub flows: usize,
    /// Threads that share the flows.
    pub threads: usize,
    /// Where to pin them, in turn; empty: nowhere.
    pub cores: Vec<usize>,
    /// What follows the stamp.
    pub payload: Payload,
    /// Send the payloads of a capture, unchanged: no sizes, no stamps, no bursts. Each flow of the
    /// capture has one of `flows`, in turn; `count` counts datagrams of the capture.
    pub replay: Option<Replay>,
    /// Expect each datagram back.
    pub echo: bool,
    /// Marks the datagrams of this run.
    pub run: u32,
    /// Give up if ICMP errors come back within the first second: nobody is there. Otherwise they are
    /// counted, and the load goes on.
    pub needs_receiver: bool,
    /// Send through io_uring where it works; `false`: sendmmsg(2) in any case.
    pub io_uring: bool,
}

impl LoadSpec {
    /// One flow of 64-byte datagrams, as fast as it goes, without end.
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

    /// Datagrams a second; `None`: as fast as it goes, or as captured.
    #[must_use]
    pub fn rate_pps(&self) -> Option<f64> {
        match self.rate {
            _ if self.replay.as_ref().is_some_and(|replay| replay.speed.is_some()) => None,
            Rate::Max => None,
            Rate::Pps(pps) => Some(pps),
            Rate::Bps(bps) => Some(bps / 8.0 / self.mean_bytes().max(1.0)),
        }
    }

    /// Whether nothing has a time, so that nothing is ever late.
    #[must_use]
    pub fn is_flat_out(&self) -> bool {
        let paced = self.replay.as_ref().is_some_and(|replay| replay.speed.is_some());
        self.rate_pps().is_none() && !paced
    }

    /// The mean payload, bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no 53 bits")]
    pub fn mean_bytes(&self) -> f64 {
        match &self.replay {
            Some(Replay { survey, .. }) => survey.bytes as f64 / survey.datagrams.max(1) as f64,
            None => self.sizes.mean(),
        }
    }

    /// Datagrams per send at most, and whether they all go so: equal sizes only, at most 64 and 65507 B.
    #[must_use]
    pub fn train(&self) -> usize {
        let fits = (PAYLOAD_BYTES_MAX / self.sizes.max().max(1)).min(TRAIN_MAX);
        match (self.gso, self.sizes) {
            (Gso::Off, _) => 1,
            // Those that are due together and happen to be of one flow and size.
            (Gso::Auto | Gso::Trains(_), _) if self.replay.is_some() => TRAIN_AUTO,
            // An empty datagram has no segments.
            (_, Sizes::Range(..) | Sizes::Imix | Sizes::Fixed(0)) => 1,
            (Gso::Auto, Sizes::Fixed(_)) => fits.clamp(1, TRAIN_AUTO),
            (Gso::Trains(train), Sizes::Fixed(_)) => train,
        }
    }

    /// The largest send, bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        match &self.replay {
            Some(Replay { survey, .. }) => {
                let train = survey.payload_max.saturating_mul(self.train());
                train.min(PAYLOAD_BYTES_MAX).max(survey.payload_max)
            }
            None => self.sizes.max() * self.train(),
        }
    }

    /// Datagrams of one flow that are taken together: what is due together, flat out a whole train.
    pub(crate) fn group(&self) -> usize {
        let together = self.together();
        if self.rate_pps().is_none() { together.max(self.train()) } else { together }
    }

    /// Datagrams that are due together: a burst, or a whole train where trains were asked for.
    #[must_use]
    pub fn together(&self) -> usize {
        match self.gso {
            Gso::Trains(train) => self.burst.next_multiple_of(train.max(1)),
            Gso::Auto | Gso::Off => self.burst,
        }
    }

    /// Whether this can be sent at all. `Err`: the flag, what it was, why not and what can be.
    ///
    /// # Errors
    /// The first thing that cannot be.
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

    /// Which of the run, flow and times a receiver cannot know because the datagrams are too short.
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

/// Beyond it nothing on one host can keep up, and times below 1 ns would be asked for.
pub const RATE_MAX_PPS: f64 = 1e9;
/// A second of the capture may take eleven days, or a microsecond.
const SPEED_MIN: f64 = 1e-6;
const SPEED_MAX: f64 = 1e6;
/// A burst is prepared in rounds of a few thousand; more than this no buffer holds.
const BURST_MAX: usize = 100_000_000;

/// Why a load cannot be sent as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{setting} {value}: {reason}")]
pub struct SpecError {
    /// The flag, without dashes.
    pub setting: &'static str,
    /// What it was.
    pub value: String,
    /// Why not, and what can be.
    pub reason: String,
}

/// A number that differs from run to run.
#[must_use]
pub fn run_id() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's keys are random for each process and step for each instance.
    let drawn = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(drawn >> 32).unwrap_or(1)
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
