//! Which records are wanted.

use std::net::IpAddr;

use memchr::memmem::Finder;

use crate::journal::format::{Footer, Record};

/// What a record must be to be wanted. The default wants all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Received then or later, ns since 1970.
    pub since_unix_ns: Option<u64>,
    /// Received before then.
    pub until_unix_ns: Option<u64>,
    /// Of this address, and this port if one is given.
    pub peer: Option<(IpAddr, Option<u16>)>,
    /// Holding these bytes.
    pub holds: Option<Finder<'static>>,
}

impl Selection {
    /// The same, of those that hold some bytes.
    #[must_use]
    pub fn holding(self, bytes: &[u8]) -> Self {
        Self { holds: Some(Finder::new(bytes).into_owned()), ..self }
    }

    /// Whether it wants all there are.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        let Self { since_unix_ns, until_unix_ns, peer, holds } = self;
        since_unix_ns.is_none() && until_unix_ns.is_none() && peer.is_none() && holds.is_none()
    }

    /// Whether it wants this one.
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

    /// Whether a sealed segment may hold one that is wanted.
    #[must_use]
    pub fn may_want(&self, footer: &Footer) -> bool {
        self.since_unix_ns.is_none_or(|since| footer.last_unix_ns >= since)
            && self.until_unix_ns.is_none_or(|until| footer.first_unix_ns < until)
    }
}
