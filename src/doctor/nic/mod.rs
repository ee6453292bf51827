//! Network interfaces: offloads, queues, interrupts, losses.

/// Facts that a driver reports by ethtool (SIOCETHTOOL, linux/ethtool.h).
pub mod ethtool;
/// The interfaces that datagrams come in by.
pub mod interface;
/// Checks of each interface.
pub mod interfaces;
/// The cores of a card's interrupts, compared with those planned for receivers and workers.
pub mod interrupts;
/// The spread of the work of receiving over cores.
pub mod load;
/// Losses of an interface, and their causes.
pub mod lost;
