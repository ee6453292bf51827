//! `ringest doctor`.

/// Tools: the program run in a place made for the test, its answer, and its fix run as printed.
pub(crate) mod rig;
/// `ringest doctor` on a host with one thing wrong after another.
pub(crate) mod checks;
/// The packet filter and connection tracking, on real rules.
pub(crate) mod firewall;
