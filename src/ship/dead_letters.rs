//! Dead letters: records that a destination will never accept. They are kept in a journal of their own
//! below the main one, so that no received record is dropped silently. `--spool-bytes` bounds them too,
//! because any peer can send records that are too large for a broker.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::carrier::MessageId;
use crate::cursor::slug;
use ringest_records::journal::dir::JournalDir;
use ringest_records::journal::format::Record;
use ringest_records::journal::journal_writer::JournalWriter;
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::read::reader::{Next, ReadError, Reader};
use ringest_records::journal::writer::WriterSpec;
use ringest_records::settle::run::Run;

/// Commits happen on request only. Segments are small, as dead letters should be rare.
const SPEC: WriterSpec = WriterSpec {
    commit_interval: Duration::MAX,
    commit_bytes: u64::MAX,
    segment_bytes: 64 << 20,
    segment_age: Duration::from_secs(24 * 3600),
};

/// The reason for a failure that the disk gave no error for.
const BACKING_OFF: &str = "the disk failed a moment ago";

/// Number of segments within the bound, at least: the oldest is removed as a whole.
const SEGMENTS_MIN: u64 = 4;

/// The dead letters of one destination. No file is created before the first.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    dir: PathBuf,
    /// Bound of their size, bytes: the oldest are removed beyond it. `None`: no bound.
    bytes_max: Option<u64>,
    open: Option<(Journal, JournalWriter)>,
    /// Number of dead letters since the last commit.
    uncommitted: usize,
    /// Outcomes of their writes.
    runs: Vec<Run>,
    /// Worker and number of the segment that the last dead letter was read from, and its reader.
    source: Option<((u16, u64), Reader)>,
}

impl DeadLetters {
    pub(crate) fn new(journal: &Path, destination: &str, bytes_max: Option<u64>) -> Self {
        let dir = journal.join(format!("dead-{}", slug(destination)));
        Self { dir, bytes_max, open: None, uncommitted: 0, runs: Vec::new(), source: None }
    }

    /// Returns their directory: a journal that `ringest journal` can read.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Copies a record that the broker refuses; the next commit makes it durable. Returns the record's
    /// peer, or `None` if the record can no longer be read.
    ///
    /// # Errors
    /// The dead letters cannot be written, or the journal cannot be read, for now.
    pub(crate) fn put(
        &mut self,
        journal_dir: &JournalDir,
        id: MessageId,
    ) -> io::Result<Option<SocketAddr>> {
        let segment = (id.worker, id.sequence);
        let known = self.source.take().filter(|(known, _)| *known == segment);
        let mut reader = match known {
            Some((_, reader)) => reader,
            None => match Reader::find(journal_dir.dir(), id.worker, id.sequence) {
                Ok(reader) => reader,
                Err(ReadError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                // If its disk is absent, it will be back: that is an error.
                Err(_) => return journal_dir.check().map(|()| None),
            },
        };
        reader.seek(id.offset);
        let record = match reader.read_next()? {
            Next::Record { offset, record } if offset == id.offset => record,
            _ => return Ok(None),
        };
        let record = Record { continued: false, ..record };
        let (_, writer) = match &mut self.open {
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
                let writer = journal.writer(0, 1);
                self.open.insert((journal, writer))
            }
        };
        let (now, lost) = (Instant::now(), writer.counts().undelivered);
        writer.push(&record, now);
        writer.end_datagram(now);
        self.uncommitted += 1;
        let peer = record.peer;
        self.source = Some((segment, reader));
        if writer.counts().undelivered > lost {
            writer.pump(now, &mut |run| self.runs.push(run));
            return Err(io::Error::other(writer.trouble().unwrap_or(BACKING_OFF).to_owned()));
        }
        Ok(Some(peer))
    }

    /// Makes all copied records durable with one commit. Returns how many of them, from the first on, are
    /// kept, and the error that kept the others from it.
    pub(crate) fn commit(&mut self) -> (usize, Option<String>) {
        self.source = None;
        let (Some((_, writer)), 1..) = (&mut self.open, std::mem::take(&mut self.uncommitted))
        else {
            return (0, None);
        };
        writer.commit(Instant::now(), &mut |run| self.runs.push(run));
        let (mut kept, mut lost) = (0, false);
        for run in self.runs.drain(..) {
            lost |= run.lost;
            kept += if lost { 0 } else { usize::try_from(run.datagrams).unwrap_or(0) };
        }
        let trouble = || writer.trouble().unwrap_or(BACKING_OFF).to_owned();
        (kept, lost.then(trouble))
    }

    /// Seals the dead letters.
    pub(crate) fn close(self) {
        if let Some((journal, mut writer)) = self.open {
            writer.finish(Instant::now(), &mut |_| {});
            drop(writer);
            journal.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    use crate::tests::temp_dir;
    use ringest_records::journal::segment;

    /// Writes a journal of `count` records of a kilobyte in one segment, numbered by their times. Returns
    /// their IDs.
    fn records(count: u64) -> (TempDir, Vec<MessageId>) {
        let place = temp_dir();
        let spec = JournalSpec {
            dir: place.path().to_owned(),
            writer: SPEC,
            buffer_bytes: 1 << 20,
            retention: Retention::default(),
            readers: Vec::new(),
        };
        let journal = Journal::open(spec).unwrap();
        let mut writer = journal.writer(0, 1);
        let (peer, payload) = ("192.0.2.1:5".parse().unwrap(), &[b'x'; 1000][..]);
        for number in 0..count {
            let record =
                Record { received_unix_ns: number, peer, listener: 0, continued: false, payload };
            writer.push(&record, Instant::now());
            writer.end_datagram(Instant::now());
        }
        writer.finish(Instant::now(), &mut |_| {});
        drop(writer);
        journal.close();
        let mut reader = Reader::find(place.path(), 0, 1).unwrap();
        let mut ids = Vec::new();
        while let Next::Record { offset, .. } = reader.read_next().unwrap() {
            ids.push(MessageId { segment: 0, worker: 0, sequence: 1, offset });
        }
        assert_eq!(ids.len() as u64, count);
        (place, ids)
    }

    /// Returns the receive times of the dead letters.
    fn kept(dead_letters: DeadLetters) -> Vec<u64> {
        let place = dead_letters.dir().to_owned();
        dead_letters.close();
        let mut found = Vec::new();
        for one in segment::list(&place).unwrap() {
            let mut reader = Reader::open(&one.path).unwrap();
            while let Next::Record { record, .. } = reader.read_next().unwrap() {
                found.push(record.received_unix_ns);
            }
        }
        found
    }

    #[test]
    fn the_oldest_go_where_they_are_bounded() {
        let (place, ids) = records(400);
        let bytes_max = 64 << 10;
        let mut dead_letters = DeadLetters::new(place.path(), "nats:a", Some(bytes_max));
        for id in ids {
            assert!(
                dead_letters.put(&JournalDir::at(place.path()).unwrap(), id).unwrap().is_some()
            );
            assert_eq!(dead_letters.commit(), (1, None));
        }
        let dir = dead_letters.dir().to_owned();
        dead_letters.close();
        let segments = segment::list(&dir).unwrap();
        let held: u64 = segments.iter().map(|one| one.bytes).sum();
        // The bound, and the segment that is never removed.
        assert!(held <= bytes_max + bytes_max / SEGMENTS_MIN + 1024, "{held}");
        assert!(segments.len() > 1 && segments[0].sequence > 1, "{segments:?}");
    }

    #[test]
    fn those_of_one_turn_are_committed_together() {
        let (place, ids) = records(300);
        let mut dead_letters = DeadLetters::new(place.path(), "nats:a", None);
        for turn in ids.chunks(100) {
            assert!(turn.iter().all(|id| {
                dead_letters.put(&JournalDir::at(place.path()).unwrap(), *id).unwrap().is_some()
            }));
            assert_eq!(dead_letters.commit(), (100, None));
        }
        assert_eq!(dead_letters.commit(), (0, None));
        assert!(kept(dead_letters).into_iter().eq(0..300));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let (place, ids) = records(3);
        let mut dead_letters = DeadLetters::new(place.path(), "nats:a", None);
        let elsewhere = [
            MessageId { offset: ids[0].offset + 8, ..ids[0] },
            MessageId { sequence: 2, ..ids[0] },
        ];
        for id in elsewhere {
            assert_eq!(dead_letters.put(&JournalDir::at(place.path()).unwrap(), id).unwrap(), None);
        }
        dead_letters.put(&JournalDir::at(place.path()).unwrap(), ids[1]).unwrap();
        assert_eq!(dead_letters.commit(), (1, None));
        assert_eq!(kept(dead_letters), [1]);
    }

    /// No dead letter counts as kept, the reason is reported, and once the directory is back they are kept
    /// after all.
    #[test]
    fn where_they_are_removed_none_is_kept_until_it_heals() {
        let (place, ids) = records(3);
        let mut dead_letters = DeadLetters::new(place.path(), "nats:a", None);
        dead_letters.put(&JournalDir::at(place.path()).unwrap(), ids[0]).unwrap();
        assert_eq!(dead_letters.commit(), (1, None));
        std::fs::remove_dir_all(dead_letters.dir()).unwrap();
        let mut reasons = Vec::new();
        loop {
            let put = ids[1..].iter().try_for_each(|id| {
                dead_letters.put(&JournalDir::at(place.path()).unwrap(), *id).map(drop)
            });
            match (put, dead_letters.commit()) {
                (Ok(()), (2, None)) => break,
                (put, (0, trouble)) => {
                    reasons.extend(put.err().map(|error| error.to_string()).or(trouble));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(reasons[0].contains("removed"), "{reasons:?}");
        assert_eq!(kept(dead_letters), [1, 2]);
    }
}
