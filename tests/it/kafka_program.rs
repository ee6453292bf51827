//! `ringest listen --sink kafka:…` as a user runs it.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::journal_rig::{self, Place};
use crate::kafka_rig::{TOPIC, read_to_end, rounds};
use crate::kafka_ship::same;
use crate::load_rig::Running;
use crate::support::until;
use crate::tansu::{Storage, Tansu};

const RINGEST: &str = env!("CARGO_BIN_EXE_ringest");

/// A port nobody has.
fn port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The program, into a journal and on to the broker at `brokers`.
fn listen(address: SocketAddr, place: &Place, brokers: &str, more: &[&str]) -> Command {
    let mut command = Command::new(RINGEST);
    command
        .args(["listen", &address.to_string(), "--receivers", "1", "--workers", "1"])
        .args(["--sink", &format!("journal:{}", place.0.display())])
        .args(["--sink", &format!("kafka:{brokers}/{TOPIC}"), "--json"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Sends numbered payloads from one socket, until `done` is asked after each ten of them and says so.
fn send(socket: &UdpSocket, to: SocketAddr, next: &mut u64, mut done: impl FnMut(u64) -> bool) {
    until("records to arrive", || {
        for _ in 0..10 {
            // Refused until it listens, and while it is dead.
            if socket.send_to(&journal_rig::payload(*next), to).is_ok() {
                *next += 1;
            }
        }
        done(*next)
    });
}

#[test]
fn killed_and_started_again_the_program_ships_what_its_journal_has() {
    let Some(tansu) = Tansu::start(Storage::Memory) else { return };
    tansu.create_topic(TOPIC, 3);
    let place = Place::new("kafka-program");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut next, mut at_broker) = (0, 0);
    for _ in 0..rounds() {
        // Another port each time: the kernel may keep a ring's sockets a moment longer than its process.
        let address = port();
        let child = listen(address, &place, &tansu.address(), &[]).spawn().unwrap();
        let running = Running::of(child);
        // Once records of this life are at the broker, others are on their way.
        send(&socket, address, &mut next, |_| tansu.records(TOPIC) > at_broker + 100);
        running.signal(Signal::SIGKILL);
        running.end();
        at_broker = tansu.records(TOPIC);
    }
    let address = port();
    let child =
        listen(address, &place, &tansu.address(), &["--flush-timeout", "20s"]).spawn().unwrap();
    let running = Running::of(child);
    let before = tansu.records(TOPIC);
    send(&socket, address, &mut next, |_| tansu.records(TOPIC) > before + 100);
    running.signal(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["residual"], 0, "{summary:#}");
    assert_eq!(summary["undelivered"], 0, "{summary:#}");
    same(&place, &tansu);
}

#[test]
fn what_is_wrong_with_the_flags_or_the_broker_is_said_and_secrets_are_not() {
    let Some(tansu) = Tansu::start(Storage::Memory) else { return };
    let place = Place::new("kafka-wrong");
    let config = place.0.join("librdkafka.conf");
    let path = config.display().to_string();
    for (text, part) in [
        ("# no such thing\nlinger.mss=5\n", "line 2: linger.mss: No such configuration property"),
        ("linger.ms=5\nacks=0\n", "line 2: acks cannot be set"),
        ("sasl.password=hunter2\nenable.idempotence=true\nmax.in.flight=9\n", "max.in.flight"),
    ] {
        std::fs::write(&config, text).unwrap();
        let more = ["--kafka-config", &path, "--for", "1s"];
        let ended =
            Running::of(listen(port(), &place, &tansu.address(), &more).spawn().unwrap()).end();
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(part) && !ended.stderr.contains("hunter2"),
            "{}",
            ended.stderr
        );
    }

    // A topic that is not there: it goes on, says so, and what it took is in the journal.
    let (address, socket) = (port(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let password = place.0.join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    std::fs::write(&config, "security.protocol=plaintext\n").unwrap();
    let more = ["--kafka-config", &path, "--count", "50", "--flush-timeout", "5s"];
    let child = listen(address, &place, &tansu.address(), &more)
        .env("RINGEST_KAFKA_USER", "alice")
        .env("RINGEST_KAFKA_PASSWORD_FILE", &password)
        .spawn()
        .unwrap();
    let running = Running::of(child);
    let mut next = 0;
    send(&socket, address, &mut next, |_| running.has_ended());
    let ended = running.end();
    assert!(ended.stderr.contains("there is no topic records at the broker"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["pending"], 50, "{summary:#}");

    // At the next start it is sent.
    tansu.create_topic(TOPIC, 1);
    let child =
        listen(port(), &place, &tansu.address(), &["--flush-timeout", "20s"]).spawn().unwrap();
    let running = Running::of(child);
    until("the journal to be shipped", || read_to_end(&tansu.address(), TOPIC).len() == 50);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().code, Some(0));
}
