//! The reader on segments in which any byte is wrong, and which end anywhere.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::tempdir;

use crate::journal::format::{FOOTER_BYTES, Footer, HEADER_BYTES, Header, Record, record_bytes};
use crate::journal::keep::seal::{seal, survey};
use crate::journal::read::reader::{Next, Reader};
use crate::journal::tests::{cases, numbers_of};

/// A segment of so many bytes; where its records begin, which are numbered from 0 up and have their number
/// as their time.
fn segment_of(bytes_min: usize) -> (Vec<u8>, Vec<usize>) {
    let header = Header { worker: 0, sequence: 1, salt: 99, created_unix_ns: 1 };
    let mut bytes = header.encode().to_vec();
    let mut starts = Vec::new();
    while bytes.len() < bytes_min {
        let number = starts.len() as u64;
        let low = number.to_le_bytes();
        let payload = [&low[..], &vec![low[0]; (number % 700).try_into().unwrap()]].concat();
        let record = Record {
            received_unix_ns: number,
            peer: "192.0.2.1:5".parse().unwrap(),
            listener: 0,
            continued: false,
            payload: &payload,
        };
        let at = bytes.len();
        starts.push(at);
        bytes.resize(at + record_bytes(payload.len()), 0);
        record.encode(&mut bytes[at..], header.salt, at as u64);
    }
    (bytes, starts)
}

/// Every so many bytes: a step of 7 meets every field of some record; RINGEST_JOURNAL_CASES asks for all.
fn stride() -> usize {
    if cases() > 2000 { 1 } else { 7 }
}

/// The result of checking the segment: whether it is as it was written.
fn is_sound(file: &fs::File, sealed: bool) -> bool {
    let Ok(mut reader) = Reader::from_file(file.try_clone().unwrap()) else { return false };
    let found = survey(&mut reader, |_| {}).unwrap();
    let whole = found.damaged == 0 && found.torn_bytes == 0;
    whole && found.intact == sealed.then_some(true)
}

/// Flips every byte of a file in turn: it is always noticed, and costs the record it is in, if it is in
/// one, and that is never read as another.
fn flips(file: &fs::File, starts: &[usize], data_end: usize, sealed: bool) {
    let all: Vec<u64> = (0..starts.len() as u64).collect();
    let mut bytes = Vec::new();
    file.try_clone().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(numbers_of(file.try_clone().unwrap()), all);
    assert!(is_sound(file, sealed));
    // The ends are short, and every byte of them is another field.
    let ends = (0..HEADER_BYTES).chain(data_end..bytes.len());
    for at in ends.chain((HEADER_BYTES..data_end).step_by(stride())) {
        file.write_all_at(&[bytes[at] ^ 0x40], at as u64).unwrap();
        let in_record = (HEADER_BYTES..data_end).contains(&at);
        let hit = in_record.then(|| starts.partition_point(|start| *start <= at) as u64 - 1);
        let wanted: Vec<u64> = all.iter().copied().filter(|number| Some(*number) != hit).collect();
        assert_eq!(numbers_of(file.try_clone().unwrap()), wanted, "byte {at} flipped");
        assert!(!is_sound(file, sealed), "byte {at} flipped, and nobody notices");
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
}

fn file_of(bytes: &[u8], place: &Path) -> fs::File {
    fs::write(place, bytes).unwrap();
    fs::File::options().read(true).write(true).open(place).unwrap()
}

#[test]
fn a_wrong_byte_costs_one_record_at_most() {
    let (bytes, starts) = segment_of(64 << 10);
    let dir = tempdir().unwrap();
    let place = dir.path().join("segment");
    flips(&file_of(&bytes, &place), &starts, bytes.len(), false);
    seal(&place).unwrap();
    flips(
        &fs::File::options().read(true).write(true).open(&place).unwrap(),
        &starts,
        bytes.len(),
        true,
    );
}

/// The segment cut at every byte: what is before stays, and a cut within a record is noticed. Of a sealed
/// one every cut is.
#[test]
fn a_cut_costs_what_is_behind_it() {
    let (bytes, starts) = segment_of(64 << 10);
    let dir = tempdir().unwrap();
    let place = dir.path().join("segment");
    let file = file_of(&bytes, &place);
    let sealed_bytes = {
        seal(&place).unwrap();
        fs::read(&place).unwrap()
    };
    let strided = (HEADER_BYTES..bytes.len()).rev().step_by(stride());
    for at in (bytes.len()..sealed_bytes.len()).rev().chain(strided) {
        file.set_len(at as u64).unwrap();
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        let wanted: Vec<u64> =
            (0..).zip(ends.take_while(|end| *end <= at)).map(|(n, _)| n).collect();
        assert_eq!(numbers_of(file.try_clone().unwrap()), wanted, "cut at byte {at}");
        let at_a_record = at == bytes.len() || starts.contains(&at);
        assert_eq!(is_sound(&file, false), at_a_record, "cut at byte {at}");
        assert!(!is_sound(&file, true), "cut at byte {at}");
    }
    for at in 0..HEADER_BYTES {
        file.set_len(at as u64).unwrap();
        assert!(Reader::from_file(file.try_clone().unwrap()).is_err(), "cut at byte {at}");
    }
}

/// A wrong byte in the index makes no search start too late.
#[test]
fn a_wrong_byte_in_the_index_hides_no_record() {
    let (bytes, starts) = segment_of(300 << 10);
    let dir = tempdir().unwrap();
    let place = dir.path().join("segment");
    file_of(&bytes, &place);
    seal(&place).unwrap();
    let sealed = fs::read(&place).unwrap();
    let file = fs::File::options().read(true).write(true).open(&place).unwrap();
    let last = starts.len() as u64 - 1;
    for at in bytes.len()..sealed.len() - FOOTER_BYTES {
        for flip in [0x01, 0x80] {
            file.write_all_at(&[sealed[at] ^ flip], at as u64).unwrap();
            for sought in [1, last / 3, last / 2, last] {
                let mut reader = Reader::from_file(file.try_clone().unwrap()).unwrap();
                reader.seek_time(sought).unwrap();
                let Next::Record { record, .. } = reader.read_next().unwrap() else {
                    panic!("byte {at} flipped: no record where the index led");
                };
                assert!(record.received_unix_ns <= sought, "byte {at} flipped");
            }
        }
        file.write_all_at(&sealed[at..=at], at as u64).unwrap();
    }
}

/// Several receivers feed a worker, so its records are not sorted by time: all that were received since then are
/// found all the same.
#[test]
fn a_search_by_time_hides_no_record() {
    let header = Header { worker: 0, sequence: 1, salt: 99, created_unix_ns: 1 };
    let mut bytes = header.encode().to_vec();
    // One of two receivers is 300 records late.
    let time = |number: u64| number + 1000 - if (number / 100).is_multiple_of(2) { 300 } else { 0 };
    for number in 0..2000 {
        let at = bytes.len();
        bytes.resize(at + record_bytes(500), 0);
        let peer = "192.0.2.1:5".parse().unwrap();
        let (received_unix_ns, payload) = (time(number), &[7; 500][..]);
        let record = Record { received_unix_ns, peer, listener: 0, continued: false, payload };
        record.encode(&mut bytes[at..], header.salt, at as u64);
    }
    let dir = tempdir().unwrap();
    let place = dir.path().join("segment");
    file_of(&bytes, &place);
    seal(&place).unwrap();
    for since in (700..3000).step_by(7) {
        let mut reader = Reader::open(&place).unwrap();
        reader.seek_time(since).unwrap();
        let mut found = 0;
        while let Next::Record { record, .. } = reader.read_next().unwrap() {
            found += u64::from(record.received_unix_ns >= since);
        }
        let wanted = (0..2000).filter(|number| time(*number) >= since).count() as u64;
        assert_eq!(found, wanted, "since {since}");
    }
    let mut reader = Reader::open(&place).unwrap();
    reader.seek_time(2900).unwrap();
    assert!(reader.offset() > 900_000, "by the index");
}

/// A peer that knows how long a segment is sends what looks like its footer, and says that there is nothing in
/// it. It does not know the salt.
#[test]
fn nobody_seals_a_segment_with_a_datagram() {
    let dir = tempdir().unwrap();
    let place = dir.path();
    let path = place.join("000-0000000001.seg");
    let (mut bytes, starts) = segment_of(4 << 10);
    let at = bytes.len();
    let data_end = (at + record_bytes(FOOTER_BYTES) - FOOTER_BYTES) as u64;
    let forged = Footer {
        data_end,
        index_entries: 0,
        records: 0,
        payload_bytes: 0,
        first_unix_ns: 0,
        last_unix_ns: 0,
        hash: [0; 32],
    };
    let mut payload = forged.encode(0);
    // As it was before the salt was part of it, too.
    for unsalted in [false, true] {
        if unsalted {
            let crc = crc32c::crc32c(&payload[..FOOTER_BYTES - 4]);
            payload[FOOTER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        let record = Record {
            received_unix_ns: starts.len() as u64,
            peer: "192.0.2.66:6".parse().unwrap(),
            listener: 0,
            continued: false,
            payload: &payload,
        };
        bytes.truncate(at);
        bytes.resize(at + record_bytes(payload.len()), 0);
        record.encode(&mut bytes[at..], 99, at as u64);
        fs::write(&path, &bytes).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.footer(), None);
        let found = survey(&mut reader, |_| {}).unwrap();
        assert_eq!((found.records, found.damaged), (starts.len() as u64 + 1, 0));
    }
}
