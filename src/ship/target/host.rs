//! The host of a server, as a user types it.

use std::net::Ipv6Addr;

/// Returns whether this can be a server's host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !text.is_empty() && text.bytes().all(fits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::kinds::Target;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["broker-1", "a.b_c", "127.0.0.1", "[::1]"] {
            assert!(is_host(host), "{host}");
        }
        for text in ["", "a b", "[::1", "::1", "[x]", "a/b", "me@a"] {
            assert!(!is_host(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in any::<String>()) {
            let _ = (is_host(&text), text.parse::<Target>(), format!("kafka:{text}").parse::<Target>());
        }
    }
}
