//! The reasons why a capture, or a packet of it, is not replayed.

use std::fmt;
use std::io;

use crate::replay::packet::Skip;

/// The reason why a capture cannot be replayed, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Opening or reading failed.
    #[error("cannot read {name}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a capture.
    #[error(
        "{name} is not a capture: {found}; pcap and pcapng can be read, as `tcpdump -w` and \
         Wireshark write them"
    )]
    NotACapture {
        /// The file.
        name: String,
        /// The content found instead.
        found: String,
    },
    /// The file is compressed.
    #[error("{name} is compressed; unpack it first: `{unpack} < {name} > capture.pcap`")]
    Compressed {
        /// The file.
        name: String,
        /// The program that unpacks it.
        unpack: &'static str,
    },
    /// The packets start with something other than Ethernet, Linux cooked, loopback or IP.
    #[error(
        "{name} has link type {number}, which is not read here (Ethernet, Linux cooked, BSD loopback \
         and raw IP are; https://www.tcpdump.org/linktypes.html); capture on an interface that has \
         one of these"
    )]
    LinkUnsupported {
        /// The file.
        name: String,
        /// The LINKTYPE number.
        number: u32,
    },
    /// The file ends inside a record: the capture was stopped hard, or copied in part.
    #[error(
        "{name} ends inside record {record}; what is before it can be kept: \
         `tcpdump -r {name} -w whole.pcap`"
    )]
    CutOff {
        /// The file.
        name: String,
        /// Counted from 1, packets and other blocks alike.
        record: u64,
    },
    /// A record contradicts itself.
    #[error(
        "record {record} of {name} is broken: {what}; what is before it can be kept: \
         `tcpdump -r {name} -w whole.pcap`"
    )]
    Broken {
        /// The file.
        name: String,
        /// Counted from 1, packets and other blocks alike.
        record: u64,
        /// The contradiction.
        what: String,
    },
    /// Part of a journal was removed during the replay.
    #[error(
        "{name}: retention took a segment that was to be replayed; begin with a later --since, or replay \
         a copy"
    )]
    Gone {
        /// The journal.
        name: String,
    },
    /// The journal has no record to send.
    #[error(
        "{name} holds no record to replay{}; `ringest journal ls` tells of what times it has some",
        nothing_but(.skipped)
    )]
    NoRecord {
        /// The journal.
        name: String,
        /// The packets found instead.
        skipped: Skipped,
    },
    /// The capture has no datagram to send.
    #[error(
        "{name} holds no whole UDP datagram ({skipped}); capture some with `tcpdump -w FILE udp`"
    )]
    NoUdp {
        /// The file.
        name: String,
        /// The packets found instead.
        skipped: Skipped,
    },
}

fn nothing_but(skipped: &Skipped) -> String {
    if skipped.total() > 0 { format!(" ({skipped})") } else { " that is asked for".to_owned() }
}

/// Packets of a capture that are not replayed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// ARP, LLDP and the like.
    pub not_ip: u64,
    /// TCP, ICMP and the like.
    pub not_udp: u64,
    /// Fragments of UDP datagrams.
    pub fragments: u64,
    /// Cut by the snap length of the capture.
    pub truncated: u64,
    /// Their lengths contradict each other.
    pub malformed: u64,
    /// Payloads over 65507 bytes, which a socket cannot send.
    pub oversize: u64,
    /// From an interface (pcapng) whose link type is not read here, or that was never described.
    pub link_unsupported: u64,
    /// Damaged places of a journal.
    pub damaged: u64,
}

impl Skipped {
    /// Returns the sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.reasons().iter().map(|(_, count)| count).sum()
    }

    /// Returns each reason in words, with its count.
    #[must_use]
    pub fn reasons(&self) -> [(&'static str, u64); 8] {
        [
            ("not IP", self.not_ip),
            ("not UDP", self.not_udp),
            ("fragments", self.fragments),
            ("cut by the snap length", self.truncated),
            ("malformed", self.malformed),
            ("too large", self.oversize),
            ("of an unsupported link type", self.link_unsupported),
            ("damaged", self.damaged),
        ]
    }

    pub(crate) fn count(&mut self, skip: Skip) {
        match skip {
            Skip::NotIp => self.not_ip += 1,
            Skip::NotUdp => self.not_udp += 1,
            Skip::Fragment => self.fragments += 1,
            Skip::Truncated => self.truncated += 1,
            Skip::Malformed => self.malformed += 1,
            Skip::Oversize => self.oversize += 1,
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (reason, count) in self.reasons().into_iter().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{count} {reason}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("it holds no packet") } else { Ok(()) }
    }
}
