//! Reads a capture file as a stream of datagrams.
//!
//! The buffer holds at least one record and never grows past [`BUFFER_MAX_BYTES`], so a capture may be
//! of any size. `pcap-parser` reads the container. The file may hold any bytes.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::net::SocketAddr;
use std::path::Path;

use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, PcapHeader, PcapNGReader};

use crate::replay::error::{ReplayError, Skipped};
use crate::replay::packet;
use crate::replay::packet::Link;

/// The buffer to start with. pcap records hold at most 262144 bytes as tools write them.
const BUFFER_BYTES: usize = 1 << 20;

/// The largest record that is read. pcapng has blocks without packets; a larger one is taken for
/// garbage.
pub const BUFFER_MAX_BYTES: usize = 16 << 20;

/// Bytes read to recognise the format: at least the whole first block of a pcapng file.
const HEAD_BYTES: u64 = 64 << 10;

/// The most interfaces of a pcapng section; no host has more.
const INTERFACES_MAX: usize = 1 << 16;

/// One datagram of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// Time after the first datagram, ns. Never less than that of the one before.
    pub offset_ns: u64,
    /// The sender; each sender is a flow.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
    /// The payload, up to 65507 bytes.
    pub payload: &'a [u8],
}

/// A capture that is being read.
pub struct Capture {
    name: String,
    reader: Box<dyn PcapReaderIterator + Send>,
    /// Bytes of the last record, which the reader still holds.
    held_bytes: usize,
    ended: bool,
    state: State,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("name", &self.name).field("state", &self.state).finish()
    }
}

/// The state of reading.
#[derive(Debug, Default)]
struct State {
    /// The interfaces of the current section; a pcap file has one.
    interfaces: Vec<Interface>,
    records: u64,
    datagrams: u64,
    skipped: Skipped,
    /// Time of the first datagram, ns since 1970.
    first_ns: Option<i128>,
    offset_ns: u64,
    backwards: u64,
    payload: Vec<u8>,
}

/// The format of one interface's packets.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Option<Link>,
    /// Ticks of a second; `None` if the file's value is impossible.
    ticks_per_s: Option<u64>,
    offset_s: i64,
}

/// One packet of the file, with its time in ticks.
struct Record<'a> {
    interface: usize,
    /// `None` for simple packet blocks, which have no time.
    ticks: Option<u64>,
    data: &'a [u8],
    is_cut: bool,
}

impl Capture {
    /// Opens a capture and reads its first bytes.
    ///
    /// # Errors
    /// The file cannot be read, is no capture, or (pcap) its link type is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReplayError> {
        let name = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(file) => Self::read(name, file),
            Err(source) => Err(ReplayError::Read { name, source }),
        }
    }

    /// Opens a capture from any reader; `name` is for messages.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn read(name: String, mut from: impl Read + Send + 'static) -> Result<Self, ReplayError> {
        let mut head = Vec::new();
        if let Err(source) = from.by_ref().take(HEAD_BYTES).read_to_end(&mut head) {
            return Err(ReplayError::Read { name, source });
        }
        let not_a_capture = |found: String| ReplayError::NotACapture { name: name.clone(), found };
        if let Some(unpack) = unpacker(&head) {
            return Err(ReplayError::Compressed { name, unpack });
        }
        let Some(magic) = head.first_chunk::<4>().copied() else {
            return Err(not_a_capture(format!("it has {} bytes", head.len())));
        };
        let from = Cursor::new(head).chain(from);
        let opened: Result<Box<dyn PcapReaderIterator + Send>, _> = if magic == *b"\n\r\r\n" {
            PcapNGReader::new(BUFFER_BYTES, from).map(|reader| Box::new(reader) as _)
        } else {
            LegacyPcapReader::new(BUFFER_BYTES, from).map(|reader| Box::new(reader) as _)
        };
        let reader = opened.map_err(|error| {
            let magic = u32::from_be_bytes(magic);
            not_a_capture(match error {
                PcapError::Incomplete(_) => "it ends inside its first record".to_owned(),
                PcapError::HeaderNotRecognized => format!("it starts with 0x{magic:08x}"),
                _ => format!("it starts with 0x{magic:08x}, but its first record is broken"),
            })
        })?;
        let mut capture =
            Self { name, reader, held_bytes: 0, ended: false, state: State::default() };
        capture.enter_header()?;
        Ok(capture)
    }

    /// Reads the link type from a pcap file's header, which holds for all packets.
    fn enter_header(&mut self) -> Result<(), ReplayError> {
        if let Ok((bytes, PcapBlockOwned::LegacyHeader(header))) = self.reader.next() {
            let interface = Interface::of_pcap(&header).map_err(|number| {
                ReplayError::LinkUnsupported { name: self.name.clone(), number }
            })?;
            self.held_bytes = bytes;
            self.state.interfaces.push(interface);
        }
        Ok(())
    }

    /// Returns the next datagram, or `None` at the end. Packets without a whole UDP datagram are skipped
    /// and counted in [`Self::skipped`].
    ///
    /// # Errors
    /// The file ends inside a record, a record is broken, reading fails, or the file has no datagram. All
    /// datagrams before it were returned; after an error it returns `None`.
    pub fn next_datagram(&mut self) -> Result<Option<Captured<'_>>, ReplayError> {
        while !self.ended {
            self.reader.consume(std::mem::take(&mut self.held_bytes));
            let record = self.state.records + 1;
            match self.reader.next() {
                Ok((bytes, block)) => {
                    self.held_bytes = bytes;
                    self.state.records = record;
                    if let Some((source, destination)) = self.state.enter(block) {
                        let State { offset_ns, payload, .. } = &self.state;
                        let offset_ns = *offset_ns;
                        return Ok(Some(Captured { offset_ns, source, destination, payload }));
                    }
                }
                Err(error) => {
                    let error = error.to_owned_vec();
                    self.ended = true;
                    self.go_on_after(&error, record)?;
                }
            }
        }
        Ok(None)
    }

    /// Reads more of the file if the error only means that more is needed; else returns it.
    fn go_on_after(&mut self, error: &PcapError<&[u8]>, record: u64) -> Result<(), ReplayError> {
        let name = || self.name.clone();
        let broken = |what: String| Err(ReplayError::Broken { name: name(), record, what });
        match error {
            PcapError::Eof => return self.at_end(),
            PcapError::UnexpectedEof if self.reader.data().is_empty() => return self.at_end(),
            PcapError::UnexpectedEof => return Err(ReplayError::CutOff { name: name(), record }),
            PcapError::Incomplete(_) | PcapError::BufferTooSmall => {}
            _ => return broken("its lengths contradict each other".to_owned()),
        }
        let before = self.reader.data().len();
        if self.reader.refill().is_err() {
            let source = io::Error::other("reading failed");
            return Err(ReplayError::Read { name: name(), source });
        }
        let gained = self.reader.data().len() - before;
        if gained == 0 && !self.reader.reader_exhausted() {
            // One record fills the buffer.
            let larger = before.saturating_mul(2).max(BUFFER_BYTES);
            if larger > BUFFER_MAX_BYTES || !self.reader.grow(larger) {
                return broken(format!("it claims more than {BUFFER_MAX_BYTES} bytes"));
            }
        }
        self.ended = false;
        Ok(())
    }

    fn at_end(&self) -> Result<(), ReplayError> {
        if self.state.datagrams == 0 {
            let skipped = self.state.skipped;
            return Err(ReplayError::NoUdp { name: self.name.clone(), skipped });
        }
        Ok(())
    }

    /// Returns the packets skipped so far.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        self.state.skipped
    }

    /// Returns the number of datagrams returned so far.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.state.datagrams
    }

    /// Returns the number of datagrams with a time before that of an earlier one, as several cores or
    /// interfaces can produce; they get the offset of the one before.
    #[must_use]
    pub fn backwards(&self) -> u64 {
        self.state.backwards
    }
}

/// Returns the program that unpacks a file with this start.
fn unpacker(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip -dc"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd -dc"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz -dc"),
        [b'B', b'Z', b'h', ..] => Some("bzip2 -dc"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4 -dc"),
        _ => None,
    }
}

impl Interface {
    fn of_pcap(header: &PcapHeader) -> Result<Self, u32> {
        // The upper bits hold the length of the frame check sequence, which IP's length leaves out.
        let number = header.network.0.cast_unsigned() & 0xffff;
        let link = Some(Link::of(number).ok_or(number)?);
        let ticks = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
        Ok(Self { link, ticks_per_s: Some(ticks), offset_s: 0 })
    }

    /// Decodes `if_tsresol` of pcapng: a power of ten, or of two if the top bit is set.
    fn ticks_per_s(resolution: u8) -> Option<u64> {
        match resolution & 0x7f {
            power if resolution >= 0x80 => 1u64.checked_shl(power.into()),
            power => 10u64.checked_pow(power.into()),
        }
    }

    /// Converts ticks to ns since 1970.
    fn time_ns(&self, ticks: u64) -> Option<i128> {
        let per_s = i128::from(self.ticks_per_s?);
        let ns = i128::from(ticks) * 1_000_000_000 / per_s;
        Some(ns + i128::from(self.offset_s) * 1_000_000_000)
    }
}

impl State {
    /// Reads a block. If it holds a datagram, puts it into `payload` and returns source and destination.
    fn enter(&mut self, block: PcapBlockOwned<'_>) -> Option<(SocketAddr, SocketAddr)> {
        match block {
            PcapBlockOwned::Legacy(packet) => {
                let per_s = self.interfaces.first()?.ticks_per_s?;
                let ticks = u64::from(packet.ts_sec) * per_s + u64::from(packet.ts_usec);
                self.enter_packet(&Record {
                    interface: 0,
                    ticks: Some(ticks),
                    data: packet.data,
                    is_cut: packet.caplen < packet.origlen,
                })
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => self.enter_packet(&Record {
                interface: packet.if_id.try_into().unwrap_or(usize::MAX),
                ticks: Some(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low)),
                data: packet.packet_data(),
                is_cut: packet.caplen < packet.origlen,
            }),
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let data = packet.packet_data();
                let is_cut = (data.len() as u64) < u64::from(packet.origlen);
                self.enter_packet(&Record { interface: 0, ticks: None, data, is_cut })
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                let swapped = block.block_type != pcap_parser::pcapng::IDB_MAGIC;
                // The crate reads this option as little-endian, whatever the section's order.
                let offset_s =
                    if swapped { block.if_tsoffset.swap_bytes() } else { block.if_tsoffset };
                if self.interfaces.len() < INTERFACES_MAX {
                    self.interfaces.push(Interface {
                        link: u32::try_from(block.linktype.0).ok().and_then(Link::of),
                        ticks_per_s: Interface::ticks_per_s(block.if_tsresol),
                        offset_s,
                    });
                }
                None
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                None
            }
            PcapBlockOwned::NG(_) | PcapBlockOwned::LegacyHeader(_) => None,
        }
    }

    fn enter_packet(&mut self, record: &Record<'_>) -> Option<(SocketAddr, SocketAddr)> {
        let interface = self.interfaces.get(record.interface).copied();
        let Some((interface, link)) = interface.and_then(|it| Some((it, it.link?))) else {
            self.skipped.link_unsupported += 1;
            return None;
        };
        match packet::find(link, record.data, record.is_cut) {
            Ok(found) => {
                self.payload.clear();
                self.payload.extend_from_slice(found.payload);
                self.datagrams += 1;
                self.enter_time(record.ticks.and_then(|ticks| interface.time_ns(ticks)));
                Some((found.source, found.destination))
            }
            Err(skip) => {
                self.skipped.count(skip);
                None
            }
        }
    }

    /// Advances the offset, never back. A datagram without a time gets that of the one before.
    fn enter_time(&mut self, time_ns: Option<i128>) {
        let Some(time_ns) = time_ns else { return };
        let first_ns = *self.first_ns.get_or_insert(time_ns);
        let since = time_ns - first_ns;
        self.backwards += u64::from(since < i128::from(self.offset_ns));
        let offset_ns = u64::try_from(since.max(0)).unwrap_or(u64::MAX);
        self.offset_ns = self.offset_ns.max(offset_ns);
    }
}
