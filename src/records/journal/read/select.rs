//! Selects records by time, peer and content.

use std::net::IpAddr;

use memchr::memmem::Finder;

use crate::journal::format::{Footer, Record};

/// Conditions that a record must meet to be selected. The default selects all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Received at this time or later, ns since 1970.
    pub since_unix_ns: Option<u64>,
    /// Received before this time, ns since 1970.
    pub until_unix_ns: Option<u64>,
    /// From this address, and from this port if one is given.
    pub peer: Option<(IpAddr, Option<u16>)>,
    /// Payload contains these bytes.
    pub holds: Option<Finder<'static>>,
}

impl Selection {
    /// Returns the selection narrowed to payloads that contain `bytes`.
    #[must_use]
    pub fn holding(self, bytes: &[u8]) -> Self {
        Self { holds: Some(Finder::new(bytes).into_owned()), ..self }
    }

    /// Returns whether it selects every record.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        let Self { since_unix_ns, until_unix_ns, peer, holds } = self;
        since_unix_ns.is_none() && until_unix_ns.is_none() && peer.is_none() && holds.is_none()
    }

    /// Returns whether it selects this record.
    #[must_use]
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let time = record.received_unix_ns;
        let is_of = |(ip, port): (IpAddr, Option<u16>)| {
            record.peer.ip() == ip && port.is_none_or(|port| record.peer.port() == port)
        };
        self.since_unix_ns.is_none_or(|since| time >= since)
            && self.until_unix_ns.is_none_or(|until| time < until)
            && self.peer.is_none_or(is_of)
            && self.holds.as_ref().is_none_or(|holds| holds.find(record.payload).is_some())
    }

    /// Returns whether a sealed segment may contain a selected record, judged by its footer.
    #[must_use]
    pub fn may_want(&self, footer: &Footer) -> bool {
        self.since_unix_ns.is_none_or(|since| footer.last_unix_ns >= since)
            && self.until_unix_ns.is_none_or(|until| footer.first_unix_ns < until)
    }
}
