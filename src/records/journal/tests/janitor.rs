//! Segments that earlier runs left plain, and a janitor that is to compress.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::unbounded;

use tempfile::tempdir;

use crate::journal::error::JournalError;
use crate::journal::keep::commit_index::{CommitIndex, Position};
use crate::journal::keep::janitor::{Janitor, Retention, Task};
use crate::journal::keep::seal::{is_intact, survey};
use crate::journal::names;
use crate::journal::open::{Journal, JournalSpec};
use crate::journal::read::reader::Reader;
use crate::journal::segment;
use crate::journal::tests::packed::{read, write_segment};
use crate::journal::writer::WriterSpec;
use crate::settle::notices::Notices;
use crate::settle::run::Committed;

const COMPRESSING: Retention =
    Retention { bytes: None, age: None, only_unsent: false, spool_bytes: None, compress: Some(3) };

const WRITER: WriterSpec = WriterSpec {
    commit_interval: Duration::ZERO,
    commit_bytes: 1,
    segment_bytes: 1 << 20,
    segment_age: Duration::from_secs(3600),
};

/// Sealed plain segments, each with its place.
fn segments(place: &Path, count: u64) -> Vec<PathBuf> {
    let paths: Vec<_> = (1..=count).map(|number| names::path_of(place, 3, number)).collect();
    paths.iter().for_each(|path| drop(write_segment(path, 400_000)));
    paths
}

fn packed(path: &Path) -> PathBuf {
    names::packed_path(path).unwrap()
}

fn janitor(place: &Path) -> Janitor {
    Janitor {
        dir: place.to_owned(),
        dir_lock: Weak::new(),
        retention: COMPRESSING,
        commit_index: Arc::new(CommitIndex::default()),
        notices: Arc::new(Notices::default()),
        found: segment::list(place).unwrap(),
    }
}

#[test]
fn what_earlier_runs_left_plain_is_compressed_by_the_next() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 4);
    let plain: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let numbers = read(&paths[0]);
    // It was killed in the middle of one.
    fs::write(packed(&paths[1]).with_added_extension("tmp"), &plain[1][..1000]).unwrap();
    let (dir, retention, readers) = (place.path().to_owned(), COMPRESSING, Vec::new());
    let spec = JournalSpec { dir, writer: WRITER, buffer_bytes: 1 << 20, retention, readers };
    let journal = Journal::open(spec).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while paths.iter().any(|path| path.exists()) {
        assert!(Instant::now() < deadline, "hung: waited for all to be compressed");
        std::thread::yield_now();
    }
    assert_eq!(journal.notices().take(), Vec::<String>::new());
    journal.close();
    for (path, plain) in paths.iter().zip(plain) {
        assert_eq!(zstd::decode_all(&fs::read(packed(path)).unwrap()[..]).unwrap(), plain);
        assert_eq!((read(path), is_intact(path).unwrap()), (numbers.clone(), Some(true)));
    }
    let names = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(names, paths.len() + 1, "and the lock, and nothing that is unfinished");
}

#[test]
fn the_oldest_is_compressed_first_and_what_is_not_sealed_is_not() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 5);
    for (path, age) in paths.iter().zip([30, 50, 10, 40, 20]) {
        let written = SystemTime::now() - Duration::from_secs(age);
        File::options().append(true).open(path).unwrap().set_modified(written).unwrap();
    }
    let unsealed = fs::read(&paths[2]).unwrap();
    fs::write(&paths[2], &unsealed[..unsealed.len() - 1]).unwrap();
    crate::journal::keep::compress::compress(&paths[4], 3).unwrap();
    let left = janitor(place.path()).uncompressed();
    assert_eq!(left, [&paths[1], &paths[3], &paths[0]].map(PathBuf::clone));
}

/// A stop compresses what this run has sealed, and nothing else.
#[test]
fn a_stop_does_not_wait_for_what_earlier_runs_left() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 3);
    let mut janitor = janitor(place.path());
    janitor.found.pop();
    let (complete, tasks) = unbounded();
    complete.send(Task::Seal(paths[2].clone())).unwrap();
    drop(complete);
    janitor.run(&tasks);
    let plain: Vec<_> = paths.iter().map(|path| path.exists()).collect();
    assert_eq!(plain, [true, true, false]);
    assert!(packed(&paths[2]).exists());
    // One that it is at is left, too.
    let mut waiting = janitor.waiting();
    janitor.compress_one(&mut waiting, &tasks);
    assert!(paths[0].exists() && !packed(&paths[0]).exists());
    assert!(!packed(&paths[0]).with_added_extension("tmp").exists());
}

/// A segment that retention removed before it was sealed causes no notice; one that somebody else removed
/// does.
#[test]
fn what_was_let_go_is_not_missed_when_it_is_to_be_sealed() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 3);
    let mut janitor = janitor(place.path());
    janitor.retention = Retention { only_unsent: true, ..Retention::default() };
    let holds = |sequence| Committed { sequence, offset: 100, records: 1, datagrams: 1 };
    (1..4).for_each(|sequence| janitor.commit_index.add_earlier(3, holds(sequence)));
    fs::remove_file(&paths[1]).unwrap();
    let (complete, tasks) = unbounded();
    paths.iter().for_each(|path| complete.send(Task::Seal(path.clone())).unwrap());
    drop(complete);
    janitor.run(&tasks);
    assert_eq!(paths.iter().filter(|path| path.exists()).collect::<Vec<_>>(), [&paths[2]]);
    let notices = janitor.notices.take();
    let removed = format!("cannot seal {}", paths[1].display());
    assert!(notices.len() == 1 && notices[0].starts_with(&removed), "{notices:?}");
}

/// A segment to be sealed while another is compressed is sealed before the compression ends.
#[test]
fn sealing_does_not_wait_for_compressing() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 2);
    let mut janitor = janitor(place.path());
    janitor.found.pop();
    let sealed = fs::read(&paths[1]).unwrap();
    fs::write(&paths[1], &sealed[..sealed.len() - 1]).unwrap();
    let (complete, tasks) = unbounded();
    complete.send(Task::Seal(paths[1].clone())).unwrap();
    let mut waiting = janitor.waiting();
    janitor.compress_one(&mut waiting, &tasks);
    assert!(packed(&paths[0]).exists());
    assert_eq!(fs::read(&paths[1]).unwrap(), sealed);
    janitor.compress_one(&mut waiting, &tasks);
    assert!(packed(&paths[1]).exists(), "then it is its turn");
}

/// A committed part that is damaged when its segment is sealed is not a torn end: it stays, and a notice
/// reports it.
#[test]
fn what_a_disk_damaged_before_it_was_sealed_is_told_of() {
    let place = tempdir().unwrap();
    let path = names::path_of(place.path(), 3, 1);
    let starts = write_segment(&path, 100_000);
    let sealed = Reader::open(&path).unwrap();
    let footer = *sealed.footer().unwrap();
    let mut janitor = janitor(place.path());
    janitor.retention = Retention::default();
    let records = footer.records;
    let holds = Committed { sequence: 1, offset: footer.data_end, records, datagrams: records };
    janitor.commit_index.record_commit(3, holds);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(footer.data_end).unwrap();
    file.write_all_at(&[0xff; 8], *starts.last().unwrap()).unwrap();
    let (complete, tasks) = unbounded();
    complete.send(Task::Seal(path.clone())).unwrap();
    drop(complete);
    janitor.run(&tasks);
    let notices = janitor.notices.take();
    let told = format!("1 of {records} records that were committed cannot be read");
    assert!(notices.len() == 1 && notices[0].contains(&told), "{notices:?}");
    let found = survey(&mut Reader::open(&path).unwrap(), |_| {}).unwrap();
    assert_eq!((found.records, found.intact), (records - 1, Some(true)));
    assert_eq!(found.torn_bytes, footer.data_end - starts.last().unwrap());
}

/// A segment of an earlier run is opened by a shipper that has read past it.
fn opened(place: &Path) -> Result<Journal, JournalError> {
    let retention = Retention { only_unsent: true, ..Retention::default() };
    let passed = Position { sequence: 5, ..Position::default() };
    let (dir, readers) = (place.to_owned(), vec![BTreeMap::from([(3, passed)])]);
    Journal::open(JournalSpec { dir, writer: WRITER, buffer_bytes: 1 << 20, retention, readers })
}

/// A segment that cannot be read at the start is set aside, because it is unknown which of its records were
/// sent; its number is not used again.
#[test]
fn what_cannot_be_read_at_the_start_is_not_let_go() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 4);
    fs::remove_file(&paths[0]).unwrap();
    fs::write(packed(&paths[0]), [0x50; 1000]).unwrap();
    for start in 0..2 {
        let journal = opened(place.path()).unwrap();
        let repaired = journal.repaired();
        assert_eq!(repaired.len(), 1 - start, "{repaired:?}");
        assert!(repaired.iter().all(|one| one.is_loss() && one.aside.is_some()), "{repaired:?}");
        journal.close();
        let aside = segment::aside(place.path()).unwrap();
        assert!(aside.len() == 1 && (aside[0].sequence, aside[0].bytes) == (1, 1000), "{aside:?}");
        let left: Vec<_> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [false, false, false, true], "what was sent goes, and the newest stays");
    }
}

#[test]
fn what_a_newer_program_wrote_is_left_to_it() {
    let place = tempdir().unwrap();
    let paths = segments(place.path(), 2);
    // Byte 8 of each copy of the header, and its checksum.
    let mut newer = fs::read(&paths[1]).unwrap();
    for copy in newer[..128].chunks_exact_mut(64) {
        copy[8] = 2;
        let sum = crc32c::crc32c(&copy[..60]);
        copy[60..].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&paths[1], &newer).unwrap();
    let refused = opened(place.path()).unwrap_err().to_string();
    assert!(refused.contains("of another version"), "{refused}");
    assert_eq!(fs::read(&paths[1]).unwrap(), newer);
    assert!(paths[0].exists());
}
