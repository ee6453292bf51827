//! Datagrams and records as lines of JSON, the same wherever one is printed. Millions a second are: so they
//! are put together here, and no serialiser looks for escapes in keys and times.

use std::io::Write;
use std::net::SocketAddr;

use crate::text::escape;
use crate::text::rfc3339::Rfc3339;

/// An object that is being appended to a line, member by member, safe on a terminal. Keys are written as
/// they are given.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// Byte to write before the next key: `{` or a comma.
    before: u8,
}

impl<'a> Object<'a> {
    /// An object at the end of `out`, without members yet.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        Self { out, before: b'{' }
    }

    /// As RFC 3339 has it.
    pub fn time(&mut self, key: &str, time: Rfc3339) {
        self.key(key);
        // A Vec takes every write, and there is nothing to escape.
        let _ = write!(self.out, "\"{time}\"");
    }

    /// As `IP:PORT` or `[IP6]:PORT`.
    pub fn address(&mut self, key: &str, address: SocketAddr) {
        self.key(key);
        self.out.push(b'"');
        push_address(self.out, address);
        self.out.push(b'"');
    }

    /// As digits.
    pub fn number(&mut self, key: &str, number: impl itoa::Integer) {
        self.key(key);
        push_digits(self.out, number);
    }

    /// `length`, and `payload` or, where the bytes are not UTF-8, `payload_hex`.
    pub fn payload(&mut self, bytes: &[u8]) {
        self.number("length", bytes.len());
        if let Ok(text) = str::from_utf8(bytes) {
            self.key("payload");
            escape::json(self.out, text);
        } else {
            self.key("payload_hex");
            self.out.push(b'"');
            escape::hex(self.out, bytes);
            self.out.push(b'"');
        }
    }

    /// It has no more members.
    pub fn end(self) {
        if self.before == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(&[self.before, b'"']);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.before = b',';
    }
}

/// Appends an address as it is displayed: an IPv4 one, of which millions are printed, without its formatter.
pub fn push_address(out: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(v4) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    for (octet, behind) in v4.ip().octets().into_iter().zip(*b"...:") {
        push_digits(out, octet);
        out.push(behind);
    }
    push_digits(out, v4.port());
}

fn push_digits(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_may_be_empty() {
        let mut out = Vec::new();
        Object::begin(&mut out).end();
        assert_eq!(out, b"{}");
    }

    proptest! {
        #[test]
        fn members_read_back_as_they_were(
            v4: bool,
            ip: u128,
            port: u16,
            time: u64,
            payload in prop_oneof![any::<String>().prop_map(String::into_bytes), any::<Vec<u8>>()],
        ) {
            let ip = match v4 {
                true => std::net::Ipv4Addr::from((ip >> 96) as u32).into(),
                false => std::net::Ipv6Addr::from(ip).into(),
            };
            let address = SocketAddr::new(ip, port);
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.time("time", Rfc3339(time));
            object.address("peer", address);
            object.number("listener", port);
            object.payload(&payload);
            object.end();
            let mut wanted = serde_json::json!({
                "time": Rfc3339(time), "peer": address, "listener": port, "length": payload.len(),
            });
            match String::from_utf8(payload) {
                Ok(text) => wanted["payload"] = text.into(),
                Err(odd) => {
                    let digits = odd.as_bytes().iter().map(|byte| format!("{byte:02x}"));
                    wanted["payload_hex"] = digits.collect::<String>().into();
                }
            }
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), wanted);
        }
    }
}
