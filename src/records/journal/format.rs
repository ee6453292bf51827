//! The on-disk format of a segment. All numbers are little endian. docs/journal.md describes the same in
//! prose.
//!
//! ```text
//!  0          128                                       sealed segments go on:
//!  │ header   │ record │ record │ … │ record │            │ index │ footer │
//!             ▲ each at a multiple of 8
//!
//!  header    twice, so that a damaged byte there does not cost the whole segment:
//!            "RINGJRNL" version:u16 header_bytes:u16 worker:u16 flags:u16 sequence:u64 salt:u64
//!            created_unix_ns:u64 zero:[u8; 20] crc32c:u32
//!  record    magic:u32 crc32c:u32 length:u16 flags:u16 listener:u16 port:u16 ip:[u8; 16] received_unix_ns:u64
//!            payload, zeros to a multiple of 8
//!  index     {offset:u64 records_before:u64 latest_unix_ns:u64 zero:u32 crc32c:u32} every 64 KiB
//!  footer    "RINGSEAL" version:u16 zero:[u8; 6] data_end:u64 index_entries:u64 records:u64
//!            payload_bytes:u64 first_unix_ns:u64 last_unix_ns:u64 blake3:[u8; 32] zero:[u8; 20]
//!            crc32c:u32
//! ```
//! A record's checksum also covers the segment's salt and the record's offset; a footer's checksum covers
//! the salt. A peer knows neither, so no payload can pass for a record or a footer: the search for the next
//! record behind damage finds real records only, and only a segment's writer can seal it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Flag of a record that belongs to the same datagram as the record before it.
const CONTINUED: u16 = 1;
/// Version of the format.
pub const VERSION: u16 = 1;
/// Bytes of the header, before the first record.
pub const HEADER_BYTES: usize = 2 * HEADER_COPY_BYTES;
/// Bytes of one of the two copies of the header.
const HEADER_COPY_BYTES: usize = 64;
/// Bytes of a record's head, before its payload.
pub const RECORD_HEAD_BYTES: usize = 40;
/// Bytes of the footer of a sealed segment.
pub const FOOTER_BYTES: usize = 112;
/// Bytes of one entry of the index.
pub const INDEX_ENTRY_BYTES: usize = 32;
/// The index has one entry for the first record behind each multiple of this distance, bytes. Smaller: the
/// index grows. Larger: a search by time reads more records.
pub const INDEX_EVERY_BYTES: u64 = 64 << 10;
/// The largest payload of a record, bytes: the format's own limit, above every UDP payload.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 65_535;

const SEGMENT_MAGIC: [u8; 8] = *b"RINGJRNL";
const SEAL_MAGIC: [u8; 8] = *b"RINGSEAL";
/// Marks the beginning of a record. All four bytes differ, so a shifted copy does not match.
const RECORD_MAGIC: u32 = 0x1ce7_0b5d;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Index of the worker that writes the segment.
    pub worker: u16,
    /// Number of the segment among this worker's, from 1 up.
    pub sequence: u64,
    /// Random number that is part of every checksum of the segment. Must stay secret.
    pub salt: u64,
    /// When the segment was created, ns since 1970.
    pub created_unix_ns: u64,
}

/// Writes `value` at offset `at`.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    take(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    take(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    take(bytes, at).map(u64::from_le_bytes)
}

/// The error for a valid header of an unknown version.
pub(crate) const OTHER_VERSION: &str = "of another version than this program knows";

impl Header {
    /// Encodes the value.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut whole = [0; HEADER_BYTES];
        for copy in whole.chunks_exact_mut(HEADER_COPY_BYTES) {
            copy.copy_from_slice(&self.encode_copy());
        }
        whole
    }

    fn encode_copy(&self) -> [u8; HEADER_COPY_BYTES] {
        let mut bytes = [0; HEADER_COPY_BYTES];
        put(&mut bytes, 0, SEGMENT_MAGIC);
        put(&mut bytes, 8, VERSION.to_le_bytes());
        put(&mut bytes, 10, 128u16.to_le_bytes());
        put(&mut bytes, 12, self.worker.to_le_bytes());
        put(&mut bytes, 16, self.sequence.to_le_bytes());
        put(&mut bytes, 24, self.salt.to_le_bytes());
        put(&mut bytes, 32, self.created_unix_ns.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        put(&mut bytes, 60, crc.to_le_bytes());
        bytes
    }

    /// Decodes a header. One undamaged copy is enough.
    ///
    /// # Errors
    /// A text that says why the bytes are not a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((first, second)) =
            bytes.get(..HEADER_BYTES).map(|two| two.split_at(HEADER_COPY_BYTES))
        else {
            return Err("shorter than a header");
        };
        Self::decode_copy(first).or_else(|wrong| {
            let either = |other| if other == OTHER_VERSION { other } else { wrong };
            Self::decode_copy(second).map_err(either)
        })
    }

    /// Returns whether both copies of the header are undamaged.
    #[must_use]
    pub fn is_whole(bytes: &[u8]) -> bool {
        let copies = bytes.chunks_exact(HEADER_COPY_BYTES).take(2);
        copies.filter(|copy| Self::decode_copy(copy).is_ok()).count() == 2
    }

    fn decode_copy(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "shorter than a header";
        if bytes[..8] != SEGMENT_MAGIC {
            return Err("not a segment of a ringest journal");
        }
        if u32_at(bytes, 60) != Some(crc32c::crc32c(&bytes[..60])) {
            return Err("its header is damaged");
        }
        if u16_at(bytes, 8) != Some(VERSION) {
            return Err(OTHER_VERSION);
        }
        Ok(Self {
            worker: u16_at(bytes, 12).ok_or(SHORT)?,
            sequence: u64_at(bytes, 16).ok_or(SHORT)?,
            salt: u64_at(bytes, 24).ok_or(SHORT)?,
            created_unix_ns: u64_at(bytes, 32).ok_or(SHORT)?,
        })
    }
}

/// A record. Its payload is borrowed from the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the engine received its datagram from the socket, ns since 1970.
    pub received_unix_ns: u64,
    /// The sender's address.
    pub peer: SocketAddr,
    /// Index of the listen address.
    pub listener: u16,
    /// Whether it belongs to the same datagram as the record before it.
    pub continued: bool,
    /// The payload, at most 65 535 bytes.
    pub payload: &'a [u8],
}

/// Returns the bytes that a record with this payload takes in a segment: head, payload, padding to a
/// multiple of 8.
#[must_use]
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEAD_BYTES + payload_bytes).next_multiple_of(8)
}

/// Computes the CRC32C of the record at `offset`. `head` is its head from the length field on.
fn checksum(salt: u64, offset: u64, head: &[u8], payload: &[u8]) -> u32 {
    let mut place = [0; 16];
    put(&mut place, 0, salt.to_le_bytes());
    put(&mut place, 8, offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&place), head);
    crc32c::crc32c_append(crc, payload)
}

impl Record<'_> {
    /// Encodes the record into `out`, which must be [`record_bytes`] long, for position `offset` of a
    /// segment.
    ///
    /// # Panics
    /// `out` has the wrong length, or the payload is longer than 65 535 bytes.
    pub fn encode(&self, out: &mut [u8], salt: u64, offset: u64) {
        assert!(self.payload.len() <= RECORD_PAYLOAD_BYTES_MAX, "no datagram is that long");
        let length = u16::try_from(self.payload.len()).unwrap_or(0);
        let flags = if self.continued { CONTINUED } else { 0 };
        let (head, body) = out.split_at_mut(RECORD_HEAD_BYTES);
        put(head, 0, RECORD_MAGIC.to_le_bytes());
        put(head, 8, length.to_le_bytes());
        put(head, 10, flags.to_le_bytes());
        put(head, 12, self.listener.to_le_bytes());
        put(head, 14, self.peer.port().to_le_bytes());
        let ip = match self.peer.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        put(head, 16, ip.octets());
        put(head, 32, self.received_unix_ns.to_le_bytes());
        let crc = checksum(salt, offset, &head[8..], self.payload);
        put(head, 4, crc.to_le_bytes());
        body[..self.payload.len()].copy_from_slice(self.payload);
        body[self.payload.len()..].fill(0);
    }
}

/// The result of looking for a record at a position of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A valid record, and its length with padding, bytes.
    Record(Record<'a>, usize),
    /// No record begins here.
    Nothing,
    /// A record may begin here, but its end is not in the buffer. Holds its length, bytes.
    Cut(usize),
}

/// Looks for a record at `offset` of a segment. `bytes` is the part of the segment from there on that is in
/// memory.
#[must_use]
pub fn record_at(bytes: &[u8], salt: u64, offset: u64) -> Found<'_> {
    let Some(head) = bytes.get(..RECORD_HEAD_BYTES) else {
        let magic = RECORD_MAGIC.to_le_bytes();
        let known = bytes.len().min(magic.len());
        let could_be = !bytes.is_empty() && bytes[..known] == magic[..known];
        return if could_be { Found::Cut(RECORD_HEAD_BYTES) } else { Found::Nothing };
    };
    let fields = || {
        let length = usize::from(u16_at(head, 8)?);
        let sound = u32_at(head, 0)? == RECORD_MAGIC && u16_at(head, 10)? & !CONTINUED == 0;
        sound.then_some((u32_at(head, 4)?, length))
    };
    let Some((crc, length)) = fields() else { return Found::Nothing };
    let whole = record_bytes(length);
    let Some(body) = bytes.get(RECORD_HEAD_BYTES..whole) else { return Found::Cut(whole) };
    let (payload, padding) = body.split_at(length);
    if checksum(salt, offset, &head[8..], payload) != crc || padding.iter().any(|byte| *byte != 0) {
        return Found::Nothing;
    }
    Found::Record(fields_of(head, payload), whole)
}

/// Decodes the record at the beginning of `bytes`, without checking it: [`record_at`] must have found it
/// there.
#[must_use]
pub(crate) fn known_record(bytes: &[u8]) -> Option<Record<'_>> {
    let (head, rest) = bytes.split_at_checked(RECORD_HEAD_BYTES)?;
    let length = usize::from(u16_at(head, 8)?);
    Some(fields_of(head, rest.get(..length)?))
}

fn fields_of<'a>(head: &[u8], payload: &'a [u8]) -> Record<'a> {
    let ip = Ipv6Addr::from(take::<16>(head, 16).unwrap_or_default()).to_canonical();
    Record {
        received_unix_ns: u64_at(head, 32).unwrap_or_default(),
        peer: SocketAddr::new(ip, u16_at(head, 14).unwrap_or_default()),
        listener: u16_at(head, 12).unwrap_or_default(),
        continued: u16_at(head, 10) == Some(CONTINUED),
        payload,
    }
}

/// An index entry: describes the first record behind a multiple of [`INDEX_EVERY_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the record in the segment, bytes.
    pub offset: u64,
    /// Number of records before it.
    pub records_before: u64,
    /// Latest receive time of this record and all before it, ns since 1970. Records are not sorted by time.
    pub latest_unix_ns: u64,
}

impl IndexEntry {
    /// Encodes the value.
    #[must_use]
    pub fn encode(&self) -> [u8; INDEX_ENTRY_BYTES] {
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        put(&mut bytes, 0, self.offset.to_le_bytes());
        put(&mut bytes, 8, self.records_before.to_le_bytes());
        put(&mut bytes, 16, self.latest_unix_ns.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        put(&mut bytes, 28, crc.to_le_bytes());
        bytes
    }

    /// Decodes an entry. Returns `None` if the bytes are too few or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let sound = u32_at(bytes, 28)? == crc32c::crc32c(&bytes[..28]);
        sound.then_some(Self {
            offset: u64_at(bytes, 0)?,
            records_before: u64_at(bytes, 8)?,
            latest_unix_ns: u64_at(bytes, 16)?,
        })
    }
}

/// The footer of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Offset of the index, which is the end of the records.
    pub data_end: u64,
    /// Number of index entries.
    pub index_entries: u64,
    /// Number of records.
    pub records: u64,
    /// Bytes of all payloads together.
    pub payload_bytes: u64,
    /// Receive time of the earliest record, ns since 1970; 0 if there is none.
    pub first_unix_ns: u64,
    /// Receive time of the latest record, ns since 1970; 0 if there is none.
    pub last_unix_ns: u64,
    /// BLAKE3 hash of everything before the footer.
    pub hash: [u8; 32],
}

impl Footer {
    /// Encodes the footer of the segment with this salt.
    #[must_use]
    pub fn encode(&self, salt: u64) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        put(&mut bytes, 0, SEAL_MAGIC);
        put(&mut bytes, 8, VERSION.to_le_bytes());
        let words = [
            self.data_end,
            self.index_entries,
            self.records,
            self.payload_bytes,
            self.first_unix_ns,
            self.last_unix_ns,
        ];
        for (index, word) in words.into_iter().enumerate() {
            put(&mut bytes, 16 + 8 * index, word.to_le_bytes());
        }
        put(&mut bytes, 64, self.hash);
        let crc = Self::checksum(salt, &bytes);
        put(&mut bytes, FOOTER_BYTES - 4, crc.to_le_bytes());
        bytes
    }

    /// Computes the checksum as if the footer began with its magic number, whatever its first bytes are.
    fn checksum(salt: u64, bytes: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &SEAL_MAGIC);
        crc32c::crc32c_append(crc, &bytes[SEAL_MAGIC.len()..FOOTER_BYTES - 4])
    }

    /// Returns the bytes of the index.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.index_entries.saturating_mul(INDEX_ENTRY_BYTES as u64)
    }

    /// Returns the size of the whole segment, bytes, or `None` if the numbers overflow.
    #[must_use]
    pub fn segment_bytes(&self) -> Option<u64> {
        self.data_end.checked_add(self.index_bytes())?.checked_add(FOOTER_BYTES as u64)
    }

    /// Returns whether the last bytes of a file are a damaged footer: either the magic number or the
    /// checksum of the rest matches.
    #[must_use]
    pub fn was_one(bytes: &[u8], salt: u64) -> bool {
        let Some(bytes) = bytes.len().checked_sub(FOOTER_BYTES).map(|at| &bytes[at..]) else {
            return false;
        };
        let crc = Self::checksum(salt, bytes);
        bytes[..8] == SEAL_MAGIC || u32_at(bytes, FOOTER_BYTES - 4) == Some(crc)
    }

    /// Decodes the footer from the last bytes of a file. Returns `None` if there is none, as in an open
    /// segment. A payload at the end of a file may look like a footer, but its sender does not know the
    /// salt.
    #[must_use]
    pub fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let at = bytes.len().checked_sub(FOOTER_BYTES)?;
        let bytes = &bytes[at..];
        let crc = Self::checksum(salt, bytes);
        let sound = bytes[..8] == SEAL_MAGIC && u32_at(bytes, FOOTER_BYTES - 4) == Some(crc);
        if !sound {
            return None;
        }
        Some(Self {
            data_end: u64_at(bytes, 16)?,
            index_entries: u64_at(bytes, 24)?,
            records: u64_at(bytes, 32)?,
            payload_bytes: u64_at(bytes, 40)?,
            first_unix_ns: u64_at(bytes, 48)?,
            last_unix_ns: u64_at(bytes, 56)?,
            hash: take(bytes, 64)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(payload: &[u8]) -> Record<'_> {
        let peer = "192.0.2.7:514".parse().unwrap();
        Record { received_unix_ns: 7, peer, listener: 3, continued: false, payload }
    }

    #[test]
    fn header_index_and_footer_come_back() {
        let header = Header { worker: 3, sequence: 9, salt: 77, created_unix_ns: 5 };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let entry = IndexEntry { offset: 64, records_before: 2, latest_unix_ns: 3 };
        assert_eq!(IndexEntry::decode(&entry.encode()), Some(entry));
        let footer = Footer {
            data_end: 1,
            index_entries: 2,
            records: 3,
            payload_bytes: 4,
            first_unix_ns: 5,
            last_unix_ns: 6,
            hash: [8; 32],
        };
        assert_eq!(Footer::decode(&footer.encode(7), 7), Some(footer));
        assert_eq!(Footer::decode(&footer.encode(7), 8), None, "of another segment");
        for at in 0..HEADER_BYTES {
            let mut bytes = header.encode();
            bytes[at] ^= 1;
            assert_eq!(Header::decode(&bytes), Ok(header), "{at}: by the other copy");
            assert!(!Header::is_whole(&bytes), "{at}");
            bytes[(at + 64) % HEADER_BYTES] ^= 1;
            assert!(Header::decode(&bytes).is_err(), "{at}");
        }
        assert!(Header::is_whole(&header.encode()));
        for at in 0..INDEX_ENTRY_BYTES {
            let mut bytes = entry.encode();
            bytes[at] ^= 1;
            assert_eq!(IndexEntry::decode(&bytes), None, "{at}");
        }
        for at in 0..FOOTER_BYTES {
            let mut bytes = footer.encode(7);
            bytes[at] ^= 1;
            assert_eq!(Footer::decode(&bytes, 7), None, "{at}");
            assert!(Footer::was_one(&bytes, 7), "{at}");
        }
    }

    #[test]
    fn a_record_counts_only_where_it_was_written() {
        let mut bytes = vec![0; record_bytes(5)];
        record(b"hello").encode(&mut bytes, 42, 64);
        assert_eq!(record_at(&bytes, 42, 64), Found::Record(record(b"hello"), 48));
        assert_eq!(record_at(&bytes, 42, 72), Found::Nothing, "moved");
        assert_eq!(record_at(&bytes, 43, 64), Found::Nothing, "of another segment");
        for cut in 1..bytes.len() {
            assert!(matches!(record_at(&bytes[..cut], 42, 64), Found::Cut(_)), "{cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let found = record_at(&bytes, 42, 64);
                assert!(!matches!(found, Found::Record(..)), "{at} {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (record_at(&bytes, 1, 64), Header::decode(&bytes), Footer::decode(&bytes, 1));
            let _ = IndexEntry::decode(&bytes);
        }

        #[test]
        fn every_record_comes_back(
            payload in proptest::collection::vec(any::<u8>(), 0..2000), salt: u64, ip: u128, port: u16,
            continued: bool,
        ) {
            let ip = Ipv6Addr::from(ip).to_canonical();
            let record = Record { peer: SocketAddr::new(ip, port), continued, ..record(&payload) };
            let mut bytes = vec![0xff; record_bytes(payload.len())];
            record.encode(&mut bytes, salt, 640);
            prop_assert_eq!(record_at(&bytes, salt, 640), Found::Record(record, bytes.len()));
        }
    }
}
