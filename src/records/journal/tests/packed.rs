//! Compressed segments: to the byte what they were, whatever is wrong with a file detected, and at the
//! cost of one frame's records.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use tempfile::tempdir;

use crate::journal::format::{Header, Record, record_bytes};
use crate::journal::keep::compress::{compress, remove_leftovers};
use crate::journal::keep::seal::{is_intact, seal, survey};
use crate::journal::names;
use crate::journal::read::packed::{ENTRY_BYTES, FRAME_BYTES, HEAD_BYTES};
use crate::journal::read::reader::{Next, Reader};
use crate::journal::segment;

/// The payload of a record: it says its number, and its bytes follow from that.
fn payload(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = number.to_le_bytes().to_vec();
    // A little that cannot be compressed, and more that can.
    for _ in 0..number % 40 {
        state = state.rotate_left(7).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.push(state.to_be_bytes()[0]);
    }
    bytes.resize(bytes.len() + usize::try_from(number * 7 % 500).unwrap(), bytes[0]);
    bytes
}

/// Writes a sealed segment of at least so many bytes; returns where its records begin.
pub(crate) fn write_segment(path: &Path, bytes: usize) -> Vec<u64> {
    let header = Header { worker: 3, sequence: 1, salt: 99, created_unix_ns: 1 };
    let mut segment = header.encode().to_vec();
    let mut starts = Vec::new();
    while segment.len() < bytes {
        let number = starts.len() as u64;
        let payload = payload(number);
        let record = Record {
            received_unix_ns: 1000 + number,
            peer: "192.0.2.1:5".parse().unwrap(),
            listener: 0,
            continued: false,
            payload: &payload,
        };
        let at = segment.len();
        starts.push(at as u64);
        segment.resize(at + record_bytes(payload.len()), 0);
        record.encode(&mut segment[at..], header.salt, at as u64);
    }
    fs::write(path, segment).unwrap();
    seal(path).unwrap();
    starts
}

/// The numbers of the records that are read, each checked to be whole.
fn numbers(mut reader: Reader) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match reader.read_next().unwrap() {
            Next::Record { record, .. } => {
                let number = u64::from_le_bytes(*record.payload.first_chunk().unwrap());
                assert_eq!(record.payload, payload(number), "not as written");
                assert_eq!(record.received_unix_ns, 1000 + number);
                numbers.push(number);
            }
            Next::Damaged { .. } => {}
            Next::End { .. } => return numbers,
        }
    }
}

pub(crate) fn read(path: &Path) -> Vec<u64> {
    Reader::open(path).map_or_else(|_| Vec::new(), numbers)
}

/// Where each frame of a compressed file begins, the head first, and where the table does.
fn frame_starts(file: &[u8]) -> Vec<usize> {
    let word = |at: usize| usize::try_from(u32::from_le_bytes(*file[at..].first_chunk().unwrap()));
    let count = word(file.len() - 9).unwrap();
    let table = file.len() - 9 - count * ENTRY_BYTES;
    let mut starts = vec![0];
    for entry in 0..count {
        starts.push(starts[entry] + word(table + entry * ENTRY_BYTES).unwrap());
    }
    assert_eq!(starts[count], table - 8, "the table says where everything is");
    starts
}

fn unpacked(file: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(file).unwrap()
}

#[test]
fn a_compressed_segment_is_the_segment() {
    let place = tempdir().unwrap();
    for bytes in [64, 65, 100_000, 3 << 20] {
        let path = names::path_of(place.path(), 3, 1);
        let packed = names::packed_path(&path).unwrap();
        let starts = write_segment(&path, bytes);
        let all: Vec<u64> = (0..starts.len() as u64).collect();
        let plain = fs::read(&path).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let footer = *Reader::open(&path).unwrap().footer().unwrap();
        compress(&path, 3).unwrap();
        assert!(!path.exists() && unpacked(&fs::read(&packed).unwrap()) == plain);
        assert_eq!(fs::metadata(&packed).unwrap().modified().unwrap(), written, "as old as it was");
        let listed = segment::list(place.path()).unwrap();
        assert_eq!((listed.len(), &listed[0].path), (1, &packed));
        assert_eq!(listed[0].bytes, fs::metadata(&packed).unwrap().len());
        // Under either name: whoever has listed it before it was compressed finds it.
        for name in [&path, &packed] {
            let mut reader = Reader::open(name).unwrap();
            assert!(reader.is_compressed());
            assert_eq!(reader.footer(), Some(&footer));
            let found = survey(&mut reader, |_| {}).unwrap();
            assert_eq!((found.records, found.damaged), (all.len() as u64, 0));
            assert_eq!((found.intact, is_intact(name).unwrap()), (Some(true), Some(true)));
            assert_eq!(read(name), all);
        }
        for (index, from) in all.iter().enumerate().step_by(501) {
            let mut reader = Reader::open(&packed).unwrap();
            reader.seek_time(1000 + from).unwrap();
            assert!(reader.offset() <= starts[index], "at or before {from}");
            assert!(starts[index] - reader.offset() < 70_000, "by the index");
            let found = numbers(reader);
            assert!(found.contains(from) && found.last() == all.last());
            let mut reader = Reader::open(&packed).unwrap();
            reader.seek_record(*from).unwrap();
            assert!(numbers(reader).contains(from));
        }
        assert!(compress(&packed, 3).is_err() && packed.exists(), "once is enough");
        assert_eq!(seal(&packed).unwrap().records, all.len() as u64);
        assert_eq!(unpacked(&fs::read(&packed).unwrap()), plain, "and it is not sealed again");
        fs::remove_file(&packed).unwrap();
    }
}

/// Every byte (of the gate, every so many) of a compressed segment flipped: only records of the frame it
/// is in are lost, none is read as another, and a loss is noticed.
#[test]
fn a_wrong_byte_costs_one_frame_at_most() {
    let place = tempdir().unwrap();
    let path = names::path_of(place.path(), 3, 1);
    let packed = names::packed_path(&path).unwrap();
    let starts = write_segment(&path, 3 * FRAME_BYTES);
    compress(&path, 3).unwrap();
    let bytes = fs::read(&packed).unwrap();
    let frames = frame_starts(&bytes);
    let all: Vec<u64> = (0..starts.len() as u64).collect();
    assert!(frames.len() > 4 && bytes.len() < 200_000, "{} {}", frames.len(), bytes.len());
    let file = fs::File::options().write(true).open(&packed).unwrap();
    let ends = |index: u64| starts.get(usize::try_from(index + 1).unwrap()).copied();
    // All of head and table, and some of the frames.
    let step = if every_byte() { 1 } else { 97 };
    let table = *frames.last().unwrap();
    let some = (HEAD_BYTES..table).step_by(step);
    let mut lost_any = 0;
    for at in (0..HEAD_BYTES).chain(some).chain(table..bytes.len()) {
        file.write_all_at(&[bytes[at] ^ 0x40], at as u64).unwrap();
        let found = read(&packed);
        // The first frame is the head, and what is behind the last is the table.
        let frame = frames.partition_point(|start| *start <= at) - 1;
        let held = (frame.saturating_sub(1) * FRAME_BYTES) as u64..(frame * FRAME_BYTES) as u64;
        let is_of_frame = |number: u64| {
            let start = starts[usize::try_from(number).unwrap()];
            start < held.end && ends(number).is_none_or(|end| end > held.start)
        };
        let lost: Vec<u64> =
            all.iter().copied().filter(|one| found.binary_search(one).is_err()).collect();
        assert!(found.is_sorted() && found.len() + lost.len() == all.len(), "byte {at}");
        let in_frames = (HEAD_BYTES..table).contains(&at);
        assert!(
            lost.is_empty() || in_frames && lost.iter().all(|one| is_of_frame(*one)),
            "byte {at} of frame {frame}: {} lost",
            lost.len()
        );
        let intact = is_intact(&packed).unwrap();
        assert!(intact == Some(false) || lost.is_empty(), "byte {at}: unnoticed");
        assert!(intact == Some(false) || in_frames, "byte {at} of head or table: unnoticed");
        lost_any += usize::from(!lost.is_empty());
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert!(lost_any * step > (table - HEAD_BYTES) / 2, "most bytes matter: {lost_any}");
    assert_eq!(read(&packed), all);
}

/// Cut anywhere: what is in whole frames is read, and the cut is noticed.
#[test]
fn a_cut_costs_what_is_behind_it() {
    let place = tempdir().unwrap();
    let path = names::path_of(place.path(), 3, 1);
    let packed = names::packed_path(&path).unwrap();
    let starts = write_segment(&path, 3 * FRAME_BYTES);
    compress(&path, 3).unwrap();
    let bytes = fs::read(&packed).unwrap();
    let frames = frame_starts(&bytes);
    let file = fs::File::options().write(true).open(&packed).unwrap();
    let step = if every_byte() { 1 } else { 97 };
    for at in (0..bytes.len()).rev().step_by(step) {
        file.set_len(at as u64).unwrap();
        // Frames that are whole; of what they hold, records that end in it.
        let whole = frames.partition_point(|start| *start <= at).saturating_sub(2);
        let held = (whole * FRAME_BYTES) as u64;
        let kept = starts.iter().skip(1).take_while(|start| **start <= held).count() as u64;
        let found = read(&packed);
        assert!(found.len() as u64 >= kept, "cut at {at}: {} of {kept}", found.len());
        assert!(found.iter().copied().eq(0..found.len() as u64), "in order, none missing");
        assert_ne!(is_intact(&packed).ok().flatten(), Some(true), "cut at {at}: unnoticed");
    }
}

/// RINGEST_JOURNAL_CASES asks for a longer run.
fn every_byte() -> bool {
    std::env::var_os("RINGEST_JOURNAL_CASES").is_some()
}

#[test]
fn what_is_damaged_or_not_sealed_stays_plain() {
    let place = tempdir().unwrap();
    let path = names::path_of(place.path(), 3, 1);
    write_segment(&path, 300_000);
    let bytes = fs::read(&path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[bytes[70_000] ^ 1], 70_000).unwrap();
    assert!(compress(&path, 3).unwrap_err().to_string().contains("hash differs"));
    file.set_len(200_000).unwrap();
    assert!(compress(&path, 3).unwrap_err().to_string().contains("not sealed"));
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(left, [path], "and nothing else is left behind");
}

/// Whatever step a crash came at, the next start makes one segment of it.
#[test]
fn a_crash_while_compressing_leaves_one_segment() {
    let place = tempdir().unwrap();
    let path = names::path_of(place.path(), 3, 1);
    let packed = names::packed_path(&path).unwrap();
    write_segment(&path, 100_000);
    let plain = fs::read(&path).unwrap();
    let unfinished = packed.with_added_extension("tmp");
    let foreign = place.path().join("notes.tmp");
    fs::write(&foreign, b"not ours").unwrap();
    fs::write(&unfinished, b"half of it").unwrap();
    remove_leftovers(place.path()).unwrap();
    assert!(!unfinished.exists() && path.exists() && foreign.exists());
    compress(&path, 3).unwrap();
    remove_leftovers(place.path()).unwrap();
    assert!(packed.exists(), "it is the only one");
    fs::write(&path, &plain).unwrap();
    let listed = segment::list(place.path()).unwrap();
    assert_eq!((listed.len(), &listed[0].path), (1, &path), "both there: the plain one counts");
    remove_leftovers(place.path()).unwrap();
    assert!(path.exists() && !packed.exists());
}

/// A file that lies about sizes, and one of any bytes at all.
#[test]
fn a_seek_table_that_lies_is_not_believed() {
    let place = tempdir().unwrap();
    let path = names::path_of(place.path(), 3, 1);
    let packed = names::packed_path(&path).unwrap();
    let starts = write_segment(&path, 200_000);
    compress(&path, 3).unwrap();
    let bytes = fs::read(&packed).unwrap();
    let all: Vec<u64> = (0..starts.len() as u64).collect();
    let table = *frame_starts(&bytes).last().unwrap();
    for (at, word) in [
        (bytes.len() - 9, u32::MAX),
        (bytes.len() - 9, 0),
        (table + 4, u32::MAX),
        (table + 8 + ENTRY_BYTES, u32::MAX),
        (table + 8 + ENTRY_BYTES + 4, u32::MAX),
        (table + 8 + ENTRY_BYTES + 4, 0),
    ] {
        let mut lying = bytes.clone();
        lying[at..at + 4].copy_from_slice(&word.to_le_bytes());
        fs::write(&packed, &lying).unwrap();
        assert_eq!(read(&packed), all, "the frames themselves are walked");
        assert_eq!(is_intact(&packed).unwrap(), Some(false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_read_without_panic(
        damage in proptest::collection::vec((any::<u16>(), any::<u32>(), 0u8..3), 1..10),
    ) {
        let place = tempdir().unwrap();
        let path = names::path_of(place.path(), 3, 1);
        let packed = names::packed_path(&path).unwrap();
        write_segment(&path, 140_000);
        compress(&path, 1).unwrap();
        let mut bytes = fs::read(&packed).unwrap();
        for (at, value, how) in damage {
            // Half of it at the end, where the table is.
            let at = bytes.len() - 1 - usize::from(at) % bytes.len().min(if how == 0 { 60 } else { 1 << 16 });
            match how {
                0 | 1 => bytes[at] = value.to_le_bytes()[0],
                _ => { bytes.drain(at..bytes.len().min(at + usize::from(value.to_le_bytes()[0]))); }
            }
            if bytes.len() < 2 { break; }
        }
        fs::write(&packed, &bytes).unwrap();
        let found = read(&packed);
        prop_assert!(found.is_sorted());
        if let Ok(mut reader) = Reader::open(&packed) {
            let _ = (reader.seek_time(1100), survey(&mut reader, |_| {}));
        }
    }
}
