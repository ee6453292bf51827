//! The engine against real sockets: both backends, IPv4 and IPv6, every payload checked, every
//! datagram accounted for.
//!
//! No test sleeps or measures time. Where something must happen first, it is waited for under a
//! deadline that only a hung test meets ([`rigs::support::until`]). What must be alone in its process (a
//! count of descriptors, a seccomp filter, dropped capabilities) runs in a child: this same binary,
//! asked for one ignored test ([`rigs::child::Child`]).

// Tools of several tests: a process of its own, a browser, a relay, a disk in a file.
#[cfg(test)]
mod rigs;
// The engine against real sockets.
#[cfg(test)]
mod engine;
// Sinks: several at once, files, and a set for each listener.
#[cfg(test)]
mod sinks;
// Addresses, options, multicast, steering; network namespaces.
#[cfg(test)]
mod sockets;
// The client library and `ringest send`.
#[cfg(test)]
mod client;
// The load generator and replay.
#[cfg(test)]
mod load;
// `ringest bench`, its search, and its reports.
#[cfg(test)]
mod bench;
// `ringest doctor`.
#[cfg(test)]
mod doctor;
// The journal on real disks, and its tools.
#[cfg(test)]
mod journal;
// Kafka and NATS, against real brokers.
#[cfg(test)]
mod ship;
// The tree itself: walls between members, rooms and files; limits on files and folders; documented commands.
#[cfg(test)]
mod house;
