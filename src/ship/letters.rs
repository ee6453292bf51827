//! Dead letters: records that a destination will never take, kept in a journal of their own beside the
//! segments, so that nothing that was received is thrown away unasked. Whoever bounds what waits
//! (`--spool-bytes`) bounds them, too: anybody can send what is too large for a broker.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cursor::slug;
use crate::journal::format::Record;
use crate::journal::janitor::Retention;
use crate::journal::open::{Journal, JournalSpec, Pen};
use crate::journal::writer::WriterSpec;

/// A dead letter is committed by itself; segments are small, as they should be few.
const SPEC: WriterSpec = WriterSpec {
    commit_interval: Duration::ZERO,
    commit_bytes: 1,
    segment_bytes: 64 << 20,
    segment_age: Duration::from_secs(24 * 3600),
};

/// Segments that a bound holds at least: the oldest goes as a whole.
const SEGMENTS_MIN: u64 = 4;

/// The dead letters of one destination. There is no file before the first.
#[derive(Debug)]
pub(super) struct Letters {
    dir: PathBuf,
    /// The oldest go when they are larger.
    bytes_max: Option<u64>,
    open: Option<(Journal, Pen)>,
}

impl Letters {
    pub(super) fn new(
        journal: &std::path::Path,
        destination: &str,
        bytes_max: Option<u64>,
    ) -> Self {
        let dir = journal.join(format!("dead-{}", slug(destination)));
        Self { dir, bytes_max, open: None }
    }

    /// Where they are: a journal, for `ringest journal` to read.
    pub(super) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Keeps a record, durably.
    pub(super) fn keep(&mut self, record: &Record<'_>) -> io::Result<()> {
        let (_, pen) = match &mut self.open {
            Some(open) => open,
            None => {
                let most = self.bytes_max.map_or(u64::MAX, |bytes| bytes / SEGMENTS_MIN);
                let spec = JournalSpec {
                    dir: self.dir.clone(),
                    writer: WriterSpec { segment_bytes: SPEC.segment_bytes.min(most), ..SPEC },
                    buffer_bytes: 0,
                    retention: Retention { bytes: self.bytes_max, ..Retention::default() },
                    readers: Vec::new(),
                };
                let journal = Journal::open(spec).map_err(io::Error::other)?;
                let pen = journal.pen(0, 1);
                self.open.insert((journal, pen))
            }
        };
        let now = Instant::now();
        let before = pen.counts().undelivered;
        pen.push(record, now);
        pen.end_datagram(now);
        pen.commit(now, &mut |_| {});
        match pen.counts().undelivered > before {
            true => Err(io::Error::other("it cannot be written")),
            false => Ok(()),
        }
    }

    /// Seals what was kept.
    pub(super) fn close(self) {
        if let Some((journal, mut pen)) = self.open {
            pen.finish(Instant::now(), &mut |_| {});
            drop(pen);
            journal.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::segment;

    #[test]
    fn the_oldest_go_where_they_are_bounded() {
        let dir = std::env::temp_dir().join(format!("ringest-letters-{}", std::process::id()));
        let bytes_max = 64 << 10;
        let mut letters = Letters::new(&dir, "nats:a", Some(bytes_max));
        let payload = vec![b'x'; 1000];
        for number in 0..400 {
            let record = Record {
                received_unix_ns: number,
                peer: "192.0.2.1:5".parse().unwrap(),
                listener: 0,
                continued: false,
                payload: &payload,
            };
            letters.keep(&record).unwrap();
        }
        let place = letters.dir().to_owned();
        letters.close();
        let segments = segment::list(&place).unwrap();
        let held: u64 = segments.iter().map(|one| one.bytes).sum();
        // The bound, and the segment that is never removed.
        assert!(held <= bytes_max + bytes_max / SEGMENTS_MIN + 1024, "{held}");
        assert!(segments.len() > 1 && segments[0].sequence > 1, "{segments:?}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
