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

mod error;
mod packet;
mod capture;
mod recording;
mod survey;
#[cfg(test)]
mod tests;

pub use crate::replay::capture::{BUFFER_MAX_BYTES, Capture, Captured};
pub use crate::replay::error::{ReplayError, Skipped};
pub use crate::replay::recording::{Playback, Recording, Records, Tape};
pub use crate::replay::survey::Survey;
