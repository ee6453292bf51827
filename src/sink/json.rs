//! Payloads as JSON, the same wherever one is printed: as text where it is UTF-8, else as digits.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use super::escape::{self, Printable};

/// `length` and `payload`, or `payload_hex` where the payload is not UTF-8. To be flattened into a line, and
/// written by [`write()`].
#[derive(Debug, Serialize)]
pub struct Payload<'a> {
    length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<Hex<'a>>,
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        let (payload, payload_hex) = match str::from_utf8(bytes) {
            Ok(text) => (Some(Text(text)), None),
            Err(_) => (None, Some(Hex(bytes))),
        };
        Self { length: bytes.len(), payload, payload_hex }
    }
}

/// As [`SocketAddr`] is serialised: an IPv4 one, of which millions are printed, without its formatter.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SocketAddr::V4(address) = self.0 else { return self.0.serialize(serializer) };
        let (mut text, mut end) = ([0; "255.255.255.255:65535".len()], 0);
        let mut push = |part: &str| {
            text[end..end + part.len()].copy_from_slice(part.as_bytes());
            end += part.len();
        };
        let mut number = itoa::Buffer::new();
        for (octet, behind) in address.ip().octets().into_iter().zip([".", ".", ".", ":"]) {
            push(number.format(octet));
            push(behind);
        }
        push(number.format(address.port()));
        serializer.serialize_str(str::from_utf8(&text[..end]).unwrap_or_default())
    }
}

/// Serialised as bytes, which [`Printable`] writes as a string.
#[derive(Debug)]
struct Text<'a>(&'a str);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

#[derive(Debug)]
struct Hex<'a>(&'a [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = Vec::with_capacity(self.0.len() * 2);
        escape::hex(&mut digits, self.0);
        serializer.serialize_str(str::from_utf8(&digits).unwrap_or_default())
    }
}

/// Writes one object without its line's end, safe on a terminal.
///
/// # Errors
/// `out` failed.
pub fn write(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Printable);
    Ok(line.serialize(&mut serializer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_peer_is_written_as_an_address_is(v4: bool, ip: u128, port: u16) {
            let ip = match v4 {
                true => std::net::Ipv4Addr::from((ip >> 96) as u32).into(),
                false => std::net::Ipv6Addr::from(ip).into(),
            };
            let address = SocketAddr::new(ip, port);
            let written = serde_json::to_string(&Peer(address)).unwrap();
            prop_assert_eq!(written, serde_json::to_string(&address).unwrap());
        }
    }
}
