//! Payloads as JSON, the same wherever one is printed: as text where it is UTF-8, else as digits.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::escape::{self, Printable};

/// `length` and `payload`, or `payload_hex` where the payload is not UTF-8. To be flattened into a line, and
/// written by [`write`].
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
