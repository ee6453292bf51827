//! The second signal, while the journal's disk takes nothing: the program says what it leaves, and leaves.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringest_records::journal::format::Record;
#[cfg(feature = "nats")]
use ringest_records::journal::keep::seal::is_intact;
use ringest_records::journal::segment;

use crate::client::rig::RINGEST;
use crate::engine::fallback;
use crate::journal::rig::{numbers, open, payload, temp_dir};
use crate::rigs::child::Child;
use crate::rigs::loop_disk::LoopDisk;
use crate::rigs::support::until;
use crate::sockets::lab::{Ended, Program};

/// Fewer than a receive buffer of the kernel's default size holds.
const SENT: u64 = 100;

fn listen(args: &str, dir: &Path) -> Program {
    let sink = format!("--sink journal:{} --commit-interval 5ms", dir.display());
    Program::ringest(None, &format!("listen 127.0.0.1:0 {sink} {args}"))
}

fn send(program: &mut Program) {
    let to = program.listening()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..SENT {
        socket.send_to(&payload(number), to).unwrap();
    }
}

fn says(program: &Program, text: &str) {
    until(text, || program.stderr().contains(text));
}

fn count(ended: &Ended, name: &str) -> u64 {
    let summary: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["residual"], 0, "{summary}");
    summary[name].as_u64().unwrap_or(0)
}

#[test]
fn a_second_signal_does_not_wait_for_a_disk_that_stalls() {
    for io_uring in [true, false] {
        for workers in [0, 1] {
            let child = Child::new("journal::stops::child_on_a_disk_that_stalls");
            child.env("IO_URING", &io_uring).env("WORKERS", &workers).pass();
        }
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_on_a_disk_that_stalls() {
    if std::env::var("IO_URING").unwrap() == "false" {
        // The program has it from here.
        fallback::refuse(libc::SYS_io_uring_setup, libc::EPERM.unsigned_abs());
    }
    let workers = std::env::var("WORKERS").unwrap();
    let Some(lower) = LoopDisk::make(128) else { return };
    let disk = lower.make_upon(64).expect("what can be done once can be done twice");
    for below in [false, true] {
        let dir = disk.path().join(format!("journal-{below}"));
        let mut program = listen(&format!("--sink stdout --workers {workers}"), &dir);
        program.listening();
        let frozen = if below { lower.freeze() } else { disk.freeze() };
        send(&mut program);
        until("all to be handled", || program.stdout().lines().count() as u64 == SENT);
        program.signal(Signal::SIGINT);
        says(&program, "SIGINT: stopping");
        program.signal(Signal::SIGINT);
        // The kernel may keep the process until the disk goes on, but not what it has to say.
        says(&program, "the second signal came before they were written");
        says(&program, "the journal was left as it is");
        drop(frozen);
        let ended = program.end();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let abandoned = format!("{SENT} datagrams were received and abandoned");
        assert!(ended.stderr.contains(&abandoned), "{}", ended.stderr);
        let pending = format!("{SENT} of them not written");
        assert!(ended.stderr.contains(&pending), "{}", ended.stderr);
        assert!(ended.stderr.contains("every datagram received is accounted for"));
        open(&dir).close();
        assert!(numbers(&dir).is_sorted());
    }
}

/// All is written, and the disk stalls before the last segment is sealed: nothing is lost by leaving.
#[test]
fn a_second_signal_does_not_wait_for_a_seal() {
    let Some(disk) = LoopDisk::make(64) else { return };
    let dir = disk.path().join("journal");
    let mut program = listen("--json --workers 1", &dir);
    send(&mut program);
    until("all to be written", || numbers(&dir).len() as u64 == SENT);
    let frozen = disk.freeze();
    program.signal(Signal::SIGINT);
    says(&program, "every datagram received is accounted for");
    program.signal(Signal::SIGINT);
    says(&program, "the journal was left as it is: the next start seals it");
    drop(frozen);
    let ended = program.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(count(&ended, "delivered"), SENT);
    assert_eq!(open(&dir).repaired().len(), 1);
}

/// A second signal ends the program. Records that wait for a broker stay in the journal for the next start.
#[cfg(feature = "nats")]
#[test]
fn a_second_signal_leaves_the_journal_to_the_next_start() {
    let place = temp_dir();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = format!("nats:{}/LOGS/logs", silent.local_addr().unwrap());
    let args = format!("--json --workers 1 --flush-timeout 1h --sink {broker}");
    let mut program = listen(&args, place.path());
    send(&mut program);
    until("all to be written", || numbers(place.path()).len() as u64 == SENT);
    program.signal(Signal::SIGINT);
    // Its last segment is sealed before the broker is waited for.
    let segments = segment::list(place.path()).unwrap();
    until("it to be sealed", || is_intact(&segments[0].path).unwrap() == Some(true));
    program.signal(Signal::SIGINT);
    let ended = program.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!((count(&ended, "pending"), count(&ended, "delivered")), (SENT, 0));
    assert!(ended.stderr.contains("wait in the journal"), "{}", ended.stderr);
    assert!(open(place.path()).repaired().is_empty(), "it was sealed");
}

/// `journal tail -f` ends on a signal even while nobody reads its output.
#[test]
fn tail_ends_though_its_reader_stands_still() {
    let place = temp_dir();
    let journal = open(place.path());
    let mut writer = journal.writer(0, 1);
    let record = Record {
        received_unix_ns: 1,
        peer: "192.0.2.1:5".parse().unwrap(),
        listener: 0,
        continued: false,
        payload: &[b'x'; 1000],
    };
    for _ in 0..1000 {
        writer.push(&record, Instant::now());
        writer.end_datagram(Instant::now());
    }
    writer.finish(Instant::now(), &mut |_| {});
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut tail = Command::new(RINGEST)
            .args(["journal", "tail", "-f", "-n", "1000"])
            .arg(place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let tasks = PathBuf::from(format!("/proc/{}/task", tail.id()));
        until("it to wait for its reader", || {
            let mut tasks = fs::read_dir(&tasks).unwrap().flatten();
            tasks.any(|task| {
                let stack = fs::read_to_string(task.path().join("wchan"));
                stack.is_ok_and(|place| place.contains("pipe_write"))
            })
        });
        kill(Pid::from_raw(tail.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(tail.wait().unwrap().code(), Some(0), "{signal}");
    }
    drop(writer);
    journal.close();
}
