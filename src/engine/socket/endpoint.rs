//! The properties of a socket that a backend needs.

use std::os::fd::AsFd;

use crate::wire::cmsg::Asked;

/// A UDP socket that a backend can receive from and send through.
pub trait Endpoint: AsFd + std::fmt::Debug {
    /// Returns whether the socket is of the IPv6 family.
    fn is_v6(&self) -> bool;

    /// Returns whether the socket is connected: a send names no peer, and the kernel looks up no route.
    fn is_connected(&self) -> bool;

    /// Returns the control messages that come with each datagram.
    fn asked(&self) -> Asked;

    /// Returns how long a wait may poll the device before it sleeps, µs; `None`: not at all.
    fn busy_poll_us(&self) -> Option<u32>;
}
