//! Dead letters: records that a destination will never take, kept in a journal of their own beside the
//! segments, so that nothing that was received is thrown away.

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

/// The dead letters of one destination. There is no file before the first.
#[derive(Debug)]
pub(super) struct Letters {
    dir: PathBuf,
    open: Option<(Journal, Pen)>,
}

impl Letters {
    pub(super) fn new(journal: &std::path::Path, destination: &str) -> Self {
        Self { dir: journal.join(format!("dead-{}", slug(destination))), open: None }
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
                let spec = JournalSpec {
                    dir: self.dir.clone(),
                    writer: SPEC,
                    buffer_bytes: 0,
                    retention: Retention::default(),
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
