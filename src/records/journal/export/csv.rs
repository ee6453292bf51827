//! Comma-separated values (RFC 4180), safe to open in a spreadsheet.

use std::io::{self, Write};

use crate::journal::export::exporter::Exporter;
use crate::journal::format::Record;
use ringest_base::text::escape;
use ringest_base::text::rfc3339::Rfc3339;

/// Characters that a cell must not begin with: a spreadsheet would run the cell as a formula.
const FORMULAS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Writes one line a record. The payload is text, escaped as `ringest journal cat` does it.
#[derive(Debug)]
pub struct Csv<W> {
    out: W,
    cell: Vec<u8>,
}

impl<W: Write> Csv<W> {
    /// Starts the export to `out`, and writes the header line.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"received,peer_ip,peer_port,listener,length,payload\r\n")?;
        Ok(Self { out, cell: Vec::new() })
    }

    /// Fills the cell buffer with the payload, escaped for the inside of a quoted cell.
    fn fill_cell(&mut self, payload: &[u8]) {
        self.cell.clear();
        let first = str::from_utf8(&payload[..payload.len().min(4)])
            .or_else(|error| str::from_utf8(&payload[..error.valid_up_to()]))
            .unwrap_or_default()
            .chars()
            .next()
            .filter(|char| FORMULAS.contains(char));
        let rest = match first {
            Some(char) => {
                // An escape of the usual kind: a program that reverses them gets the same payload.
                self.cell.extend_from_slice(char.escape_unicode().to_string().as_bytes());
                &payload[char.len_utf8()..]
            }
            None => payload,
        };
        let begin = self.cell.len();
        escape::text(&mut self.cell, rest);
        if memchr::memchr(b'"', &self.cell[begin..]).is_some() {
            let text = self.cell.split_off(begin);
            for byte in text {
                self.cell.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
            }
        }
    }
}

impl<W: Write> Exporter for Csv<W> {
    fn add(&mut self, record: &Record<'_>) -> io::Result<bool> {
        self.fill_cell(record.payload);
        let (ip, port) = (record.peer.ip(), record.peer.port());
        let time = Rfc3339(record.received_unix_ns);
        let length = record.payload.len();
        write!(self.out, "{time},{ip},{port},{},{length},\"", record.listener)?;
        self.out.write_all(&self.cell)?;
        self.out.write_all(b"\"\r\n")?;
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
