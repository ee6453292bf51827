//! Dead letters: records that a destination will never take, kept in a journal of their own beside the
//! segments, so that nothing that was received is thrown away unasked. Whoever bounds what waits
//! (`--spool-bytes`) bounds them, too: anybody can send what is too large for a broker.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::carrier::{Message, MessageId};
use super::cursor::slug;
use super::shipper::{Fate, Post};
use crate::journal::format::Record;
use crate::journal::janitor::Retention;
use crate::journal::open::{Journal, JournalSpec, Pen};
use crate::journal::progress::Run;
use crate::journal::reader::Next;
use crate::journal::segment;
use crate::journal::writer::WriterSpec;

/// Committed when told to; segments are small, as dead letters should be few.
const SPEC: WriterSpec = WriterSpec {
    commit_interval: Duration::MAX,
    commit_bytes: u64::MAX,
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
    /// Those since the last commit.
    uncommitted: usize,
}

impl Letters {
    pub(super) fn new(
        journal: &std::path::Path,
        destination: &str,
        bytes_max: Option<u64>,
    ) -> Self {
        let dir = journal.join(format!("dead-{}", slug(destination)));
        Self { dir, bytes_max, open: None, uncommitted: 0 }
    }

    /// Where they are: a journal, for `ringest journal` to read.
    pub(super) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Has a record that the broker refuses kept as a dead letter, and says so.
    pub(super) fn bury(&mut self, post: &Post, message: &Message<'_>, reason: &str) -> Fate {
        let record = Record {
            received_unix_ns: message.received_unix_ns,
            peer: message.peer,
            listener: message.listener,
            continued: false,
            payload: message.payload,
        };
        let name = &post.destination;
        let (fate, kept) = match self.put(&record) {
            Ok(number) => {
                let place = self.dir.display();
                (Fate::Buried(number), format!("it and others like it are kept in {place}"))
            }
            Err(error) => {
                (Fate::Missing, format!("it could not be kept as a dead letter either: {error}"))
            }
        };
        post.alarms.repeated(
            &format!("{name} dead"),
            &format!("{name} refuses a record of {} for good: {reason}; {kept}", message.peer),
        );
        fate
    }

    /// The same of a record that was read long ago.
    pub(super) fn rebury(&mut self, post: &Post, id: MessageId, reason: &str) -> Fate {
        let opened = segment::open(&post.dir, id.worker, id.sequence);
        let Ok(mut reader) = opened else { return Fate::Missing };
        reader.seek(id.offset);
        match reader.read_next() {
            Ok(Next::Record { offset, record }) if offset == id.offset => {
                let message = Message {
                    ticket: 0,
                    id,
                    peer: record.peer,
                    listener: record.listener,
                    received_unix_ns: record.received_unix_ns,
                    payload: record.payload,
                };
                self.bury(post, &message, reason)
            }
            _ => Fate::Missing,
        }
    }

    /// Takes a record, to be kept by the next commit; returns which one it is of those.
    fn put(&mut self, record: &Record<'_>) -> io::Result<usize> {
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
        pen.push(record, now);
        pen.end_datagram(now);
        self.uncommitted += 1;
        Ok(self.uncommitted - 1)
    }

    /// Makes all that was put durable: once for all of them, as each would wait for the disk. Returns whether
    /// each is kept.
    pub(super) fn commit(&mut self) -> Vec<bool> {
        let mut kept = Vec::with_capacity(std::mem::take(&mut self.uncommitted));
        if let (Some((_, pen)), 1..) = (&mut self.open, kept.capacity()) {
            pen.commit(Instant::now(), &mut |Run { datagrams, lost }| {
                kept.extend((0..datagrams).map(|_| !lost));
            });
        }
        kept
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
    use crate::journal::reader::Reader;

    fn letters(name: &str, bytes_max: Option<u64>) -> Letters {
        let dir = format!("ringest-letters-{name}-{}", std::process::id());
        Letters::new(&std::env::temp_dir().join(dir), "nats:a", bytes_max)
    }

    fn record(number: u64, payload: &[u8]) -> Record<'_> {
        Record {
            received_unix_ns: number,
            peer: "192.0.2.1:5".parse().unwrap(),
            listener: 0,
            continued: false,
            payload,
        }
    }

    fn remove(place: &std::path::Path) {
        std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_oldest_go_where_they_are_bounded() {
        let bytes_max = 64 << 10;
        let mut letters = letters("bounded", Some(bytes_max));
        for number in 0..400 {
            letters.put(&record(number, &[b'x'; 1000])).unwrap();
            assert_eq!(letters.commit(), [true]);
        }
        let place = letters.dir().to_owned();
        letters.close();
        let segments = segment::list(&place).unwrap();
        let held: u64 = segments.iter().map(|one| one.bytes).sum();
        // The bound, and the segment that is never removed.
        assert!(held <= bytes_max + bytes_max / SEGMENTS_MIN + 1024, "{held}");
        assert!(segments.len() > 1 && segments[0].sequence > 1, "{segments:?}");
        remove(&place);
    }

    #[test]
    fn those_of_one_turn_are_committed_together() {
        let mut letters = letters("together", None);
        for turn in 0..3 {
            let put: Vec<usize> = (0..100)
                .map(|number| letters.put(&record(turn * 100 + number, b"x")).unwrap())
                .collect();
            assert!(put.into_iter().eq(0..100));
            assert_eq!(letters.commit(), [true; 100]);
        }
        assert!(letters.commit().is_empty());
        let place = letters.dir().to_owned();
        letters.close();
        let mut reader = Reader::open(&segment::list(&place).unwrap()[0].path).unwrap();
        for number in 0..300 {
            let next = reader.read_next().unwrap();
            let Next::Record { record, .. } = next else { panic!("{next:?} instead of {number}") };
            assert_eq!(record.received_unix_ns, number);
        }
        remove(&place);
    }

    /// Each of them is told to be lost, none but those.
    #[test]
    fn where_they_are_removed_none_is_kept() {
        let mut letters = letters("removed", None);
        letters.put(&record(0, b"x")).unwrap();
        assert_eq!(letters.commit(), [true]);
        let place = letters.dir().to_owned();
        std::fs::remove_dir_all(&place).unwrap();
        for number in 1..3 {
            letters.put(&record(number, b"x")).unwrap();
        }
        assert_eq!(letters.commit(), [false; 2]);
        letters.close();
        remove(&place);
    }
}
