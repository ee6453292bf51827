//! `--sink file:PATH`, by the program and by the library.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;

use ringest::{BackendChoice, Engine};
use ringest_records::decode::stage::Formats;
use ringest_records::sink::assemble::{RunningSinks, Sinks};
use ringest_records::sink::kinds::FileSpec;
use ringest_records::sink::lines::Format;
use serde_json::Value;

use crate::journal::rig::temp_dir;
use crate::rigs::support::{consistent, small, until};
use crate::sinks::program::Listen;

#[test]
fn lines_are_appended_in_the_order_of_each_peer() {
    let place = temp_dir();
    let path = place.path().join("records.json");
    fs::write(&path, "{\"before\":1}\n").unwrap();
    let sink = format!("file:{}", path.display());
    let args = ["--sink", &sink, "--output", "json", "--decode", "lines", "--count", "40"];
    let listen = Listen::start(&args);
    let peers = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    for number in 0..20 {
        for peer in &peers {
            let payload = format!("{number} \x1b\nsecond");
            peer.send_to(payload.as_bytes(), listen.address).unwrap();
        }
    }
    let (printed, sheet) = listen.end();
    assert_eq!(printed, "");
    assert!(sheet.contains("80 found"), "{sheet}");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["before"]), (81, &Value::from(1)));
    for peer in &peers {
        let address = peer.local_addr().unwrap().to_string();
        let of_peer = lines.iter().filter(|line| line["peer"] == *address);
        let payloads: Vec<_> = of_peer.map(|line| line["payload"].as_str().unwrap()).collect();
        let sent = (0..20).flat_map(|number| [format!("{number} \x1b"), "second".to_owned()]);
        assert_eq!(payloads, sent.collect::<Vec<_>>());
    }
}

#[test]
fn a_new_file_is_not_for_everyone_and_a_missing_directory_is_told() {
    let place = temp_dir();
    let path = place.path().join("records");
    let listen = Listen::start(&["--sink", &format!("file:{}", path.display()), "--count", "1"]);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"one", listen.address).unwrap();
    listen.end();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    let nowhere = FileSpec { path: place.path().join("none/records"), format: Format::Text };
    let refused = Sinks::new().to(nowhere).unwrap_err().to_string();
    assert!(refused.contains("create its directory first"), "{refused}");
}

/// A full disk: all is undelivered, the other sinks go on, one notice says so, and the ledger balances.
#[test]
fn a_full_disk_leaves_datagrams_undelivered() {
    let args = ["--sink", "stdout", "--sink", "file:/dev/full", "--count", "3", "--json"];
    let refused = Listen::refused(&args);
    assert!(refused.contains("--json"), "{refused}");
    let listen = Listen::start(&args[..6]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for payload in ["one", "two", "three"] {
        socket.send_to(payload.as_bytes(), listen.address).unwrap();
    }
    let (printed, sheet) = listen.end();
    assert_eq!(printed, "one\ntwo\nthree\n");
    assert!(sheet.contains("/dev/full cannot be written: No space left on device"), "{sheet}");
    assert_eq!(sheet.matches("cannot be written:").count(), 1, "{sheet}");
    assert!(sheet.contains("undelivered") && sheet.contains("df -h"), "{sheet}");
}

fn start(spec: FileSpec) -> (Engine, RunningSinks) {
    let builder = small(BackendChoice::Auto).listen("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    Sinks::new().to(spec).unwrap().start(builder.reply_bytes(0), &Formats::raw()).unwrap()
}

fn send(engine: &Engine, payload: &str) {
    let before = engine.stats().ledger;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(payload.as_bytes(), engine.addresses()[0]).unwrap();
    until("the datagram to be settled", || {
        let now = engine.stats().ledger;
        now.delivered + now.undelivered > before.delivered + before.undelivered
    });
}

/// As logrotate does: the file is renamed, written further, and created anew when told.
#[test]
fn a_renamed_file_is_created_anew_when_told() {
    let place = temp_dir();
    let [path, old] = ["records", "records.1"].map(|name| place.path().join(name));
    let (engine, sinks) = start(FileSpec { path: path.clone(), format: Format::Text });
    send(&engine, "one");
    fs::rename(&path, &old).unwrap();
    send(&engine, "two");
    sinks.reopen();
    send(&engine, "three");
    let summary = sinks.stop(engine).unwrap();
    consistent(&summary);
    assert_eq!((summary.ledger.delivered, summary.ledger.undelivered), (3, 0));
    assert_eq!(fs::read_to_string(&old).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
}

/// A directory that is removed, and comes back.
#[test]
fn a_removed_directory_leaves_datagrams_undelivered_until_it_is_back() {
    let place = temp_dir();
    let dir = place.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("records");
    let (engine, sinks) = start(FileSpec { path: path.clone(), format: Format::Text });
    let notices = std::sync::Arc::clone(sinks.notices());
    send(&engine, "one");
    fs::remove_dir_all(&dir).unwrap();
    send(&engine, "two");
    assert!(notices.take()[0].contains("No such file or directory"));
    fs::create_dir(&dir).unwrap();
    send(&engine, "three");
    assert!(notices.take()[0].ends_with("is written again"));
    let summary = sinks.stop(engine).unwrap();
    consistent(&summary);
    assert_eq!((summary.ledger.delivered, summary.ledger.undelivered), (2, 1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
}
