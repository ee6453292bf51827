//! Where to listen, as a person types it: addresses, or names to look up.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::control::config::ListenAddr;
use crate::control::names;
use crate::control::names::{NameError, Resolve};

/// A place to listen at: an address, or a name with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTarget {
    /// An address, or all of this host.
    Address(ListenAddr),
    /// A name to look up, and the port.
    Name(String, u16),
}

ringest_base::as_text!(ListenTarget);

impl FromStr for ListenTarget {
    type Err = String;

    /// Reads `IP:PORT`, `[IP6]:PORT`, `[IP6%INTERFACE]:PORT`, `*:PORT` or `NAME:PORT`. An IPv4 address that is
    /// written as IPv6 becomes IPv4.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            // No socket takes an IPv4 address in the form of IPv6.
            Ok(ListenAddr::At(address)) => {
                let ip = address.ip().to_canonical();
                let at = match ip == address.ip() {
                    true => address,
                    false => SocketAddr::new(ip, address.port()),
                };
                return Ok(Self::Address(ListenAddr::At(at)));
            }
            Ok(any) => return Ok(Self::Address(any)),
            Err(_) => {}
        }
        if let Some(address) = names::scoped(text)? {
            return Ok(Self::Address(ListenAddr::At(address)));
        }
        let expected = || {
            "expected IP:PORT, [IP6]:PORT, *:PORT or NAME:PORT, such as 127.0.0.1:9000".to_owned()
        };
        let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        // Digits and points were meant as an address. The resolver could not say what is wrong with one.
        let like_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let like_address = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if name.is_empty() || like_address || !name.bytes().all(like_name) {
            return Err(expected());
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl fmt::Display for ListenTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Returns all addresses of `targets`, names looked up, each address once; each with the index of its target.
/// Without `ipv6` on this host, the IPv6 addresses of a name that also has IPv4 addresses are left out.
///
/// # Errors
/// A name is unknown, or has no address of the family wanted.
pub fn addresses(
    targets: &[ListenTarget],
    wanted: Resolve,
    ipv6: bool,
) -> Result<Vec<(usize, ListenAddr)>, NameError> {
    let mut addresses: Vec<(usize, ListenAddr)> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        match target {
            ListenTarget::Address(address) => {
                // An address that a name brought before may be written out as well: it is listened on once.
                let named = |known: &(usize, ListenAddr)| {
                    known.1 == *address && matches!(targets[known.0], ListenTarget::Name(..))
                };
                addresses.retain(|known| !named(known));
                addresses.push((index, *address));
            }
            ListenTarget::Name(name, port) => {
                let mut found = names::resolve(name, *port, wanted)?;
                // As with `*`: a name is no explicit IPv6 address.
                if found.iter().any(SocketAddr::is_ipv4) && !ipv6 {
                    found.retain(SocketAddr::is_ipv4);
                }
                for address in found.into_iter().map(ListenAddr::At) {
                    if !addresses.iter().any(|(_, known)| *known == address) {
                        addresses.push((index, address));
                    }
                }
            }
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> Result<ListenTarget, String> {
        text.parse()
    }

    #[test]
    fn a_listen_address_may_be_a_name() {
        let name = |text: &str, port| Ok(ListenTarget::Name(text.to_owned(), port));
        assert_eq!(target("localhost:9000"), name("localhost", 9000));
        assert_eq!(target("a-1.example_x.org:0"), name("a-1.example_x.org", 0));
        for text in ["*:514", "[::]:514", "127.0.0.1:0", "localhost:9"] {
            assert_eq!(target(text).unwrap().to_string(), text);
        }
        assert!(matches!(target("[fe80::1%lo]:9"), Ok(ListenTarget::Address(_))));
        assert_eq!(target("[::ffff:192.0.2.1]:9"), target("192.0.2.1:9"));
        for text in [
            "",
            ":9",
            "localhost",
            "1.2.3:9",
            "host:",
            "host:70000",
            "a b:9",
            "::1:9",
            "[::1%no-such-card]:9",
            "[::1]",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_listened_on_once() {
        let targets = ["localhost:9", "127.0.0.1:9"].map(|text| target(text).unwrap());
        let found = addresses(&targets, Resolve::V4, false).unwrap();
        assert_eq!(found, [(1, "127.0.0.1:9".parse().unwrap())]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = target(&text);
        }
    }
}
