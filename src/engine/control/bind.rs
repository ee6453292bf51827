//! The addresses to bind, and the multicast groups to join there. Part of the plan; opens nothing.

use std::net::{IpAddr, SocketAddr};

use crate::control::config::{Config, ListenAddr};
use crate::error::{Error, Result};
use crate::socket::interface::Interface;
use crate::socket::multicast::Group;
use ringest_base::host::resources::Host;

/// One address to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// Whether `[::]` takes IPv6 only: it was asked for, or an IPv4 address with the same port is listed too.
    pub only_v6: bool,
    /// Multicast groups to join there.
    pub groups: Vec<Membership>,
}

/// A multicast group and the one receiver that joins it. If several joined, each would get a copy of every datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: Group,
    /// Index of the receiver.
    pub receiver: usize,
}

/// Returns the bind of each listen address. Overlapping addresses are refused here: the kernel would only say that the
/// port is taken.
pub(crate) fn binds(config: &Config, host: &Host) -> Result<Vec<Bind>> {
    let resolved: Vec<_> = config.listen.iter().map(|listen| listen.resolve(host.ipv6)).collect();
    if let Some(&address) = resolved.iter().find(|address| address.is_ipv6() && !host.ipv6) {
        return Err(Error::NoIpv6 { address });
    }
    let any = config.listen.iter().find(|listen| matches!(listen, ListenAddr::Any { .. }));
    if let Some(any) = any.filter(|_| config.only_v6) {
        let reason = "takes both families; for IPv6 only give [::] with the port";
        return Err(Error::setting("listen", any, reason));
    }
    if let Some(v4) = resolved.iter().find(|address| config.only_v6 && address.is_ipv4()) {
        return Err(Error::setting("listen", v4, "is IPv4, and IPv6 only was asked for"));
    }
    let mut binds: Vec<Bind> = resolved
        .iter()
        .map(|&address| Bind { address, only_v6: config.only_v6, groups: Vec::new() })
        .collect();
    for (index, one) in resolved.iter().enumerate() {
        for (other_index, other) in resolved.iter().enumerate() {
            let wild = one.ip().is_unspecified();
            if index == other_index || one.port() == 0 || one.port() != other.port() || !wild {
                continue;
            }
            let explicit = matches!(config.listen[index], ListenAddr::At(_));
            if one.is_ipv6() && other.is_ipv4() && explicit {
                binds[index].only_v6 = true;
            } else if one.is_ipv6() || other.is_ipv4() {
                let reason =
                    format!("{} covers it already; give one of the two", config.listen[index]);
                return Err(Error::setting("listen", config.listen[other_index], reason));
            }
        }
    }
    Ok(binds)
}

/// Returns the groups to join: those asked for, and each listen address that is a group.
pub(crate) fn groups(config: &Config, binds: &[Bind]) -> Vec<Group> {
    let mut groups = config.groups.clone();
    for bind in binds.iter().filter(|bind| bind.address.ip().is_multicast()) {
        let address = bind.address.ip();
        if !groups.iter().any(|group| group.address == address) {
            // [ff02::1%eth0]:P names the interface.
            let interface = match bind.address {
                SocketAddr::V6(v6) if v6.scope_id() > 0 => Some(Interface::Index(v6.scope_id())),
                _ => None,
            };
            groups.push(Group { interface, ..Group::any_source(address) });
        }
    }
    groups
}

/// Adds `groups` to the listen addresses that can take them, each with its receiver. All memberships of one group
/// belong to one receiver, so that a datagram which matches two of them comes once.
pub(crate) fn assign_groups(groups: &[Group], binds: &mut [Bind], receivers: usize) -> Result<()> {
    for group in groups {
        let owner = owner(group, binds, receivers)?;
        let mut joined = false;
        for bind in binds.iter_mut().filter(|bind| bind.takes(group)) {
            bind.groups.push(Membership { group: group.clone(), receiver: owner });
            joined = true;
        }
        if !joined {
            let wild = if group.address.is_ipv4() { "0.0.0.0" } else { "[::]" };
            let reason = format!(
                "no listen address takes it; listen on {wild} or on {} with the group's port",
                bracketed(group.address)
            );
            return Err(Error::setting("join", group, reason));
        }
    }
    Ok(())
}

/// Formats an address as it stands before a port: IPv6 in brackets.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Returns the receiver that joins `group`: the one with a membership of it already, or else the next in turn.
fn owner(group: &Group, binds: &[Bind], receivers: usize) -> Result<usize> {
    let mut addresses = Vec::new();
    let mut same = None;
    for Membership { group: earlier, receiver } in binds.iter().flat_map(|bind| &bind.groups) {
        if !addresses.contains(&earlier.address) {
            addresses.push(earlier.address);
        }
        if earlier.address != group.address {
            continue;
        }
        same = Some(*receiver);
        let any = earlier.sources.is_empty() || group.sources.is_empty();
        if earlier.interface == group.interface && (earlier == group || any) {
            let reason = format!("{earlier} joins it already; give one of the two");
            return Err(Error::setting("join", group, reason));
        }
    }
    Ok(same.unwrap_or(addresses.len() % receivers))
}

impl Bind {
    /// Returns whether datagrams to a group can arrive at this address.
    fn takes(&self, group: &Group) -> bool {
        let ip = self.address.ip();
        let mapped = ip.is_ipv6() && group.address.is_ipv4() && !self.only_v6;
        let wild = ip.is_unspecified() && (ip.is_ipv4() == group.address.is_ipv4() || mapped);
        wild || ip == group.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::plan::plan;

    fn host() -> Host {
        Host {
            cores: (0..4).collect(),
            quota_cores: None,
            memory_bytes: Some(8 << 30),
            ipv6: true,
            rmem_max_bytes: None,
        }
    }

    #[test]
    fn overlapping_addresses_are_told_apart_or_refused() {
        let listen = |addresses: &[&str]| {
            let listen = addresses.iter().map(|text| text.parse().unwrap()).collect();
            plan(&Config { listen, ..Config::default() }, &host())
        };
        let both = listen(&["0.0.0.0:514", "[::]:514"]).unwrap();
        assert_eq!([both.listen[0].only_v6, both.listen[1].only_v6], [false, true]);
        assert!(listen(&["0.0.0.0:514", "[::]:515", "127.0.0.1:0", "*:0"]).is_ok());
        for pair in
            [["*:514", "127.0.0.1:514"], ["[::1]:514", "[::]:514"], ["0.0.0.0:1", "1.2.3.4:1"]]
        {
            assert!(listen(&pair).unwrap_err().is_usage(), "{pair:?}");
        }
    }

    #[test]
    fn a_group_is_joined_by_one_receiver_wherever_it_can_come() {
        let memberships = |listen: &[&str], groups: &[&str]| {
            let config = Config {
                listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
                groups: groups.iter().map(|text| text.parse().unwrap()).collect(),
                receivers: Some(2),
                ..Config::default()
            };
            plan(&config, &host()).map(|plan| {
                let of = |bind: &Bind| -> Vec<_> {
                    bind.groups.iter().map(|m| (m.group.to_string(), m.receiver)).collect()
                };
                plan.listen.iter().map(of).collect::<Vec<_>>()
            })
        };
        let one = |group: &str, receiver| (group.to_owned(), receiver);
        assert_eq!(
            memberships(&["0.0.0.0:1", "[::]:2"], &["239.1.1.1", "ff15::1%2", "239.1.1.1%7"])
                .unwrap(),
            [
                vec![one("239.1.1.1", 0), one("239.1.1.1%7", 0)],
                vec![one("239.1.1.1", 0), one("ff15::1%2", 1), one("239.1.1.1%7", 0)],
            ]
        );
        let listened = memberships(&["239.9.9.9:5", "10.0.0.1:5"], &[]).unwrap();
        assert_eq!(listened, [vec![one("239.9.9.9", 0)], vec![]], "joined without being named");
        for (listen, groups) in [
            (&["10.0.0.1:5"][..], &["239.1.1.1"][..]),
            (&["0.0.0.0:5"], &["ff15::1"]),
            (&["0.0.0.0:5"], &["239.1.1.1", "239.1.1.1"]),
            (&["0.0.0.0:5"], &["239.1.1.1", "239.1.1.1@10.0.0.1"]),
        ] {
            assert!(memberships(listen, groups).unwrap_err().is_usage(), "{listen:?} {groups:?}");
        }
    }

    #[test]
    fn without_ipv6_an_explicit_address_is_an_error_and_any_is_ipv4() {
        let host = Host { ipv6: false, ..host() };
        let listen = |address: &str| {
            plan(&Config { listen: vec![address.parse().unwrap()], ..Config::default() }, &host)
        };
        for address in ["[::1]:5", "[::]:5"] {
            let text = listen(address).unwrap_err().to_string();
            assert!(text.contains("/proc/sys/net/ipv6/conf/all/disable_ipv6"), "{text}");
        }
        let any = listen("*:5").unwrap();
        assert_eq!(any.listen[0].address, "0.0.0.0:5".parse().unwrap());
        assert_eq!(any.warnings.iter().filter(|text| text.contains("IPv4 only")).count(), 1);
    }

    #[test]
    fn ipv6_only_is_for_explicit_addresses() {
        let listen = |address: &str| {
            let config = Config {
                listen: vec![address.parse().unwrap()],
                only_v6: true,
                ..Config::default()
            };
            plan(&config, &host())
        };
        assert!(listen("[::]:5").unwrap().listen[0].only_v6);
        assert!(listen("*:5").unwrap_err().is_usage());
        assert!(listen("0.0.0.0:5").unwrap_err().is_usage());
    }
}
