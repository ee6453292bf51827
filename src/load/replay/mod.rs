//! Reads recordings to replay: the UDP payloads of a capture file (pcap or pcapng), or the records of a
//! journal, in order and with their times.
//!
//! ```text
//!   file ─► capture: records, times ─► packet: link, VLAN, IP, UDP ─► payload, offset, flow
//!                                         └─► skipped, counted by reason
//! ```
//!
//! Payloads are sent as they were captured. A train captured on the sending host before
//! it was segmented (UDP_SEGMENT) looks like one large datagram there, and is replayed as one.

#[cfg(test)]
pub(crate) mod export_tests;

/// The reasons why a recording or a packet is not replayed.
mod error;
/// Finds the UDP datagram in a packet.
mod packet;
/// Reads capture files.
mod capture;
/// A capture or the records of a journal, behind one type.
mod recording;
/// The totals of a recording, read before it is sent.
mod survey;
#[cfg(test)]
mod tests;

pub use crate::replay::capture::{BUFFER_MAX_BYTES, Capture, Captured};
pub use crate::replay::error::{ReplayError, Skipped};
pub use crate::replay::recording::{Playback, Recording, Records, Tape};
pub use crate::replay::survey::Survey;
