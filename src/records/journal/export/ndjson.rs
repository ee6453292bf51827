//! One JSON object a line, as `ringest journal cat --output json` prints them.

use std::io::{self, Write};

use crate::journal::export::exporter::Exporter;
use crate::journal::format::Record;
use ringest_base::text::json::Object;
use ringest_base::text::rfc3339::Rfc3339;

/// Appends a record as one line of JSON. Its keys are a contract with scripts.
pub fn line(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut object = Object::begin(out);
    object.time("time", Rfc3339(record.received_unix_ns));
    object.address("peer", record.peer);
    object.number("listener", record.listener);
    object.payload(record.payload);
    object.end();
    out.push(b'\n');
}

/// Exports records as JSON, one object a line.
#[derive(Debug)]
pub struct Ndjson<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Ndjson<W> {
    /// Starts the export to `out`.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

impl<W: Write> Exporter for Ndjson<W> {
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool> {
        self.line.clear();
        line(&mut self.line, record);
        self.out.write_all(&self.line)?;
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
