//! What a packet filter or connection tracking does to the port.

/// Packet filters.
pub mod chains;
/// Connection tracking.
pub mod conntrack;
/// `iptables-save` as chains (iptables-extensions(8)).
pub mod iptables;
/// `nft -j list ruleset` as chains (libnftables-json(5)).
pub mod nft;
