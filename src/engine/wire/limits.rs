//! Limits of UDP datagrams and of trains, defined once.

/// The largest payload of one UDP datagram over IPv4, bytes: 65535 less 20 (IP) less 8 (UDP). IPv6 allows 20 more,
/// which no part of this program uses.
pub const PAYLOAD_BYTES_MAX: usize = 65_507;

/// The largest frame that the kernel hands over, bytes: a train coalesced by UDP_GRO, or a datagram. The length of a
/// UDP datagram is a 16-bit field (RFC 768).
pub const FRAME_BYTES_MAX: usize = 65_535;

/// The most datagrams of one segmented send (UDP_MAX_SEGMENTS in linux/udp.h; 128 since Linux 6.9).
pub const TRAIN_DATAGRAMS_MAX: usize = 64;
