//! The UDP payloads of a capture file (pcap or pcapng), or the records of a journal, in order and with
//! their pace.
//!
//! ```text
//!   file ─► capture: records, times ─► packet: link, VLAN, IP, UDP ─► payload, offset, flow
//!                                         └─► passed over, counted by reason
//! ```
//!
//! What goes out again is the payload as it was captured. A train captured on the sending host before
//! it was segmented (UDP_SEGMENT) looks like one large datagram there, and is replayed as one.

#[cfg(test)]
pub(crate) mod export_tests;

/// Reasons why a capture, or a packet of one, is not replayed.
mod error;
/// Finds the UDP datagram in a captured packet, or the reason why there is none to send.
mod packet;
/// Reads a capture file as a stream of datagrams.
mod capture;
/// The source of a replay: a capture file, or records of a journal.
mod recording;
/// Surveys a capture before any of it is sent.
mod survey;
#[cfg(test)]
mod tests;

pub use crate::replay::capture::{BUFFER_MAX_BYTES, Capture, Captured};
pub use crate::replay::error::{ReplayError, Skipped};
pub use crate::replay::recording::{Playback, Recording, Records, Tape};
pub use crate::replay::survey::Survey;
