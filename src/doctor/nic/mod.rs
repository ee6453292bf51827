//! Network interfaces: offloads, queues, interrupts, losses.

/// What a driver tells by ethtool (SIOCETHTOOL, linux/ethtool.h).
pub mod ethtool;
/// Which cores a card's interrupts run on, against those the plan gives to receivers and workers.
pub mod interrupts;
/// How the work of receiving is spread over cores.
pub mod load;
/// What an interface lost, and how much it holds.
pub mod lost;
/// The interfaces datagrams come in by, each by itself.
pub mod interfaces;
