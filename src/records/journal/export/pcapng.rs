//! Export to a packet capture (pcapng, draft-ietf-opsawg-pcapng), as if the datagrams had been captured on
//! receipt: IP and UDP headers around each record, nanosecond times, one interface a listener.
//!
//! Only three kinds of blocks are needed, so they are written here; etherparse builds the headers.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};

use crate::journal::export::exporter::Exporter;
use crate::journal::format::Record;

/// IPv4 address written for a listener whose address is not known (TEST-NET-1, RFC 5737).
pub const PLACEHOLDER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// IPv6 address written for a listener whose address is not known (RFC 3849).
pub const PLACEHOLDER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Port written for listener 0 when its address is not known; other listeners follow.
pub const PORT_FIRST: u16 = 60_000;

/// Link type: packets begin with an IPv4 or IPv6 header.
const LINKTYPE_RAW: u16 = 101;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
/// 10^-9 s.
const NANOSECONDS: u8 = 9;

/// Exports records to a packet capture.
#[derive(Debug)]
pub struct Pcapng<W> {
    out: W,
    listeners: Vec<SocketAddr>,
    /// Interface number of each listener met so far.
    interfaces: HashMap<u16, u32>,
    block: Vec<u8>,
}

impl<W: Write> Pcapng<W> {
    /// Starts the export to `out`. `listeners` are the addresses of the listeners by index, as far as they
    /// are known.
    ///
    /// # Errors
    /// Writing to `out` failed.
    pub fn new(out: W, listeners: Vec<SocketAddr>) -> io::Result<Self> {
        let mut this = Self { out, listeners, interfaces: HashMap::new(), block: Vec::new() };
        // Byte order mark, version 1.0, and a section length of "unknown".
        this.block.extend(0x1a2b_3c4d_u32.to_le_bytes());
        this.block.extend([1, 0, 0, 0]);
        this.block.extend([0xff; 8]);
        this.option(USER_APPLICATION, concat!("ringest ", env!("CARGO_PKG_VERSION")).as_bytes());
        this.end_options();
        this.write(SECTION)?;
        Ok(this)
    }

    /// Returns the destination address written for a record of this listener.
    fn destination(&self, listener: u16, v6: bool) -> SocketAddr {
        let place = if v6 { IpAddr::V6(PLACEHOLDER_V6) } else { IpAddr::V4(PLACEHOLDER_V4) };
        let Some(told) = self.listeners.get(usize::from(listener)) else {
            return SocketAddr::new(place, PORT_FIRST.saturating_add(listener));
        };
        // A socket on [::] also receives IPv4; for a wildcard address the real destination is not known.
        let fits = told.is_ipv6() == v6 && !told.ip().is_unspecified();
        SocketAddr::new(if fits { told.ip() } else { place }, told.port())
    }

    /// Returns the interface number of a listener. Writes its description when it is first met.
    fn interface(&mut self, listener: u16) -> io::Result<u32> {
        if let Some(known) = self.interfaces.get(&listener) {
            return Ok(*known);
        }
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.interfaces.insert(listener, number);
        let name = match self.listeners.get(usize::from(listener)) {
            Some(address) => format!("listener {listener}: {address}"),
            None => format!("listener {listener}"),
        };
        // Snapshot length 0: packets are never cut.
        self.block.extend([LINKTYPE_RAW.to_le_bytes(), [0; 2], [0; 2], [0; 2]].concat());
        self.option(INTERFACE_NAME, name.as_bytes());
        self.option(TIME_RESOLUTION, &[NANOSECONDS]);
        self.end_options();
        self.write(INTERFACE)?;
        Ok(number)
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.block.extend(code.to_le_bytes());
        self.block.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
        self.block.extend(value);
        self.pad();
    }

    fn end_options(&mut self) {
        self.block.extend([0; 4]);
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Writes the collected bytes as a block of this kind.
    fn write(&mut self, kind: u32) -> io::Result<()> {
        let bytes = u32::try_from(self.block.len() + 12).unwrap_or(0).to_le_bytes();
        self.out.write_all(&[kind.to_le_bytes(), bytes].concat())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&bytes)?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Exporter for Pcapng<W> {
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool> {
        let destination = self.destination(record.listener, record.peer.is_ipv6());
        let Some(headers) = headers(record.peer, destination, record.payload) else {
            return Ok(false);
        };
        let interface = self.interface(record.listener)?;
        let [high, low] = [record.received_unix_ns >> 32, record.received_unix_ns & 0xffff_ffff]
            .map(|half| u32::try_from(half).unwrap_or(0));
        let bytes = u32::try_from(headers.len() + record.payload.len()).unwrap_or(0);
        let fields = [interface, high, low, bytes, bytes].map(u32::to_le_bytes);
        self.block.extend(fields.as_flattened());
        self.block.extend(headers);
        self.block.extend(record.payload);
        self.pad();
        self.write(PACKET)?;
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Builds IP and UDP headers with checksums. Returns `None` if the payload is too long for the address
/// family.
fn headers(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let bytes = u16::try_from(payload.len() + 8).ok()?;
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let (source, target) = (source.octets(), target.octets());
            let mut ip = Ipv4Header::new(bytes, 64, IpNumber::UDP, source, target).ok()?;
            ip.header_checksum = ip.calc_header_checksum();
            let udp = UdpHeader::with_ipv4_checksum(from.port(), to.port(), &ip, payload).ok()?;
            Some([&ip.to_bytes()[..], &udp.to_bytes()].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let ip = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: bytes,
                next_header: IpNumber::UDP,
                hop_limit: 64,
                source: source.octets(),
                destination: target.octets(),
            };
            let udp = UdpHeader::with_ipv6_checksum(from.port(), to.port(), &ip, payload).ok()?;
            Some([&ip.to_bytes()[..], &udp.to_bytes()].concat())
        }
        _ => None,
    }
}
