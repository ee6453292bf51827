//! Prints records on stdout for `cat` and `tail`: formatted in memory, and written some thousand at a time.

use std::io::{self, StdoutLock, Write};

use ringest_base::text::escape;
use ringest_base::text::json::push_address;
use ringest_base::text::rfc3339::Rfc3339;
use ringest_records::journal::export::json_line;
use ringest_records::journal::format::Record;

/// Formats of printed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineFormat {
    Text,
    Json,
    Raw,
}

ringest_base::names!(LineFormat {
    "text" => Text;
    "json" => Json;
    "raw" => Raw
});

/// Bytes of a write, as many as a pipe takes at once. Lower costs system calls; higher leaves the processor's cache
/// before it is written.
const WRITE_BYTES: usize = 64 << 10;

/// Standard output, one record after the other.
pub(crate) struct Lines {
    output: LineFormat,
    text: Vec<u8>,
    out: StdoutLock<'static>,
}

impl Lines {
    pub(crate) fn new(output: LineFormat) -> Self {
        let text = Vec::with_capacity(2 * WRITE_BYTES);
        Self { output, text, out: io::stdout().lock() }
    }

    /// Prints a record. It may stay in memory until the next [`Lines::flush`].
    pub(crate) fn add(&mut self, record: &Record<'_>) -> io::Result<()> {
        match self.output {
            LineFormat::Raw => self.text.extend_from_slice(record.payload),
            LineFormat::Text => {
                write!(self.text, "{} ", Rfc3339(record.received_unix_ns))?;
                push_address(&mut self.text, record.peer);
                self.text.push(b' ');
                escape::text(&mut self.text, record.payload);
                self.text.push(b'\n');
            }
            LineFormat::Json => json_line(&mut self.text, record),
        }
        if self.text.len() < WRITE_BYTES { Ok(()) } else { self.write_out() }
    }

    /// Writes all records that are still in memory.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.out.flush()
    }

    fn write_out(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.text);
        self.text.clear();
        written
    }
}
