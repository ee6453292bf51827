//! A destination's durable position: a small file in the journal's directory that is replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use ringest_records::journal::keep::commit_index::Position;

/// Larger than any cursor of 65 536 workers, bytes. A larger file is not a cursor.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A destination's cursor. All records before its positions are settled there.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    destination: String,
}

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    destination: String,
    workers: Vec<Row>,
    /// Checksum of the other fields as written. Without it a changed number would skip records unnoticed.
    crc32c: u32,
}

impl Document {
    fn of(destination: &str, workers: Vec<Row>) -> serde_json::Result<Self> {
        let said = serde_json::to_vec(&(VERSION, destination, &workers))?;
        let (destination, crc32c) = (destination.to_owned(), crc32c::crc32c(&said));
        Ok(Self { version: VERSION, destination, workers, crc32c })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    worker: u16,
    sequence: u64,
    offset: u64,
    records: u64,
}

impl Cursor {
    /// Returns the cursor of `destination` in the journal `dir`.
    #[must_use]
    pub fn new(dir: &Path, destination: &str) -> Self {
        let path = dir.join(format!("ship-{}.cursor", slug(destination)));
        Self { path, destination: destination.to_owned() }
    }

    /// Returns the path at which a new cursor is written before it replaces the old one.
    pub(crate) fn new_path(&self) -> PathBuf {
        self.path.with_extension("cursor.new")
    }

    /// Reads the positions, by worker. Returns no positions if the cursor was never written: everything is
    /// unsent then.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged ([`io::ErrorKind::InvalidData`]).
    pub fn read(&self) -> io::Result<BTreeMap<u16, Position>> {
        let facts = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            facts => facts?,
        };
        let damaged = |what: &str| {
            let why = format!(
                "{}: {what}: everything in the journal is sent to {} again",
                self.path.display(),
                self.destination
            );
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        if facts.len() > FILE_BYTES_MAX {
            return Err(damaged("larger than any cursor"));
        }
        let document: Document = serde_json::from_slice(&fs::read(&self.path)?)
            .map_err(|error| damaged(&error.to_string()))?;
        if document.version != VERSION || document.destination != self.destination {
            return Err(damaged("not this destination's cursor"));
        }
        let Document { workers, crc32c, .. } = document;
        let document = Document::of(&self.destination, workers)?;
        if document.crc32c != crc32c {
            return Err(damaged("damaged"));
        }
        let position = |row: &Row| Position {
            sequence: row.sequence,
            offset: row.offset,
            records: row.records,
            datagrams: 0,
        };
        Ok(document.workers.iter().map(|row| (row.worker, position(row))).collect())
    }

    /// Writes the positions durably: after a crash either these or the previous ones are read.
    ///
    /// # Errors
    /// A file system operation failed.
    pub fn write(&self, positions: &BTreeMap<u16, Position>) -> io::Result<()> {
        let row = |(worker, at): (&u16, &Position)| Row {
            worker: *worker,
            sequence: at.sequence,
            offset: at.offset,
            records: at.records,
        };
        let workers = positions.iter().map(row).collect();
        let document = Document::of(&self.destination, workers)?;
        let new = self.new_path();
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
        file.write_all(&serde_json::to_vec(&document)?)?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Returns a destination's name as part of a file name: its readable characters, and a checksum of all of
/// it.
pub(crate) fn slug(destination: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let readable: String = destination.chars().take(60).map(plain).collect();
    format!("{readable}-{:08x}", crc32c::crc32c(destination.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_others_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let cursor = Cursor::new(dir, "nats:127.0.0.1/../S/s");
        assert_eq!(cursor.read().unwrap(), BTreeMap::new());
        let at = |sequence| Position { sequence, offset: 64, records: 9, datagrams: 0 };
        let positions = BTreeMap::from([(0, at(1)), (7, at(u64::MAX))]);
        cursor.write(&positions).unwrap();
        assert_eq!(cursor.read().unwrap(), positions);
        assert_eq!(Cursor::new(dir, "nats:127.0.0.1/../S/t").read().unwrap(), BTreeMap::new());
        let path = cursor.path.clone();
        assert_eq!(path.parent(), Some(dir), "nothing leads out of the journal");
        let bytes = fs::read(&path).unwrap();
        for cut in [0, 1, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            let error = cursor.read().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(
                error.to_string().contains("is sent to nats:127.0.0.1/../S/s again"),
                "{error}"
            );
        }
        // With any bit flipped the cursor is either reported as damaged or reads the same.
        for place in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            fs::write(&path, &flipped).unwrap();
            match cursor.read() {
                Ok(read) => assert_eq!(read, positions, "bit {place}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "bit {place}"),
            }
        }
    }
}
