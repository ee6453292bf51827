//! One JSON object a line, as `ringest journal cat --output json` prints them.

use std::io::{self, Write};

use serde::Serialize;

use super::Sheet;
use crate::journal::format::Record;
use crate::sink::json::{self, Payload, Peer};
use crate::sink::rfc3339::Rfc3339;

/// A record as an object: the contract with scripts.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    time: Rfc3339,
    peer: Peer,
    listener: u16,
    #[serde(flatten)]
    payload: Payload<'a>,
}

impl<'a> From<&Record<'a>> for Line<'a> {
    fn from(record: &Record<'a>) -> Self {
        Self {
            time: Rfc3339(record.received_unix_ns),
            peer: Peer(record.peer),
            listener: record.listener,
            payload: Payload::from(record.payload),
        }
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Ndjson<W> {
    out: W,
}

impl<W: Write> Ndjson<W> {
    /// Written to `out`, a line at a time.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> Sheet for Ndjson<W> {
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool> {
        json::write(&mut self.out, &Line::from(record))?;
        self.out.write_all(b"\n")?;
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
