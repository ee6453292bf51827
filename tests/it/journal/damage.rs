//! `ringest journal …` and a start on journals that are damaged: it is told, and costs no more than it must.

use std::fs;
use std::os::unix::fs::FileExt;

use ringest_records::journal::read::reader::Reader;
use ringest_records::journal::segment;
use ringest_records::journal::segment::SegmentFile;
use serde_json::Value;

use crate::journal::rig::temp_dir;
use crate::journal::tools::{entries, entries_of, journal, journal_ok, same, write};
use crate::load::rig::Running;
use crate::rigs::support::client;

/// Damage is reported and costs only the records that it covers. All others are printed, and shipped.
#[test]
fn damage_is_told_of_and_passed_over() {
    for compress in [false, true] {
        let place = temp_dir();
        let all = entries(700);
        write(place.path(), &all, compress);
        let first = segment::list(place.path()).unwrap()[0].path.clone();
        let file = fs::File::options().read(true).write(true).open(&first).unwrap();
        let mut byte = [0];
        // Into the first records; of a compressed segment into a frame, and so into all it holds.
        file.read_exact_at(&mut byte, 300).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], 300).unwrap();
        let output = journal(place.path(), "cat {} --output json");
        let found = entries_of(&output.stdout);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(first.file_name().unwrap().to_str().unwrap()) && said.contains("damaged"),
            "{said}"
        );
        let missing = all.len() - found.len();
        assert!((1..if compress { 300 } else { 2 }).contains(&missing), "{missing} missing");
        assert!(found.iter().all(|one| all.contains(one)) && found.is_sorted_by_key(|e| e.unix_ns));
        let verified = journal(place.path(), "verify {} --json");
        assert_eq!(verified.status.code(), Some(1));
        let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert!(verified["damaged"].as_u64().unwrap() > 0, "{verified}");
        let out = place.path().join("exported");
        let args = format!("export {{}} --format ndjson --out {}", out.display());
        assert_eq!(journal(place.path(), &args).status.code(), Some(1));
        same(&entries_of(&fs::read(&out).unwrap()), &found, "what is sound is exported");
        let receiver = client("127.0.0.1:0".parse().unwrap());
        let to = receiver.local_addr().unwrap();
        let args = format!("replay {{}} {to} --speed max --json --grep number");
        let report: Value = serde_json::from_slice(&journal_ok(place.path(), &args)).unwrap();
        assert!(report["capture"]["skipped"]["damaged"].as_u64().unwrap() > 0, "{report}");
    }
}

/// A sealed segment whose end is gone looks like one that is being written; but one behind it is sealed.
#[test]
fn a_segment_that_lost_its_end_is_told_of() {
    let place = temp_dir();
    let all = entries(3000);
    write(place.path(), &all, false);
    let listed = segment::list(place.path()).unwrap();
    let is_one = |two: &&[SegmentFile]| two[0].worker == two[1].worker && two[0].bytes > 20_000;
    let first = listed.windows(2).find(is_one).unwrap()[0].clone();
    let newest = listed.iter().rfind(|one| one.worker == first.worker).unwrap();
    let data_end = Reader::open(&first.path).unwrap().footer().unwrap().data_end;
    let whole = fs::read(&first.path).unwrap();
    let mut zeroed = whole.clone();
    zeroed[whole.len() - 4096..].fill(0);
    let header_bytes = 128;
    for (what, cut) in [
        ("its index and footer are cut off", &whole[..usize::try_from(data_end).unwrap()]),
        ("a record is cut in the middle", &whole[..usize::try_from(data_end).unwrap() - 9]),
        ("all its records are cut off", &whole[..header_bytes]),
        ("its last sector is zeros", &zeroed),
    ] {
        fs::write(&first.path, cut).unwrap();
        for args in ["verify {} --json", "cat {}"] {
            let output = journal(place.path(), args);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{what}: {args}: {said}");
            assert!(said.contains("its end is missing"), "{what}: {args}: {said}");
        }
    }
    fs::write(&first.path, &whole).unwrap();
    journal_ok(place.path(), "verify {}");
    // The newest may be written to.
    let data_end = Reader::open(&newest.path).unwrap().footer().unwrap().data_end;
    let file = fs::File::options().write(true).open(&newest.path).unwrap();
    file.set_len(data_end - 1).unwrap();
    journal_ok(place.path(), "verify {}");
    journal_ok(place.path(), "cat {}");
}

/// A start with `--quiet` still reports records that a repair could not save. It does not report the torn end
/// that every crash leaves.
#[test]
fn a_quiet_start_tells_of_a_loss() {
    let place = temp_dir();
    write(place.path(), &entries(700), false);
    let listed = segment::list(place.path()).unwrap();
    let newest = |worker| listed.iter().rfind(|one| one.worker == worker).unwrap();
    let (torn, damaged) = (newest(listed[0].worker), newest(listed.last().unwrap().worker));
    assert_ne!(torn.path, damaged.path);
    for one in [torn, damaged] {
        let file = fs::File::options().write(true).open(&one.path).unwrap();
        file.set_len(one.bytes - 1).unwrap();
    }
    let file = fs::File::options().read(true).write(true).open(&damaged.path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 300).unwrap();
    let sink = format!("--sink=journal:{}", place.path().display());
    let args =
        ["listen", "127.0.0.1:0", "--workers", "1", "--quiet", "--json", "--for", "1ms", &sink];
    let ended = Running::start(&args).end();
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("journal: ")).collect();
    let name = damaged.path.file_name().unwrap().to_str().unwrap();
    assert!(lines.len() == 1 && lines[0].contains(name), "{}", ended.stderr);
}
