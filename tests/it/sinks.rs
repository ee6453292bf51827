//! `ringest listen` with several sinks at once, as a user runs it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::client_rig::RINGEST;
use crate::journal_rig::Place;

/// A `ringest listen` at work; killed if it is dropped before its end.
#[derive(Debug)]
struct Listen {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
}

impl Listen {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(RINGEST)
            .args(["listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            if let Some(rest) = line.strip_prefix("listening on ") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Self { child, stderr, address }
    }

    /// What it printed, on stdout and stderr; it must end well.
    fn end(mut self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {stderr}");
        (stdout, stderr)
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(args: &[&str]) -> String {
    let ended = Command::new(RINGEST).args(["listen", "127.0.0.1:0"]).args(args).output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{args:?}: {text}");
    text
}

#[test]
fn what_is_printed_is_on_disk_too() {
    let place = Place::new("sinks");
    let dir = place.0.join("journal");
    let sink = format!("journal:{}", dir.display());
    let args = ["--sink", "stdout", "--sink", &sink, "--decode", "lines", "--count", "3"];
    let listen = Listen::start(&args);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for payload in [&b"one\ntwo"[..], b"", b"three \x1b[2J\n"] {
        socket.send_to(payload, listen.address).unwrap();
    }
    let (printed, sheet) = listen.end();
    assert_eq!(printed, "one\ntwo\nthree \\u{1b}[2J\n");
    assert!(sheet.contains("delivered") && sheet.contains("3 found"), "{sheet}");
    let dir = dir.to_str().unwrap();
    let cat =
        Command::new(RINGEST).args(["journal", "cat", dir, "--output", "json"]).output().unwrap();
    let lines: Vec<Value> =
        cat.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let payloads: Vec<_> = lines.iter().map(|line| line["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["one", "two", "three \u{1b}[2J"]);
}

#[test]
fn sinks_that_cannot_go_together_are_refused_with_the_next_move() {
    let place = Place::new("refused-sinks");
    let journal = format!("journal:{}", place.0.join("j").display());
    let spool = place.0.join("s");
    let spool = spool.to_str().unwrap();
    let nats = "nats:127.0.0.1:1/S/s";
    for (args, said) in [
        (&["--sink", nats][..], "--spool DIR"),
        (&["--sink", nats, "--sink", &journal, "--spool", spool], "give one of them"),
        (&["--spool", spool], "add --sink kafka"),
        (&["--spool-bytes", "1G"], "add --sink kafka"),
        (&["--sink", "stdout", "--sink", "stdout"], "are enough"),
        (&["--sink", "discard", "--sink", "stdout"], "leave it out"),
        (&["--sink", "nowhere"], "expected discard"),
        (&["--sink", "journal:"], "expected discard"),
        (&["--ship-window", "0"], "1 to 1048576"),
    ] {
        let text = refused(args);
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert!(fs::read_dir(&place.0).unwrap().next().is_none(), "nothing was made");
}
