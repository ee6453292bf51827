//! A format of chunks and of records that wait for a template, for tests alone: it shows how a decoder holds
//! datagrams.
//!
//! ```text
//!  chunk     c · message · index · count · bytes …       message: all chunks of one id, in the order of index
//!  template  t · key                                     releases the records that wait for key
//!  data      d · key · bytes …                           a record if the template of key came before; else waits
//! ```
//! Anything else is rejected.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::decode::decoder::{Decoded, Format, Later, Records, Reject};
use crate::decode::held::HeldDatagram;
use ringest_engine::batch::arena::Datagram;

pub(crate) const EXPIRED: &str = "the rest of the message did not come in time";
pub(crate) const OVERFLOW: &str = "too much waits for the rest of its message";
pub(crate) const STOPPED: &str = "the receiver stopped before the rest of the message came";
pub(crate) const NOT_ONE: &str = "neither chunk nor template nor data";
pub(crate) const TWICE: &str = "a chunk came twice";

/// The parts that wait together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Message(u8),
    Data(u8),
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// By index of the chunk; data in the order it came.
    parts: BTreeMap<u8, HeldDatagram>,
    data: Vec<HeldDatagram>,
}

/// The format, with its bounds.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Most bytes that wait.
    pub(crate) bytes_max: usize,
    /// How long parts wait.
    pub(crate) age_max: Duration,
    /// The clock, seconds since it was made, so that a test rules it.
    pub(crate) ahead: Arc<AtomicU64>,
    begun: Instant,
    waiting: BTreeMap<Key, Waiting>,
    /// The oldest first.
    order: VecDeque<Key>,
    bytes: usize,
    templates: BTreeSet<u8>,
}

impl Chunks {
    pub(crate) fn new(bytes_max: usize, age_max: Duration, ahead: &Arc<AtomicU64>) -> Self {
        let (waiting, order) = (BTreeMap::new(), VecDeque::new());
        let (ahead, begun) = (Arc::clone(ahead), Instant::now());
        let templates = BTreeSet::new();
        Self { bytes_max, age_max, ahead, begun, waiting, order, bytes: 0, templates }
    }

    fn now(&self) -> Instant {
        self.begun + Duration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    fn remove(&mut self, key: Key) -> Option<Waiting> {
        self.order.retain(|other| *other != key);
        let waiting = self.waiting.remove(&key)?;
        self.bytes -= all(&waiting).map(HeldDatagram::footprint_bytes).sum::<usize>();
        Some(waiting)
    }

    fn refuse(&mut self, key: Key, out: &mut (impl Later + ?Sized), reason: &'static str) {
        let Some(waiting) = self.remove(key) else { return };
        let count = all(&waiting).count() as u64;
        if let Some(first) = all(&waiting).next() {
            out.refuse(first, count, reason);
        }
    }

    /// Holds a datagram. The oldest are refused while all together are too large.
    fn hold(
        &mut self,
        key: Key,
        index: Option<u8>,
        held: HeldDatagram,
        out: &mut dyn Records,
    ) -> Decoded {
        let bytes = held.footprint_bytes();
        while self.bytes + bytes > self.bytes_max {
            match self.order.front() {
                Some(oldest) => self.refuse(*oldest, out, OVERFLOW),
                None => {
                    out.reject(Reject { bytes: &[], reason: OVERFLOW });
                    return Decoded::Whole;
                }
            }
        }
        self.bytes += bytes;
        let (now, order) = (self.now(), &mut self.order);
        let waiting = self.waiting.entry(key).or_insert_with(|| {
            order.push_back(key);
            Waiting { since: now, parts: BTreeMap::new(), data: Vec::new() }
        });
        match index {
            Some(index) => drop(waiting.parts.insert(index, held)),
            None => waiting.data.push(held),
        }
        Decoded::Held
    }

    fn chunk(&mut self, datagram: &Datagram<'_>, out: &mut dyn Records) -> Decoded {
        let payload = datagram.payload();
        let [_, id, index, count, body @ ..] = payload else { return Decoded::Whole };
        let key = Key::Message(*id);
        let known = self.waiting.get(&key).map(|waiting| &waiting.parts);
        if known.is_some_and(|parts| parts.contains_key(index)) {
            out.reject(Reject { bytes: payload, reason: TWICE });
            return Decoded::Whole;
        }
        if known.map_or(0, BTreeMap::len) + 1 < usize::from(*count) {
            return self.hold(key, Some(*index), HeldDatagram::new(datagram), out);
        }
        // The last one: the message is a record of its datagram, whose fate the others share.
        let waiting = self.remove(key);
        let mut bodies: BTreeMap<u8, &[u8]> = BTreeMap::from([(*index, body)]);
        let parts = waiting.iter().flat_map(|waiting| &waiting.parts);
        bodies.extend(parts.map(|(index, held)| (*index, &held.payload()[4..])));
        out.join(bodies.len() as u64 - 1);
        out.record(&bodies.into_values().collect::<Vec<_>>().concat());
        Decoded::Whole
    }
}

fn all(waiting: &Waiting) -> impl Iterator<Item = &HeldDatagram> {
    waiting.parts.values().chain(&waiting.data)
}

impl Format for Chunks {
    fn decode(&mut self, frame: &[u8], datagram: &Datagram<'_>, out: &mut dyn Records) -> Decoded {
        match frame {
            [b'c', _, index, count, ..] if index < count => return self.chunk(datagram, out),
            [b'd', key, ..] if !self.templates.contains(key) => {
                return self.hold(Key::Data(*key), None, HeldDatagram::new(datagram), out);
            }
            [b'd', _, body @ ..] => out.record(body),
            [b't', key] => {
                self.templates.insert(*key);
                let waiting = self.remove(Key::Data(*key));
                for held in waiting.iter().flat_map(|waiting| &waiting.data) {
                    out.release(held, &mut |out| out.record(&held.payload()[2..]));
                }
            }
            _ => out.reject(Reject { bytes: frame, reason: NOT_ONE }),
        }
        Decoded::Whole
    }

    fn due_within(&self, _: Instant) -> Option<Duration> {
        let oldest = self.order.front().and_then(|key| self.waiting.get(key))?;
        Some((oldest.since + self.age_max).saturating_duration_since(self.now()))
    }

    fn tick(&mut self, _: Instant, out: &mut dyn Later) {
        while let Some(oldest) = self.order.front().copied()
            && self.due_within(self.now()) == Some(Duration::ZERO)
        {
            self.refuse(oldest, out, EXPIRED);
        }
    }

    fn stop(&mut self, out: &mut dyn Later) {
        while let Some(oldest) = self.order.front().copied() {
            self.refuse(oldest, out, STOPPED);
        }
    }
}
