//! The way between a peer and this host.

use std::net::{IpAddr, SocketAddr};

/// The way on which a datagram came, and on which a reply goes back: all that is needed to answer a peer later, when the
/// batch with its datagram has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address of this host that the peer sent to, and that a reply leaves from; `None`: the routing table chooses.
    pub local: Option<IpAddr>,
    /// Index of the listen address.
    pub listener: u16,
    /// Index of the receiver whose socket the reply leaves through.
    pub receiver: u16,
}
