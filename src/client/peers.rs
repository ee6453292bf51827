//! The peers of a client: found by address, in the order they were given.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::error::PeerError;
use crate::errqueue::canonical;
use crate::route::{Route, is_for_many};

/// All peers.
#[derive(Debug)]
pub(crate) struct Peers {
    addresses: Vec<SocketAddr>,
    routes: Vec<Route>,
    by_address: HashMap<SocketAddr, usize>,
    /// Whether a peer is a group or a broadcast address, so that any address may answer.
    any_answers: bool,
}

impl Peers {
    pub(crate) fn new(ways: Vec<(SocketAddr, Route)>) -> Self {
        let any_answers = ways.iter().any(|(peer, route)| is_for_many(peer.ip(), route));
        let (addresses, routes): (Vec<_>, Vec<_>) = ways.into_iter().unzip();
        let by_address = addresses.iter().enumerate().map(|(at, peer)| (*peer, at)).collect();
        Self { addresses, routes, by_address, any_answers }
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn find(&self, address: SocketAddr) -> Option<usize> {
        self.by_address.get(&canonical(address)).copied()
    }

    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    pub(crate) fn route(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    /// Lowers the path MTU of a peer to a reported one. Any host can send such a report, so the MTU is lowered no further
    /// than the kernel does (net.ipv4.route.min_pmtu; RFC 8200, section 5).
    pub(crate) fn narrow(&mut self, index: usize, mtu: u32) {
        let least = if self.addresses[index].is_ipv4() { 552 } else { 1280 };
        let known = &mut self.routes[index].path_mtu;
        *known = Some(known.map_or(mtu.max(least), |known| known.min(mtu.max(least))));
    }

    pub(crate) fn is_for_many(&self, index: usize) -> bool {
        is_for_many(self.addresses[index].ip(), &self.routes[index])
    }

    /// Returns whether a datagram from `address` is an answer.
    pub(crate) fn may_answer(&self, from: SocketAddr) -> bool {
        self.any_answers || self.find(from).is_some()
    }
}

/// Errors that were heard and not taken yet: one entry per peer and kind, so that a flood of ICMP cannot fill the
/// memory.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    errors: Vec<PeerError>,
}

impl Heard {
    pub(crate) fn add(&mut self, new: PeerError) {
        let same = |old: &&mut PeerError| (old.peer, old.kind) == (new.peer, new.kind);
        let Some(old) = self.errors.iter_mut().find(same) else {
            return self.errors.push(new);
        };
        old.count += new.count;
        old.origin = new.origin;
        old.path_mtu = [old.path_mtu, new.path_mtu].into_iter().flatten().min();
    }

    /// Takes the first error; `None` if there is none.
    pub(crate) fn next(&mut self) -> Option<PeerError> {
        if self.errors.is_empty() { None } else { Some(self.errors.remove(0)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<PeerError> {
        std::mem::take(&mut self.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Origin, PeerErrorKind};

    fn error(peer: &str, path_mtu: Option<u32>) -> PeerError {
        PeerError {
            peer: peer.parse().unwrap(),
            kind: PeerErrorKind::MessageTooLong,
            count: 1,
            path_mtu,
            origin: Origin::Local { errno: libc::EMSGSIZE },
        }
    }

    #[test]
    fn the_same_of_the_same_peer_is_one_entry_and_counted() {
        let mut heard = Heard::default();
        heard.add(error("192.0.2.1:9", Some(1400)));
        heard.add(error("192.0.2.2:9", None));
        heard.add(error("192.0.2.1:9", Some(1280)));
        heard.add(error("192.0.2.1:9", None));
        let first = heard.next().unwrap();
        assert_eq!((first.count, first.path_mtu), (3, Some(1280)));
        assert_eq!(heard.take().len(), 1);
        assert!(heard.is_empty() && heard.next().is_none());
    }

    #[test]
    fn a_path_narrows_and_no_claim_makes_it_nothing() {
        let way = |text: &str| {
            (text.parse().unwrap(), Route { path_mtu: Some(1500), ..Route::default() })
        };
        let mut peers = Peers::new(vec![way("192.0.2.1:9"), way("[2001:db8::1]:9")]);
        for (mtu, v4, v6) in
            [(9000, 1500, 1500), (1400, 1400, 1400), (1450, 1400, 1400), (1, 552, 1280)]
        {
            peers.narrow(0, mtu);
            peers.narrow(1, mtu);
            assert_eq!(peers.route(0).path_mtu.zip(peers.route(1).path_mtu), Some((v4, v6)));
        }
    }

    #[test]
    fn strangers_do_not_answer_unless_everybody_may() {
        let way = |text: &str| (text.parse().unwrap(), Route::default());
        let stranger = "192.0.2.9:9".parse().unwrap();
        let peers = Peers::new(vec![way("192.0.2.1:9"), way("[2001:db8::1]:9")]);
        assert!(!peers.may_answer(stranger));
        assert!(peers.may_answer("[::ffff:192.0.2.1]:9".parse().unwrap()));
        assert_eq!(peers.find("[2001:db8::1%7]:9".parse().unwrap()), Some(1));
        let peers = Peers::new(vec![way("192.0.2.1:9"), way("239.1.1.1:9")]);
        assert!(peers.may_answer(stranger) && peers.is_for_many(1) && !peers.is_for_many(0));
    }
}
