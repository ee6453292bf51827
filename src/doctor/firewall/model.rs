//! Chains and rules of a packet filter, as nft and iptables are both read.

use std::net::{IpAddr, SocketAddr};

use crate::wanted::Wanted;

/// Whether a condition holds for the datagrams looked for: for none, for some or unknown, for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holds {
    No,
    #[default]
    Maybe,
    Yes,
}

impl Holds {
    pub(crate) fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(crate) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// The datagrams looked for: the first of each sender to the port.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    /// Destination port; `None`: any.
    pub(crate) port: Option<u16>,
    /// Whether the destination is a loopback address, so that datagrams come in by `lo` alone.
    pub(crate) loopback: bool,
    /// Whether they may be IPv4.
    pub(crate) four: bool,
    /// Whether they may be IPv6.
    pub(crate) six: bool,
}

impl Target {
    pub(crate) fn of(wanted: &Wanted) -> Self {
        let ips: Vec<IpAddr> = wanted.addresses.iter().map(SocketAddr::ip).collect();
        let dual = ips.iter().any(|ip| ip.is_ipv6() && ip.is_unspecified());
        Self {
            port: wanted.port(),
            loopback: !ips.is_empty() && ips.iter().all(IpAddr::is_loopback),
            four: ips.is_empty() || dual || ips.iter().any(IpAddr::is_ipv4),
            six: ips.is_empty() || ips.iter().any(IpAddr::is_ipv6),
        }
    }

    /// Returns whether the port is in the range from `first` to `last`.
    pub(crate) fn is_port(&self, first: u64, last: u64) -> Holds {
        self.port.map_or(Holds::Maybe, |port| Holds::from((first..=last).contains(&port.into())))
    }

    /// Returns whether the datagrams come in by the interface of that name.
    pub(crate) fn comes_by(&self, interface: &str) -> Holds {
        match (interface == "lo", self.loopback) {
            (false, false) => Holds::Maybe,
            (lo, loopback) => Holds::from(lo == loopback),
        }
    }

    /// Returns whether a state of connection tracking is that of a sender's first datagram.
    pub(crate) fn is_state(state: &str) -> Holds {
        match state.to_ascii_lowercase().as_str() {
            "new" => Holds::Yes,
            "established" | "related" | "invalid" => Holds::No,
            _ => Holds::Maybe,
        }
    }
}

/// The action of a rule on the datagrams that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// Sends them to another port, host, interface or program.
    Elsewhere,
    /// Continues in another chain.
    Jump(String),
    /// Leaves the chain.
    Return,
}

/// A rule, or one entry of a rule's verdict map.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) holds: Holds,
    pub(crate) verdict: Verdict,
    /// Whether the rule names the port looked for, and no other.
    pub(crate) port_alone: bool,
    /// The rule as its program prints it, with its counter if it has one.
    pub(crate) text: String,
    /// The command that deletes the rule.
    pub(crate) delete: String,
}

/// The part of a chain that only a chain entered by the kernel itself has.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) policy_drops: bool,
    /// The command that lets the port in before any other rule of this chain.
    pub(crate) accept: String,
}

/// A list of rules.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// `None`: entered by jumps alone.
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}
