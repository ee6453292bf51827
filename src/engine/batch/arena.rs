//! Batches: many datagrams, dense in one arena.
//!
//! ```text
//!  arena    │ payload │ payload │ train: 500 │ 500 │ 500 │ 200 │ free …       │
//!              ▲         ▲         ▲
//!  entries  │ entry 0 │ entry 1 │ entry 2 (segment_bytes 500) │ … │
//! ```
//!
//! Arena and entries are allocated once, when the pool is filled. A train stays whole in the arena and the iterator splits
//! it, so a train costs one copy and one entry however many datagrams it holds.

use std::net::{IpAddr, SocketAddr};

use crate::wire::headers::Headers;
use crate::wire::limits::{PAYLOAD_BYTES_MAX, TRAIN_DATAGRAMS_MAX};
use crate::wire::path::Path;

/// One frame as it came off a socket: a datagram, or a train of equal-sized datagrams (the last may be shorter).
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The bytes of the datagram or of the whole train.
    pub payload: &'a [u8],
    /// The sender's address.
    pub peer: SocketAddr,
    /// Fields of the IP and UDP headers, where the listener asked for them.
    pub headers: Headers,
    /// Index of the listen address.
    pub listener: u16,
    /// Bytes of each datagram of a train but the last; 0 for a single datagram.
    pub segment_bytes: u16,
    /// The slot or its control room was too small: the payload must not be used.
    pub truncated: bool,
    /// When the kernel received the frame, ns since 1970-01-01T00:00:00Z, where the listener asked (SO_TIMESTAMPNS);
    /// else 0.
    pub kernel_unix_ns: u64,
}

impl<'a> Frame<'a> {
    /// Returns a single datagram from `peer` at the first listener, with no header fields known.
    #[inline]
    #[must_use]
    pub fn datagram(peer: SocketAddr, payload: &'a [u8]) -> Self {
        Self {
            payload,
            peer,
            headers: Headers::default(),
            listener: 0,
            segment_bytes: 0,
            truncated: false,
            kernel_unix_ns: 0,
        }
    }

    /// Sets the index of the listen address.
    #[inline]
    #[must_use]
    pub fn at_listener(self, listener: usize) -> Self {
        Self { listener: u16::try_from(listener).unwrap_or(u16::MAX), ..self }
    }

    /// Makes the payload a train of datagrams of `segment_bytes` each; 0: a single datagram.
    #[inline]
    #[must_use]
    pub fn in_segments(self, segment_bytes: u16) -> Self {
        Self { segment_bytes, ..self }
    }

    /// Sets the header fields.
    #[inline]
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        Self { headers, ..self }
    }

    /// Sets when the kernel received the frame, ns since 1970-01-01T00:00:00Z; 0: not known.
    #[inline]
    #[must_use]
    pub fn with_kernel_unix_ns(self, kernel_unix_ns: u64) -> Self {
        Self { kernel_unix_ns, ..self }
    }

    /// Sets whether bytes of the frame or its control messages are missing.
    #[inline]
    #[must_use]
    pub fn with_truncated(self, truncated: bool) -> Self {
        Self { truncated, ..self }
    }

    /// Returns how many datagrams the frame holds; an empty payload is one datagram.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        datagrams_in(self.payload.len(), self.segment_bytes)
    }
}

/// Returns how many datagrams an entry holds.
pub fn datagrams_of(entry: &Entry) -> u64 {
    datagrams_in(entry.len as usize, entry.segment_bytes)
}

fn datagrams_in(bytes: usize, segment_bytes: u16) -> u64 {
    match usize::from(segment_bytes) {
        0 => 1,
        size => bytes.div_ceil(size).max(1) as u64,
    }
}

/// A frame in the arena: its place, and its metadata.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub(crate) peer: SocketAddr,
    pub(crate) headers: Headers,
    /// Invariant: `offset + len <= arena.len()`.
    pub(crate) offset: u32,
    /// Payload bytes: of a train, of all its datagrams.
    pub len: u32,
    /// Bytes of each datagram of a train but the last, which may be shorter; 0 for a single datagram.
    pub segment_bytes: u16,
    /// Index of the listen address.
    pub listener: u16,
    /// Monotonic.
    pub(crate) received_at_ns: u64,
    pub(crate) kernel_unix_ns: u64,
}

/// Datagrams on their way from a receiver to a worker, or replies on their way back.
#[derive(Debug)]
pub struct Batch {
    arena: Box<[u8]>,
    used_bytes: usize,
    /// Never grows past the capacity it was made with.
    entries: Vec<Entry>,
    entries_max: usize,
    datagrams: u64,
    /// Unix time less monotonic time, ns.
    unix_offset_ns: u64,
    /// The pool this batch goes home to.
    pub(crate) owner: u16,
    /// The receiver whose sockets the datagrams came from.
    pub(crate) receiver: u16,
}

impl Batch {
    /// Returns an empty batch of `arena_bytes` and at most `entries_max` frames. Every page is touched now, so that memory
    /// in use does not grow under load. `owner`: the pool that the batch goes home to.
    #[must_use]
    pub fn new(arena_bytes: usize, entries_max: usize, owner: u16) -> Self {
        let mut arena = vec![0u8; arena_bytes].into_boxed_slice();
        for page in arena.chunks_mut(4096) {
            // A plain zero could be optimised into leaving the fresh zero page unmapped.
            page[0] = std::hint::black_box(1);
        }
        let blank = Entry {
            peer: crate::wire::sockaddr::unspecified(),
            headers: Headers::default(),
            offset: 0,
            len: 0,
            segment_bytes: 0,
            listener: 0,
            received_at_ns: 0,
            kernel_unix_ns: 0,
        };
        let mut entries = vec![blank; entries_max];
        entries.clear();
        Self {
            arena,
            used_bytes: 0,
            entries,
            entries_max,
            datagrams: 0,
            unix_offset_ns: 0,
            owner,
            receiver: 0,
        }
    }

    /// Returns the memory of one batch, bytes.
    #[must_use]
    pub fn footprint_bytes(arena_bytes: usize, entries_max: usize) -> usize {
        arena_bytes + entries_max * size_of::<Entry>() + size_of::<Self>()
    }

    /// Makes an emptied batch ready for a receiver's next frames.
    pub fn open(&mut self, receiver: u16, unix_offset_ns: u64) {
        self.clear();
        self.receiver = receiver;
        self.unix_offset_ns = unix_offset_ns;
    }

    /// Empties the batch; the memory stays.
    pub fn clear(&mut self) {
        self.used_bytes = 0;
        self.entries.clear();
        self.datagrams = 0;
    }

    /// Copies a frame in. Returns `false` if it does not fit.
    #[must_use]
    pub fn push(&mut self, frame: &Frame<'_>, received_at_ns: u64) -> bool {
        let end = self.used_bytes + frame.payload.len();
        if self.entries.len() == self.entries_max || end > self.arena.len() {
            return false;
        }
        self.arena[self.used_bytes..end].copy_from_slice(frame.payload);
        self.entries.push(Entry {
            peer: frame.peer,
            headers: frame.headers,
            offset: index(self.used_bytes),
            len: index(frame.payload.len()),
            segment_bytes: frame.segment_bytes,
            listener: frame.listener,
            received_at_ns,
            kernel_unix_ns: frame.kernel_unix_ns,
        });
        self.used_bytes = end;
        self.datagrams += frame.datagrams();
        true
    }

    /// Returns how many datagrams the batch holds; each datagram of a train counts.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.datagrams
    }

    /// Returns whether the batch holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the payload bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.used_bytes
    }

    /// The datagrams in order of arrival, trains split, nothing copied.
    #[must_use]
    pub fn iter(&self) -> Datagrams<'_> {
        Datagrams { batch: self, next_entry: 0, train: None }
    }

    /// The entries, in the order they were received.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Keeps, of the `count` entries from `start` on, those for which `keep` is true (by distance from `start`)
    /// and moves them, in order, up against the entries that follow. Returns the index of the
    /// first one kept.
    pub fn keep_entries(
        &mut self,
        start: usize,
        count: usize,
        keep: impl Fn(usize) -> bool,
    ) -> usize {
        let mut first = start + count;
        for distance in (0..count).rev().filter(|distance| keep(*distance)) {
            first -= 1;
            self.entries[first] = self.entries[start + distance];
        }
        first
    }

    /// Returns the payload of an entry of this batch.
    #[must_use]
    pub fn payload(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.offset as usize..][..entry.len as usize]
    }

    /// Appends a reply. If it continues the run of equal-sized replies to the same peer it joins
    /// the last entry's train, which leaves as one UDP_SEGMENT send, within
    /// `limits`. Returns `false` if there is no room.
    #[must_use]
    pub fn push_reply(&mut self, frame: &Frame<'_>, limits: TrainLimits) -> bool {
        let end = self.used_bytes + frame.payload.len();
        if end > self.arena.len() {
            return false;
        }
        let size = frame.payload.len();
        if let Some(last) = self.entries.last_mut()
            && last.peer == frame.peer
            && last.headers == frame.headers
            && last.listener == frame.listener
            && limits.joins(last, size)
        {
            if last.segment_bytes == 0 {
                last.segment_bytes = u16::try_from(last.len).unwrap_or(0);
            }
            last.len += index(size);
            self.arena[self.used_bytes..end].copy_from_slice(frame.payload);
            self.used_bytes = end;
            self.datagrams += 1;
            return true;
        }
        self.push(frame, 0)
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Datagram<'a>;
    type IntoIter = Datagrams<'a>;

    fn into_iter(self) -> Datagrams<'a> {
        self.iter()
    }
}

/// Arenas are at most 1 GiB (the plan checks it), so every offset and length fits.
#[expect(clippy::cast_possible_truncation, reason = "bounded by the arena, which is under 4 GiB")]
const fn index(bytes: usize) -> u32 {
    bytes as u32
}

/// The limits of a train that is sent.
#[derive(Clone, Copy, Debug)]
pub struct TrainLimits {
    /// Most datagrams of a train.
    pub datagrams_max: u32,
    /// Most payload bytes of a train.
    pub bytes_max: u32,
}

impl TrainLimits {
    /// The kernel's limits: at most 64 segments, and the whole must fit one IPv4 datagram (udp(7), UDP_SEGMENT).
    pub const KERNEL: Self = Self::of(TRAIN_DATAGRAMS_MAX);

    /// Returns the limits of trains of at most `datagrams` datagrams.
    #[must_use]
    pub const fn of(datagrams: usize) -> Self {
        Self { datagrams_max: index(datagrams), bytes_max: index(PAYLOAD_BYTES_MAX) }
    }

    /// Returns whether a reply of `size` bytes may join `last`: same size, or the short tail of a train that has none
    /// yet.
    fn joins(self, last: &Entry, size: usize) -> bool {
        let size = index(size);
        let segment = if last.segment_bytes == 0 { last.len } else { last.segment_bytes.into() };
        segment > 0
            && size > 0
            && size <= segment
            && last.len.is_multiple_of(segment)
            && last.len / segment < self.datagrams_max
            && last.len + size <= self.bytes_max
    }
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    payload: &'a [u8],
    entry: &'a Entry,
    batch: &'a Batch,
}

impl<'a> Datagram<'a> {
    /// Returns the path on which the datagram came: a reply can be sent on it later, see
    /// [`Replies::send_to`](crate::send::reply::Replies::send_to).
    #[must_use]
    pub fn path(&self) -> Path {
        Path {
            peer: self.entry.peer,
            local: self.local(),
            listener: self.entry.listener,
            receiver: self.batch.receiver,
        }
    }

    /// Returns the bytes that the peer sent; may be empty.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Returns the sender's address. IPv4 peers of a dual-stack socket are shown as IPv4.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.entry.peer
    }

    /// Copies the datagram, with everything that is known of it, into a batch of its own.
    #[must_use]
    pub fn to_batch(&self) -> Batch {
        let mut batch = Batch::new(self.payload.len(), 1, 0);
        batch.open(self.batch.receiver, self.batch.unix_offset_ns);
        let frame = Frame::datagram(self.entry.peer, self.payload)
            .at_listener(self.listener())
            .with_headers(self.entry.headers)
            .with_kernel_unix_ns(self.entry.kernel_unix_ns);
        let fits = batch.push(&frame, self.entry.received_at_ns);
        debug_assert!(fits);
        batch
    }

    /// Returns the index of the listen address that the datagram arrived at, in the order they were given.
    #[must_use]
    pub fn listener(&self) -> usize {
        self.entry.listener.into()
    }

    /// Returns the address of this host that the datagram was sent to, on wildcard listeners and where the engine was told
    /// to ask ([`Builder::ip_headers`](crate::control::builder::Builder::ip_headers)). `None` too for a datagram to a
    /// multicast group: no answer can come from that address.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        self.entry.headers.local()
    }

    /// Returns the destination of the datagram: an address of this host, a multicast group, or with
    /// [`SocketOptions::transparent`](crate::socket::options::SocketOptions) any address at all; of a broadcast to one
    /// network, the interface's own address. Where the engine was told to ask ([`Builder::ip_headers`](crate::control::builder::Builder::ip_headers)).
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.entry.headers.destination()
    }

    /// Returns the TTL or hop limit on arrival, where the engine was told to ask.
    #[must_use]
    pub fn hop_limit(&self) -> Option<u8> {
        self.entry.headers.hop_limit()
    }

    /// Returns the TOS byte or traffic class on arrival, where the engine was told to ask: DSCP in the upper six bits, ECN
    /// in the lower two.
    #[must_use]
    pub fn traffic_class(&self) -> Option<u8> {
        self.entry.headers.traffic_class()
    }

    /// Returns when the engine took the datagram from the socket, `CLOCK_MONOTONIC` ns.
    #[must_use]
    pub fn received_at_ns(&self) -> u64 {
        self.entry.received_at_ns
    }

    /// Returns when the kernel received the datagram, ns since 1970-01-01T00:00:00Z, where the engine was told to ask
    /// ([`Builder::timestamps`](crate::control::builder::Builder::timestamps)); of a train, its first datagram.
    #[must_use]
    pub fn kernel_unix_ns(&self) -> Option<u64> {
        (self.entry.kernel_unix_ns > 0).then_some(self.entry.kernel_unix_ns)
    }

    /// Returns [`received_at_ns`](Self::received_at_ns) as nanoseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_time_ns(&self) -> u64 {
        self.entry.received_at_ns + self.batch.unix_offset_ns
    }
}

/// Iterates the datagrams of a batch; see [`Batch::iter`].
#[derive(Debug)]
pub struct Datagrams<'a> {
    batch: &'a Batch,
    next_entry: usize,
    /// The rest of the train being split, and its entry.
    train: Option<(&'a [u8], &'a Entry)>,
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = Datagram<'a>;

    #[inline]
    fn next(&mut self) -> Option<Datagram<'a>> {
        let batch = self.batch;
        let (rest, entry) = match self.train.take() {
            Some(train) => train,
            None => {
                let entry = batch.entries.get(self.next_entry)?;
                self.next_entry += 1;
                (batch.payload(entry), entry)
            }
        };
        let segment = usize::from(entry.segment_bytes);
        if segment == 0 || rest.len() <= segment {
            return Some(Datagram { payload: rest, entry, batch });
        }
        let (payload, rest) = rest.split_at(segment);
        self.train = Some((rest, entry));
        Some(Datagram { payload, entry, batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(payload: &[u8], segment_bytes: u16, port: u16) -> Frame<'_> {
        let peer = SocketAddr::from(([192, 0, 2, 1], port));
        Frame::datagram(peer, payload).at_listener(3).in_segments(segment_bytes)
    }

    #[test]
    fn a_train_with_a_short_tail_is_split_where_the_sender_cut_it() {
        let payload: Vec<u8> = (0..1700u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut batch = Batch::new(4096, 4, 0);
        assert!(batch.push(&frame(&payload, 500, 9), 77));
        let sizes: Vec<usize> = batch.iter().map(|d| d.payload().len()).collect();
        assert_eq!(sizes, [500, 500, 500, 200]);
        assert_eq!(batch.len(), 4);
        let joined: Vec<u8> = batch.iter().flat_map(|d| d.payload().to_vec()).collect();
        assert_eq!(joined, payload);
        assert!(batch.iter().all(|d| d.listener() == 3 && d.received_at_ns() == 77));
    }

    #[test]
    fn an_empty_datagram_is_one_datagram() {
        let mut batch = Batch::new(4096, 2, 0);
        assert!(batch.push(&frame(&[], 0, 9), 0));
        assert!(batch.push(&frame(&[], 500, 9), 0));
        assert_eq!(batch.len(), 2);
        assert_eq!(batch.iter().map(|d| d.payload().len()).collect::<Vec<_>>(), [0, 0]);
        assert!(!batch.push(&frame(&[], 0, 9), 0), "entries are bounded");
    }

    #[test]
    fn replies_join_until_size_peer_or_tail_ends_the_train() {
        let limits = TrainLimits::KERNEL;
        let mut batch = Batch::new(1 << 20, 512, 0);
        let body = [7u8; 100];
        for (size, port) in
            [(100, 1), (100, 1), (40, 1), (100, 1), (100, 2), (0, 2), (0, 2), (100, 2)]
        {
            assert!(batch.push_reply(&frame(&body[..size], 0, port), limits));
        }
        let shape: Vec<(u32, u16)> =
            batch.entries().iter().map(|e| (e.len, e.segment_bytes)).collect();
        assert_eq!(shape, [(240, 100), (100, 0), (100, 0), (0, 0), (0, 0), (100, 0)]);
        assert_eq!(batch.len(), 8);
        for _ in 0..200 {
            assert!(batch.push_reply(&frame(&body, 0, 3), limits));
        }
        assert!(batch.entries().iter().all(|e| e.len <= 6400), "at most 64 segments");
    }

    #[test]
    fn entries_kept_stay_in_order_and_next_to_the_rest() {
        let mut batch = Batch::new(4096, 8, 0);
        for port in 0..6 {
            assert!(batch.push(&frame(b"x", 0, port), 0));
        }
        let first = batch.keep_entries(1, 4, |distance| distance % 2 == 0);
        let ports: Vec<u16> = batch.entries()[first..].iter().map(|e| e.peer.port()).collect();
        assert_eq!(ports, [1, 3, 5]);
    }

    proptest! {
        /// The batch against the plainest model of it: a list of vectors.
        #[test]
        fn holds_what_was_pushed(frames in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..300), 0u16..120, any::<u16>()), 0..60)) {
            let mut batch = Batch::new(4096, 32, 0);
            let mut model: Vec<(Vec<u8>, u16)> = Vec::new();
            let (mut used, mut entries) = (0, 0);
            for (payload, segment, port) in &frames {
                let fits = used + payload.len() <= 4096 && entries < 32;
                prop_assert_eq!(batch.push(&frame(payload, *segment, *port), 1), fits);
                if !fits { continue; }
                used += payload.len();
                entries += 1;
                if *segment == 0 || payload.is_empty() {
                    model.push((payload.clone(), *port));
                } else {
                    model.extend(payload.chunks((*segment).into()).map(|c| (c.to_vec(), *port)));
                }
            }
            let got: Vec<(Vec<u8>, u16)> =
                batch.iter().map(|d| (d.payload().to_vec(), d.peer().port())).collect();
            prop_assert_eq!(batch.len(), got.len() as u64);
            prop_assert_eq!(got, model);
        }
    }
}
