//! Reads peers, which are addresses or names with a port, several with commas; and resolves names.

use std::net::{IpAddr, SocketAddr};

use ringest::Resolve;
use ringest_engine::control::names;

use crate::cli::failure::Failure;

/// Peers, as typed in one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerList(Vec<Typed>);

/// A peer, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Typed {
    Address(SocketAddr),
    Name(String, u16),
}

/// Reads `HOST:PORT[,HOST:PORT…]`.
pub(crate) fn peers(text: &str) -> Result<PeerList, String> {
    text.split(',').map(peer).collect::<Result<_, _>>().map(PeerList)
}

fn peer(text: &str) -> Result<Typed, String> {
    let expected = || {
        format!("{text:?}: expected HOST:PORT, such as 127.0.0.1:9000, [::1]:9000 or localhost:514")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port: u16 = port.parse().map_err(|_| expected())?;
    if port == 0 {
        return Err(format!("{text:?}: nothing can be sent to port 0"));
    }
    if let Ok(address) = text.parse() {
        return Ok(Typed::Address(address));
    }
    if let Some(address) = names::scoped(text)? {
        return Ok(Typed::Address(address));
    }
    if host.starts_with('[') {
        return Err(expected());
    }
    if host.contains(':') {
        return Err(format!("{text:?}: an IPv6 address goes in brackets: [{host}]:{port}"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(|byte| is_name(byte) || !byte.is_ascii()) {
        return Err(expected());
    }
    Ok(Typed::Name(host.to_owned(), port))
}

impl PeerList {
    /// Returns the addresses of the peers. A name gives the first address of the resolver, unless `wanted` says
    /// otherwise; with [`Resolve::All`] each of its addresses is a peer.
    pub(crate) fn resolve(&self, wanted: Option<Resolve>) -> Result<Vec<SocketAddr>, Failure> {
        let mut found = Vec::new();
        for typed in &self.0 {
            match typed {
                Typed::Address(address) => found.push(*address),
                Typed::Name(name, port) => found.extend(look_up(name, *port, wanted)?),
            }
        }
        Ok(found)
    }
}

fn look_up(name: &str, port: u16, wanted: Option<Resolve>) -> Result<Vec<SocketAddr>, Failure> {
    let resolve = wanted.unwrap_or(Resolve::All);
    let mut found =
        names::resolve(name, port, resolve).map_err(|error| Failure::Failed(error.to_string()))?;
    if resolve != Resolve::All || wanted.is_none() {
        found.truncate(1);
    }
    Ok(found)
}

/// Reads an address to send from.
pub(crate) fn local_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an address of this host, such as 192.0.2.1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peers_are_addresses_or_names_with_a_port() {
        let list = peers("192.0.2.1:9,[2001:db8::1]:9,host-1.example:514,[fe80::1%3]:9").unwrap();
        assert_eq!(list.0.len(), 4);
        assert!(matches!(&list.0[2], Typed::Name(name, 514) if name == "host-1.example"));
        for (text, word) in [
            ("", "expected HOST:PORT"),
            ("localhost", "expected HOST:PORT"),
            ("127.0.0.1:", "expected HOST:PORT"),
            ("127.0.0.1:70000", "expected HOST:PORT"),
            ("*:9000", "expected HOST:PORT"),
            (":9000", "expected HOST:PORT"),
            ("[localhost]:9", "expected HOST:PORT"),
            ("127.0.0.1:9,", "expected HOST:PORT"),
            ("a b:9", "expected HOST:PORT"),
            ("127.0.0.1:0", "port 0"),
            ("::1:9000", "[::1]:9000"),
            ("[fe80::1%]:9", "no interface"),
            ("[fe80::1%no-such-card]:9", "ip link"),
        ] {
            let error = peers(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_looked_up_and_interfaces_too() {
        let found = peers("localhost:9").unwrap().resolve(Some(Resolve::V4)).unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap()]);
        assert_eq!(peers("localhost:9").unwrap().resolve(None).unwrap().len(), 1);
        let scoped = peers("[fe80::1%lo]:9").unwrap().resolve(None).unwrap();
        assert_eq!(scoped, ["[fe80::1%1]:9".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = peers(&text);
        }
    }
}
