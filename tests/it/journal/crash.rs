//! The writer killed at each of its named steps, at random moments, and while it recovers from that: what
//! was told to be delivered is there, whole and in order, and no start needs help.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ringest_records::journal::keep::seal::is_intact;
use ringest_records::journal::names;
use ringest_records::journal::segment;

use tempfile::TempDir;

use crate::journal::rig::{
    Life, Sender, contents, numbers, open, rounds, spec, temp_dir, while_moving,
};

/// Steps of a writer that runs, and how often it comes to each before some have become routine.
const STEPS: [(&str, u64); 16] = [
    ("segment-made", 4),
    ("directory-synced", 4),
    ("header-encoded", 4),
    ("record-encoded", 1500),
    ("write-begun", 40),
    ("write-ended", 40),
    ("sync-begun", 30),
    ("sync-ended", 30),
    ("committed", 30),
    ("rotation-begun", 4),
    ("segment-complete", 4),
    ("seal-cut", 3),
    ("seal-written", 3),
    ("seal-synced", 3),
    ("retention", 3),
    ("given-up", 3),
];

/// A run of a writer from its start to its death.
#[derive(Debug)]
struct Run {
    life: Life,
    /// Kill it when so many were sent; else it dies by itself.
    sent_max: Option<u64>,
}

impl Run {
    fn until_step(dir: &Path, io_uring: bool, step: &'static str, nth: u64) -> Self {
        let life = Life {
            io_uring,
            step: Some((step, nth)),
            retain_bytes: (step == "retention").then_some(400 << 10),
            // Less than a segment.
            file_bytes: (step == "given-up").then_some(100 << 10),
            ..Life::at(dir)
        };
        Self { life, sent_max: None }
    }

    /// Feeds the writer until it is dead; the answer is the number of the first one sent, and how many it
    /// said were delivered.
    fn feed(&self, sender: &mut Sender) -> (u64, u64) {
        let first = sender.begin();
        let Some(mut writer) = self.life.start() else { return (first, 0) };
        // With a full disk what is delivered does not grow with what is sent.
        let gives_up = self.life.file_bytes.is_some();
        while_moving("the writer to die", || {
            let followed = if gives_up { sender.sent } else { writer.delivered() };
            sender.follow(writer.address, followed);
            let done = writer.is_dead() || self.sent_max.is_some_and(|max| sender.sent >= max);
            (!done).then_some(writer.delivered() + if gives_up { 0 } else { sender.sent })
        });
        (first, writer.kill())
    }

    /// Checks the journal after a crash. `before`: the records that it held earlier.
    fn check(&self, before: &[u64], (first, told): (u64, u64), sender: &Sender) {
        let found = numbers(&self.life.dir);
        assert!(found.is_sorted_by(|a, b| a < b), "{self:?}: none twice, in order: {found:?}");
        assert!(found.iter().all(|number| *number < sender.next), "{self:?}: never sent");
        if self.life.file_bytes.is_some() {
            // Which ones were given up, the ledger does not tell.
            assert!(found.len() as u64 >= told, "{self:?}: {told} told, {found:?}");
            return;
        }
        // Retention lets the oldest go, and nothing else.
        let lowest = if self.life.retain_bytes.is_some() { found[0] } else { 0 };
        let kept: Vec<u64> =
            before.iter().copied().chain(first..first + told).filter(|n| *n >= lowest).collect();
        assert!(found.starts_with(&kept), "{self:?}: {told} told from {first} on, {found:?}");
    }
}

/// Checks that the next start repairs everything by itself, and that the one after it finds nothing to do.
fn recovers(dir: &Path, context: &impl std::fmt::Debug) {
    let before = numbers(dir);
    open(dir).close();
    assert_eq!(numbers(dir), before, "{context:?}: a repair takes nothing that can be read");
    let sizes = || segment::list(dir).unwrap();
    let repaired = sizes();
    for one in &repaired {
        assert_eq!(is_intact(&one.path).unwrap(), Some(true), "{context:?}: {one:?}");
    }
    let again = open(dir);
    assert!(again.repaired().is_empty(), "{context:?}: {:?}", again.repaired());
    again.close();
    assert_eq!(sizes(), repaired, "{context:?}: a second repair changes nothing");
}

#[test]
fn a_writer_that_dies_at_any_step_leaves_all_it_committed() {
    for io_uring in [true, false] {
        for (step, often) in STEPS {
            // The first time, the second, and when it has become routine.
            let mut moments = vec![1, 2, often];
            moments.dedup();
            for nth in moments {
                let place = temp_dir();
                let mut sender = Sender::new();
                let run = Run::until_step(place.path(), io_uring, step, nth);
                let told = run.feed(&mut sender);
                run.check(&[], told, &sender);
                recovers(place.path(), &run);
            }
        }
    }
}

/// Makes four segments that nobody has sealed: complete, torn, just begun, and without so much as a header.
fn unrepaired() -> (TempDir, Vec<u64>) {
    let place = temp_dir();
    let mut sender = Sender::new();
    let run = Run::until_step(place.path(), true, "seal-cut", 1);
    run.feed(&mut sender);
    let found = numbers(place.path());
    let segments = segment::list(place.path()).unwrap();
    let last = segments.last().unwrap();
    let torn = segments.iter().rfind(|one| one.bytes > 1000).unwrap();
    fs::File::options().append(true).open(&torn.path).unwrap().write_all(&[0xa5; 1000]).unwrap();
    fs::write(names::path_of(place.path(), 0, last.sequence + 1), [0x52; 17]).unwrap();
    fs::write(names::path_of(place.path(), 0, last.sequence + 2), []).unwrap();
    (place, found)
}

fn copy(from: &Path) -> TempDir {
    let place = temp_dir();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
    }
    place
}

#[test]
fn a_start_that_dies_while_it_repairs_is_repaired_by_the_next() {
    let (place, found) = unrepaired();
    assert!(found.len() > 100, "there is something to repair");
    let steps = [("repair", 4), ("seal-cut", 2), ("seal-written", 2), ("seal-synced", 2)];
    for (step, often) in steps {
        for nth in 1..=often {
            let copied = copy(place.path());
            // It dies there, and so does the next start, at the same step of what is left to do.
            for _ in 0..2 {
                let life = Life { step: Some((step, nth)), ..Life::at(copied.path()) };
                if let Some(writer) = life.start() {
                    // It had less to do than that.
                    writer.kill();
                }
                assert_eq!(contents(copied.path()).numbers(), found, "{step} {nth}");
            }
            open(copied.path()).close();
            assert_eq!(numbers(copied.path()), found, "{step} {nth}");
            recovers(copied.path(), &(step, nth));
        }
    }
}

/// Draws a number by xorshift64; any generator will do.
fn draw(random: &mut u64, below: u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random % below
}

/// On journals that live through ten deaths each. RINGEST_KILLS=1000 asks for more of them,
/// RINGEST_KILL_SEED for the same ones again.
#[test]
fn a_writer_that_dies_at_random_moments_leaves_all_it_committed() {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut random = rounds("RINGEST_KILL_SEED", RandomState::new().build_hasher().finish()) | 1;
    println!("RINGEST_KILL_SEED={random}");
    let mut place = temp_dir();
    let mut sender = Sender::new();
    let mut before = Vec::new();
    for round in 0..rounds("RINGEST_KILLS", 100) {
        if round % 10 == 0 {
            drop(place);
            place = temp_dir();
            sender = Sender::new();
            before.clear();
        }
        let (io_uring, by_step) = (draw(&mut random, 2) == 0, draw(&mut random, 2) == 0);
        let (step, often) = STEPS[usize::try_from(draw(&mut random, 14)).unwrap()];
        let run = if by_step {
            let nth = 1 + draw(&mut random, often);
            Run::until_step(place.path(), io_uring, step, nth)
        } else {
            let life = Life { io_uring, ..Life::at(place.path()) };
            Run { life, sent_max: Some(1 + draw(&mut random, 3000)) }
        };
        let told = run.feed(&mut sender);
        run.check(&before, told, &sender);
        before = numbers(place.path());
    }
    recovers(place.path(), &spec(place.path()));
}
