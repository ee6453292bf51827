//! The writer on a disk that forgets what was not synced, fails, stalls, and is cut off at any moment.

/// The reader on segments in which any byte is wrong, and which end anywhere.
pub(super) mod damage;
/// When a writer wants to be looked at though nothing comes.
pub(super) mod due;
/// Segments that earlier runs left plain, and a janitor that is to compress.
pub(super) mod janitor;
/// Compressed segments.
pub(super) mod packed;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use tempfile::tempdir;

use crate::journal::disk::interface::{Disk, Done, SLOTS, Write};
use crate::journal::format::{HEADER_BYTES, Record, record_bytes};
use crate::journal::read::reader::{Next, Reader};
use crate::journal::writer::{BUFFER_BYTES, Environment, Writer, WriterSpec};
use crate::settle::run::{Event, Run};

/// A file as the kernel has it, and as the disk has it.
#[derive(Clone, Debug, Default)]
struct ModelFile {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync: what a crash may keep or forget, each by itself.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Write,
    Sync,
    Create,
}

/// A disk in memory.
#[derive(Debug)]
pub(crate) struct Model {
    buffers: Vec<Box<[u8]>>,
    files: BTreeMap<PathBuf, ModelFile>,
    slots: [Option<PathBuf>; SLOTS],
    under_way: Vec<Operation>,
    /// Nothing ends until it is waited for.
    pub(crate) stalled: bool,
    /// How often that was.
    waited: u64,
    fault: Fault,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Create(usize),
    Write(Write),
    Sync(usize),
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

impl Model {
    fn new(buffers: usize, seed: u64) -> Self {
        Self {
            buffers: vec![vec![0; BUFFER_BYTES].into_boxed_slice(); buffers],
            files: BTreeMap::new(),
            slots: [None, None],
            under_way: Vec::new(),
            stalled: false,
            waited: 0,
            fault: Fault::None,
            random: seed | 1,
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        // xorshift64: any will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % below as u64).unwrap()
    }

    fn file(&mut self, slot: usize) -> &mut ModelFile {
        let path = self.slots[slot].clone().expect("a slot is written to before it has a file");
        self.files.entry(path).or_default()
    }

    fn end(&mut self, operation: Operation) -> Done {
        match operation {
            Operation::Create(slot) if self.fault == Fault::Create => {
                self.slots[slot] = None;
                Done::Created(slot, Err(full()))
            }
            Operation::Create(slot) => {
                let path = self.slots[slot].clone().unwrap();
                let before = self.files.insert(path, ModelFile::default());
                assert!(before.is_none(), "a segment is made twice");
                Done::Created(slot, Ok(()))
            }
            Operation::Write(write)
                if self.fault == Fault::Write || self.slots[write.slot].is_none() =>
            {
                Done::Write(write.number, Err(full()))
            }
            Operation::Write(write) => {
                let bytes = self.buffers[write.buffer][write.from..write.to].to_vec();
                let offset = usize::try_from(write.offset).unwrap();
                let file = self.file(write.slot);
                let end = offset + bytes.len();
                file.cached.resize(file.cached.len().max(end), 0);
                file.cached[offset..end].copy_from_slice(&bytes);
                file.unsynced.push((offset, bytes));
                Done::Write(write.number, Ok(()))
            }
            Operation::Sync(slot) if self.fault == Fault::Sync => Done::Sync(slot, Err(full())),
            Operation::Sync(slot) => {
                let file = self.file(slot);
                file.durable = file.cached.clone();
                file.unsynced.clear();
                Done::Sync(slot, Ok(()))
            }
        }
    }

    /// Cuts a segment that was given up, as the janitor does.
    fn cut(&mut self, path: &Path, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap();
        let Some(file) = self.files.get_mut(path) else { return };
        assert!(file.durable.len() >= bytes, "what is committed is durable");
        file.cached.truncate(bytes);
        file.durable.truncate(bytes);
        file.unsynced.retain_mut(|(offset, part)| {
            part.truncate(bytes.saturating_sub(*offset));
            !part.is_empty()
        });
    }

    /// Returns the files after a power cut: any part of what was not synced may be missing.
    fn after_crash(&mut self) -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        for mut file in self.files.clone().into_values() {
            for (offset, bytes) in file.unsynced {
                let kept = self.draw(bytes.len() + 1);
                if self.draw(2) == 0 || kept == 0 {
                    continue;
                }
                let end = offset + kept;
                file.durable.resize(file.durable.len().max(end), 0);
                file.durable[offset..end].copy_from_slice(&bytes[..kept]);
            }
            files.push(file.durable);
        }
        files
    }
}

impl Disk for Model {
    fn buffer(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index]
    }

    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()> {
        self.slots[slot] = Some(path.to_owned());
        self.under_way.push(Operation::Create(slot));
        Ok(())
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        self.under_way.push(Operation::Write(write));
        Ok(())
    }

    fn sync(&mut self, slot: usize) -> io::Result<()> {
        self.under_way.push(Operation::Sync(slot));
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        assert!(self.under_way.iter().all(|other| other.slot() != slot), "still written to");
        self.slots[slot] = None;
    }

    /// Any of what is under way may end, in any order; but nothing before its file is there.
    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()> {
        let count = self.under_way.len();
        assert!(!wait || count > 0, "waits for nothing");
        if wait && std::mem::take(&mut self.stalled) {
            self.waited += 1;
        }
        let ending = if self.stalled { 0 } else { self.draw(count + 1).max(usize::from(wait)) };
        for _ in 0..ending {
            let mut place = self.draw(self.under_way.len());
            let slot = self.under_way[place].slot();
            let creation =
                |other: &Operation| matches!(other, Operation::Create(of) if *of == slot);
            place = self.under_way.iter().position(creation).unwrap_or(place);
            let operation = self.under_way.swap_remove(place);
            let ended = self.end(operation);
            done.push(ended);
        }
        Ok(())
    }
}

impl Operation {
    fn slot(self) -> usize {
        match self {
            Self::Create(slot) | Self::Sync(slot) => slot,
            Self::Write(write) => write.slot,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A datagram of so many records of so many bytes.
    Append(usize, usize),
    /// This many ms pass.
    Pump(u64),
    Fault(Fault),
    /// The disk stalls, or goes on.
    Stall(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..4, prop_oneof![0usize..100, Just(60_000)])
            .prop_map(|(records, bytes)| Step::Append(records, bytes)),
        6 => (0u64..100).prop_map(Step::Pump),
        1 => prop_oneof![
            Just(Fault::None), Just(Fault::None), Just(Fault::Write), Just(Fault::Sync), Just(Fault::Create)
        ].prop_map(Step::Fault),
        1 => any::<bool>().prop_map(Step::Stall),
    ]
}

/// The numbers of the datagrams whose records are in a segment, in order.
fn numbers_in(bytes: &[u8], place: &Path) -> Vec<u64> {
    let mut file =
        fs::File::options().read(true).write(true).create(true).truncate(true).open(place).unwrap();
    file.write_all(bytes).unwrap();
    numbers_of(file)
}

pub(crate) fn numbers_of(file: fs::File) -> Vec<u64> {
    let Ok(mut reader) = Reader::from_file(file) else { return Vec::new() };
    let mut numbers = Vec::new();
    loop {
        match reader.read_next().unwrap() {
            Next::Record { record, .. } => {
                let (number, rest) = record.payload.split_first_chunk().unwrap();
                let number = u64::from_le_bytes(*number);
                assert!(rest.iter().all(|byte| *byte == number.to_le_bytes()[0]), "not as written");
                numbers.push(number);
            }
            Next::Damaged { .. } => {}
            Next::End { .. } => return numbers,
        }
    }
}

/// Runs steps, cuts the power, and looks at what is left.
fn crash(steps: &[Step], seed: u64, segment_bytes: u64) {
    let spec = WriterSpec {
        commit_interval: Duration::from_millis(50),
        commit_bytes: 100_000,
        segment_bytes,
        segment_age: Duration::from_secs(60),
    };
    let dir = Path::new("/nowhere");
    let environment = Environment { salt: || 0x5eed, now_unix_ns: || 7 };
    let mut writer = Writer::new(Model::new(3, seed), 3, (dir, 0, 1), spec, environment);
    let peer = "192.0.2.1:5".parse().unwrap();
    let mut now = Instant::now();
    let (mut number, mut committed) = (0u64, Vec::new());
    // Datagrams in the order of their fate: of those that are not given up, the first `committed`.
    let mut alive: Vec<(u64, usize)> = Vec::new();
    let mut given_up = 0;
    for step in steps {
        match *step {
            Step::Append(records, bytes) => {
                let low = number.to_le_bytes();
                let payload = [&low[..], &vec![low[0]; bytes]].concat();
                let record = Record {
                    received_unix_ns: 1,
                    peer,
                    listener: 0,
                    continued: false,
                    payload: &payload,
                };
                alive.push((number, records));
                for _ in 0..records {
                    writer.push(&record, now);
                }
                writer.end_datagram(now);
                number += 1;
            }
            Step::Pump(ms) => {
                now += Duration::from_millis(ms);
                writer.pump(now);
            }
            Step::Fault(fault) => writer.disk().fault = fault,
            Step::Stall(stalled) => writer.disk().stalled = stalled,
        }
        for event in writer.take_events() {
            if let Event::GivenUp(_, path, committed) = event {
                writer.disk().cut(&path, committed);
            }
        }
        let counts = writer.counts();
        assert_eq!(counts.committed + counts.undelivered + counts.pending, number, "{counts:?}");
        if counts.undelivered > given_up {
            // Given up from behind the last committed one on, but what was committed stays so.
            given_up = counts.undelivered;
            alive.truncate(usize::try_from(counts.committed).unwrap().min(alive.len()));
        }
        let durable = usize::try_from(counts.committed).unwrap();
        committed = alive[..durable.min(alive.len())].to_vec();
    }
    let dir = tempdir().unwrap();
    let place = dir.path().join("segment");
    let found: Vec<u64> =
        writer.disk().after_crash().iter().flat_map(|file| numbers_in(file, &place)).collect();
    for (number, records) in committed {
        let there = found.iter().filter(|found| **found == number).count();
        assert!(there >= records, "{number}: {there} of {records} records, though committed");
    }
    assert!(found.is_sorted(), "out of order: {found:?}");
    // On a disk that works again nothing is left over.
    (writer.disk().fault, writer.disk().stalled) = (Fault::None, false);
    writer.finish(now);
    let counts = writer.counts();
    assert_eq!((counts.committed + counts.undelivered, counts.pending), (number, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Nothing committed is ever missing, nothing torn is ever read, whatever the disk does.
    #[test]
    fn what_is_committed_survives_a_crash(
        steps in proptest::collection::vec(step(), 1..80),
        seed: u64,
        segment_bytes in prop_oneof![Just(1_000u64), Just(200_000), Just(1 << 30)],
    ) {
        crash(&steps, seed, segment_bytes);
    }
}

/// RINGEST_JOURNAL_CASES=100000 asks for a longer run, and for every byte of the damaged segment.
pub(crate) fn cases() -> u32 {
    std::env::var("RINGEST_JOURNAL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

/// A writer whose segments are so large and get so old, on a disk that does what it is told.
pub(crate) fn writer(segment_bytes: u64, age_s: u64) -> Writer<Model> {
    let spec = WriterSpec {
        commit_interval: Duration::from_millis(50),
        commit_bytes: 1 << 20,
        segment_bytes,
        segment_age: Duration::from_secs(age_s),
    };
    let environment = Environment { salt: || 0x5eed, now_unix_ns: || 7 };
    Writer::new(Model::new(3, 1), 3, (Path::new("/nowhere"), 0, 1), spec, environment)
}

pub(crate) fn record(payload: &[u8]) -> Record<'_> {
    let peer = "192.0.2.1:5".parse().unwrap();
    Record { received_unix_ns: 1, peer, listener: 0, continued: false, payload }
}

#[test]
fn everything_is_committed_at_the_end_and_segments_are_complete() {
    let mut writer = writer(10_000, 60);
    let now = Instant::now();
    let record = record(&[7; 1000]);
    for _ in 0..100 {
        writer.push(&record, now);
        writer.end_datagram(now);
        // A disk that keeps up.
        for _ in 0..20 {
            writer.pump(now);
        }
    }
    writer.finish(now);
    assert_eq!(writer.counts().committed, 100);
    let (mut complete, mut committed) = (0, 0);
    for event in writer.take_events() {
        match event {
            Event::Complete(sequence, _) => {
                complete += 1;
                assert_eq!(sequence, complete, "in their order");
            }
            Event::Committed(holds) => {
                assert_eq!(holds.sequence, complete + 1);
                assert_eq!(holds.offset, HEADER_BYTES as u64 + 1040 * holds.records);
                committed = committed.max(complete * 9 + holds.datagrams);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((complete, committed), (12, 100), "nine records of 1040 bytes a segment");
    assert_eq!(writer.take_runs(), [Run { datagrams: 100, lost: false }]);
    assert_eq!(writer.disk().files.len(), 12);
}

/// Whether or not another record comes: how long a segment is kept counts from its end.
#[test]
fn a_segment_that_got_old_is_complete_though_nothing_comes() {
    let mut writer = writer(1 << 20, 60);
    let record = record(&[7; 100]);
    let begun = Instant::now();
    let mut complete = Vec::new();
    let mut quiet = |writer: &mut Writer<Model>, at: u64| {
        (0..20).for_each(|_| writer.pump(begun + Duration::from_secs(at)));
        for event in writer.take_events() {
            complete.extend(match event {
                Event::Complete(sequence, _) => Some(sequence),
                _ => None,
            });
        }
        complete.clone()
    };
    for (segment, at) in [(1, 0), (2, 200)] {
        writer.push(&record, begun + Duration::from_secs(at));
        writer.end_datagram(begun + Duration::from_secs(at));
        let before: Vec<u64> = (1..segment).collect();
        assert_eq!(quiet(&mut writer, at + 59), before, "not old yet");
        assert_eq!(quiet(&mut writer, at + 60), [before, vec![segment]].concat());
        assert_eq!(quiet(&mut writer, at + 150).len() as u64, segment, "none is begun for nothing");
    }
    assert_eq!(writer.disk().files.len(), 2);
}

/// A disk on which nothing ends, for as long as the buffers last: it is never waited for, however many
/// segments that is. Then all of it is committed.
#[test]
fn a_disk_that_stalls_is_not_waited_for() {
    for stalled_from in [0, 1, 10, 50] {
        let mut writer = writer(10_000, 1);
        let record = record(&[7; 1000]);
        let mut now = Instant::now();
        let fits = 3 * BUFFER_BYTES / (record_bytes(1000) + 100);
        for number in 0..fits {
            writer.disk().stalled = number >= stalled_from;
            writer.push(&record, now);
            writer.end_datagram(now);
            now += Duration::from_millis(20);
            writer.pump(now);
        }
        assert_eq!(writer.disk().waited, 0, "the worker stood still");
        let counts = writer.counts();
        assert!(counts.pending >= fits as u64 - stalled_from as u64, "{counts:?}");
        assert_eq!(counts.undelivered, 0);
        writer.disk().stalled = false;
        writer.finish(now);
        assert_eq!(writer.counts().committed, fits as u64);
    }
}

/// Once the disk takes something again, so does the writer, within a second: by its own clock.
#[test]
fn a_disk_that_works_again_is_written_to_within_a_second() {
    for fault in [Fault::Write, Fault::Sync, Fault::Create] {
        let mut writer = writer(10_000, 60);
        let record = record(&[7; 1000]);
        let mut now = Instant::now();
        let mut land = |writer: &mut Writer<Model>| {
            writer.push(&record, now);
            writer.end_datagram(now);
            now += Duration::from_millis(10);
            writer.pump(now);
        };
        writer.disk().fault = fault;
        (0..500).for_each(|_| land(&mut writer));
        let failing = writer.counts();
        assert!(failing.undelivered > 400 && failing.committed == 0, "{fault:?}: {failing:?}");
        writer.disk().fault = Fault::None;
        (0..100).for_each(|_| land(&mut writer));
        let healed = writer.counts();
        assert!(healed.committed > 0, "{fault:?}: {healed:?}");
    }
}
