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
mod sinks;
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
#[cfg(test)]
mod doctor_rig;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod mlrsearch;
#[cfg(test)]
mod chromium;
#[cfg(test)]
mod report_page;
#[cfg(test)]
mod load_rig;
#[cfg(test)]
mod load;
#[cfg(test)]
mod load_replay;
#[cfg(test)]
mod load_network;
#[cfg(test)]
mod bench_rig;
#[cfg(test)]
mod bench_losses;
#[cfg(test)]
mod bench_lab;
#[cfg(test)]
mod bench_control;
#[cfg(test)]
mod bench_modes;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod families;
#[cfg(test)]
mod addressing;
#[cfg(test)]
mod multicast;
#[cfg(test)]
mod steering;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod client_rig;
#[cfg(test)]
mod client;
#[cfg(test)]
mod client_send;
#[cfg(test)]
mod client_network;
#[cfg(test)]
mod client_path;
#[cfg(test)]
mod client_others;
#[cfg(test)]
mod options;
#[cfg(test)]
mod transparent;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod sockets_mended;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod journal_rig;
#[cfg(test)]
mod journal;
#[cfg(test)]
#[cfg(feature = "fail-points")]
mod journal_crash;
#[cfg(test)]
mod journal_damage;
#[cfg(test)]
mod journal_tools;
#[cfg(test)]
mod journal_export;
#[cfg(test)]
mod loop_disk;
#[cfg(test)]
mod journal_disks;
#[cfg(test)]
mod journal_stops;
#[cfg(test)]
#[cfg(any(feature = "kafka", feature = "nats"))]
mod program_rig;
#[cfg(test)]
#[cfg(any(feature = "kafka", feature = "nats"))]
mod ship_rig;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_rig;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod object_store;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod tansu;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_broker;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_access;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod kafka_program;
#[cfg(feature = "nats")]
#[cfg(test)]
mod nats_rig;
#[cfg(feature = "nats")]
#[cfg(test)]
mod nats_probe;
#[cfg(feature = "nats")]
#[cfg(test)]
mod nats;
#[cfg(feature = "nats")]
#[cfg(test)]
mod nats_login;
#[cfg(feature = "nats")]
#[cfg(test)]
mod nats_program;
