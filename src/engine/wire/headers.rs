//! Fields of a datagram's IP and UDP headers, where its listener asked for them. Kept in few bytes, because every frame of
//! a batch carries them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Destination, TTL and TOS; not known unless asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Unspecified: not known. IPv4 as mapped.
    address: Ipv6Addr,
    /// 0: not known.
    port: u16,
    /// 0: not known; no datagram arrives with a TTL of 0.
    hop_limit: u8,
    traffic_class: u8,
}

impl Default for Headers {
    fn default() -> Self {
        Self { address: Ipv6Addr::UNSPECIFIED, port: 0, hop_limit: 0, traffic_class: 0 }
    }
}

impl From<Option<IpAddr>> for Headers {
    /// Returns headers with an address to send from, or with none.
    fn from(local: Option<IpAddr>) -> Self {
        let address = local.map_or(Ipv6Addr::UNSPECIFIED, mapped);
        Self { address, ..Self::default() }
    }
}

impl Headers {
    /// Returns the headers of a datagram sent to `destination`. Replies leave from `local`, which differs from the
    /// destination for multicast and broadcast.
    pub(crate) fn new(
        destination: Option<SocketAddr>,
        local: Option<IpAddr>,
        hop_limit: u8,
        traffic_class: u8,
    ) -> Self {
        let port = destination.map_or(0, |destination| destination.port());
        let to = destination.map(|destination| destination.ip());
        // A directed broadcast does not look like one; from such an address nobody can answer.
        let group = |ip: &IpAddr| ip.is_multicast() || *ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        let address = to.filter(group).or(local).or(to).map_or(Ipv6Addr::UNSPECIFIED, mapped);
        Self { address, port, hop_limit, traffic_class }
    }

    /// Returns the address that replies leave from.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        let ip = self.address.to_canonical();
        let none = ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST;
        (!none).then_some(ip)
    }

    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        (self.port > 0).then(|| SocketAddr::new(self.address.to_canonical(), self.port))
    }

    pub(crate) fn hop_limit(&self) -> Option<u8> {
        (self.hop_limit > 0).then_some(self.hop_limit)
    }

    /// Returns the traffic class, which is known when the hop limit is.
    pub(crate) fn traffic_class(&self) -> Option<u8> {
        (self.hop_limit > 0).then_some(self.traffic_class)
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn to(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn what_was_not_asked_is_not_known() {
        let none = Headers::default();
        assert_eq!((none.local(), none.destination()), (None, None));
        assert_eq!((none.hop_limit(), none.traffic_class()), (None, None));
        assert_eq!(Headers::from(None), none);
        assert_eq!(Headers::from(ip("192.0.2.1")).local(), ip("192.0.2.1"));
        assert_eq!(Headers::from(ip("192.0.2.1")).destination(), None);
    }

    #[test]
    fn an_answer_comes_from_where_the_datagram_was_sent_to_if_it_can() {
        let local = ip("192.0.2.1");
        for (destination, answers_from, shown) in [
            ("192.0.2.1:9", local, "192.0.2.1:9"),
            ("[2001:db8::1]:9", ip("2001:db8::1"), "[2001:db8::1]:9"),
            ("239.1.2.3:9", None, "239.1.2.3:9"),
            ("255.255.255.255:9", None, "255.255.255.255:9"),
            // A directed broadcast: the interface's own address stands for it.
            ("192.0.2.255:9", local, "192.0.2.1:9"),
        ] {
            let local = if destination.starts_with('[') { answers_from } else { local };
            let headers = Headers::new(to(destination), local, 64, 0);
            assert_eq!(headers.local(), answers_from, "{destination}");
            assert_eq!(headers.destination(), to(shown), "{destination}");
            assert_eq!((headers.hop_limit(), headers.traffic_class()), (Some(64), Some(0)));
        }
        let foreign = Headers::new(to("198.51.100.1:53"), None, 0, 0);
        assert_eq!(foreign.local(), ip("198.51.100.1"));
    }
}
