//! The engine against real sockets: both backends, IPv4 and IPv6, every payload checked, every
//! datagram accounted for.
//!
//! No test sleeps or measures time. Where something must happen first, it is waited for under a
//! deadline that only a hung test meets ([`support::until`]). What must be alone in its process (a
//! count of descriptors, a seccomp filter, dropped capabilities) runs in a child: this same binary,
//! asked for one ignored test ([`child::Child`]).

#[cfg(test)]
mod support;
#[cfg(test)]
mod child;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod scarcity;
#[cfg(test)]
mod spreading;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod footprint;
#[cfg(test)]
mod network;
