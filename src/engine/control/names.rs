//! Resolves a host's name to its addresses, once, at start.

use std::io;
use std::net::{SocketAddr, SocketAddrV6, ToSocketAddrs};

use crate::socket::interface::Interface;

/// Choice among a name's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// IPv4 if the name has any, else IPv6.
    PreferV4,
    /// IPv6 if the name has any, else IPv4.
    PreferV6,
    /// All of them.
    All,
}

ringest_base::names!(Resolve {
    "v4" => V4;
    "v6" => V6;
    "prefer-v4" => PreferV4;
    "prefer-v6" => PreferV6;
    "all" => All
});

/// Reason why a name has no address to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The resolver found nothing, or could not ask.
    #[error("{name}: {source}; see `getent ahosts {name}`, or give the address")]
    Unknown {
        /// The name.
        name: String,
        /// Error of the resolver.
        source: io::Error,
    },
    /// It has addresses, but none of the family wanted.
    #[error("{name} has no {family} address, only {others}; --resolve all takes those too")]
    OtherFamily {
        /// The name.
        name: String,
        /// Family that was wanted.
        family: &'static str,
        /// Addresses that the name has.
        others: String,
    },
}

/// Returns the addresses of `name`, each with `port`, in the resolver's order (RFC 6724), without duplicates.
///
/// # Errors
/// The name is unknown, or has no address of the family wanted.
pub fn resolve(name: &str, port: u16, wanted: Resolve) -> Result<Vec<SocketAddr>, NameError> {
    let found = (name, port)
        .to_socket_addrs()
        .map_err(|source| NameError::Unknown { name: name.to_owned(), source })?;
    choose(name, found, wanted)
}

/// Reads `[IP6%INTERFACE]:PORT` with the interface by name; std reads an index only. Returns `None` if the text has
/// another form.
///
/// # Errors
/// There is no such interface.
pub fn scoped(text: &str) -> Result<Option<SocketAddr>, String> {
    let parts = text.strip_prefix('[').and_then(|rest| {
        let (ip, rest) = rest.split_once('%')?;
        let (interface, port) = rest.split_once("]:")?;
        Some((ip.parse().ok()?, interface, port.parse().ok()?))
    });
    let Some((ip, interface, port)) = parts else { return Ok(None) };
    let index = interface.parse::<Interface>().and_then(|found| {
        found.index().map_err(|error| format!("{interface}: {error}; `ip link` lists interfaces"))
    })?;
    Ok(Some(SocketAddrV6::new(ip, port, 0, index).into()))
}

fn choose(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
    wanted: Resolve,
) -> Result<Vec<SocketAddr>, NameError> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.is_empty() {
        let source = io::Error::other("it has no address");
        return Err(NameError::Unknown { name: name.to_owned(), source });
    }
    let (v4, v6): (Vec<_>, Vec<_>) = all.iter().copied().partition(SocketAddr::is_ipv4);
    let none = |family, others: &[SocketAddr]| NameError::OtherFamily {
        name: name.to_owned(),
        family,
        others: list(others),
    };
    match wanted {
        Resolve::All => Ok(all),
        Resolve::V4 if v4.is_empty() => Err(none("IPv4", &v6)),
        Resolve::V6 if v6.is_empty() => Err(none("IPv6", &v4)),
        Resolve::V4 => Ok(v4),
        Resolve::V6 => Ok(v6),
        Resolve::PreferV4 => Ok(if v4.is_empty() { v6 } else { v4 }),
        Resolve::PreferV6 => Ok(if v6.is_empty() { v4 } else { v6 }),
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(found: &[&str], wanted: Resolve) -> Result<Vec<String>, String> {
        let found = found.iter().map(|text| text.parse().unwrap());
        choose("host", found, wanted)
            .map(|all| all.iter().map(ToString::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_family_is_a_must_or_a_wish() {
        let (v4, v6) = ("192.0.2.1:9", "[2001:db8::1]:9");
        let both = [v6, v4, v6];
        assert_eq!(chosen(&both, Resolve::All).unwrap(), [v6, v4]);
        assert_eq!(chosen(&both, Resolve::V4).unwrap(), [v4]);
        assert_eq!(chosen(&both, Resolve::V6).unwrap(), [v6]);
        assert_eq!(chosen(&both, Resolve::PreferV4).unwrap(), [v4]);
        assert_eq!(chosen(&[v4], Resolve::PreferV6).unwrap(), [v4]);
        assert_eq!(chosen(&[v6], Resolve::PreferV4).unwrap(), [v6]);
        let refused = chosen(&[v4], Resolve::V6).unwrap_err();
        assert!(refused.contains("no IPv6 address") && refused.contains("192.0.2.1"), "{refused}");
        assert!(chosen(&[], Resolve::All).unwrap_err().contains("getent"));
    }

    #[test]
    fn a_scope_is_an_interface_by_name_or_index() {
        let found = scoped("[fe80::1%lo]:9").unwrap().unwrap();
        let SocketAddr::V6(found) = found else { panic!("{found}") };
        assert!(found.scope_id() > 0 && found.port() == 9);
        assert!(scoped("[fe80::1%no-such-card]:9").unwrap_err().contains("ip link"));
        for text in ["", "[fe80::1]:9", "fe80::1%lo", "[x%lo]:9", "[fe80::1%lo]:x"] {
            assert_eq!(scoped(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_name_of_this_host_is_found_and_nonsense_is_not() {
        let found = resolve("localhost", 9, Resolve::V4).unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap()]);
        // A label this long is refused before anybody is asked.
        assert!(resolve(&"x".repeat(64), 9, Resolve::All).is_err());
    }
}
