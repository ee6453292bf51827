//! Packet filter and connection tracking.

/// Connection tracking.
pub mod conntrack;
/// `iptables-save` as chains (iptables-extensions(8)).
pub mod iptables;
/// Chains and rules, as nft and iptables are both read.
pub mod model;
/// `nft -j list ruleset` as chains (libnftables-json(5)).
pub mod nft;
/// The rules that can match the port.
pub mod rules;
