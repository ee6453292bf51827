//! `ringest listen` with several sinks at once, as a user runs it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use std::sync::Arc;

use ringest_engine::control::config::BackendChoice;
use ringest_records::decode::rejects::Rejects;
use ringest_records::decode::stage::Formats;
use ringest_records::sink::discard::DiscardRecords;
use serde_json::Value;

use crate::client::rig::RINGEST;
use crate::journal::rig::{Sender, contents, temp_dir, while_moving};
use crate::rigs::support::{small, stop, until};

/// A `ringest listen` at work; killed if it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Listen {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Listen {
    pub(crate) fn start(args: &[&str]) -> Self {
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

    /// Returns the message of the program about arguments that it refuses.
    pub(crate) fn refused(args: &[&str]) -> String {
        refused(args)
    }

    /// Waits for the program to end well and returns its stdout and stderr.
    pub(crate) fn end(mut self) -> (String, String) {
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
    let place = temp_dir();
    let dir = place.path().join("journal");
    let sink = format!("journal:{}", dir.display());
    let rejects = place.path().join("rejects.json");
    let rejects = rejects.to_str().unwrap();
    let args = ["--sink", "stdout", "--sink", &sink, "--decode", "lines", "--count", "3"];
    let listen = Listen::start(&[&args[..], &["--rejects", rejects]].concat());
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
    // Files with payloads of peers are readable for their owner only.
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    for file in files.chain([rejects.into()]) {
        let mode = fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o027, 0, "{}: {mode:o}", file.display());
    }
}

/// A file of samples that takes nothing: all are counted, and nobody waits.
#[test]
fn a_sample_that_cannot_be_written_stops_nobody() {
    let place = temp_dir();
    let path = place.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for reading, and never read.
    let reader = fs::File::options().read(true).write(true).open(&path).unwrap();
    let rejects = Arc::new(Rejects::create(&path, 1 << 20).unwrap());
    let formats = Formats::new(vec!["json".parse().unwrap()], Some(rejects));
    let builder = small(BackendChoice::Auto).listen("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    let engine = builder.start(|_| DiscardRecords::new(formats.stage())).unwrap();
    let mut sender = Sender::new();
    while_moving("datagrams to be refused", || {
        let ledger = engine.stats().ledger;
        sender.follow(engine.addresses()[0], ledger.received);
        (ledger.rejected < 5000).then_some(ledger.received + ledger.rejected)
    });
    let ledger = stop(engine).ledger;
    assert_eq!((ledger.rejected, ledger.dropped.kernel), (sender.sent, 0));
    drop(reader);
}

/// Samples of an earlier run stay in the file until this run has a sample of its own.
#[test]
fn samples_of_an_earlier_run_stay_until_the_first_new_one() {
    let place = temp_dir();
    let path = place.path().join("rejects.json");
    fs::write(&path, "old\n").unwrap();
    let text = path.to_str().unwrap();
    let more = ["--decode", "json", "--rejects", text];
    let plan = Command::new(RINGEST).args(["listen", "127.0.0.1:0", "--plan"]).args(more).output();
    assert!(plan.unwrap().status.success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
    let listen = Listen::start(&[&more[..], &["--count", "1"]].concat());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"no json", listen.address).unwrap();
    listen.end();
    let lines = fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(line["sample"], "no json");
}

#[test]
fn sinks_that_cannot_go_together_are_refused_with_the_next_move() {
    let place = temp_dir();
    let journal = format!("journal:{}", place.path().join("j").display());
    let spool = place.path().join("s");
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
        (&["--sink", &journal, "--workers", "1", "--journal-buffer", "1G"], "524288 to 268435456"),
        (
            &["--sink", &journal, "--workers", "2", "--journal-buffer", "1000K"],
            "1048576 to 536870912",
        ),
    ] {
        let text = refused(args);
        assert!(text.contains(said), "{args:?}: {text}");
    }
    assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "nothing was made");
}

/// Whatever else is wrong, and wherever it was typed.
#[test]
fn no_error_repeats_what_may_be_a_password() {
    for args in [
        &["--sink", "nats:nats://u:se/kret@host/A/b"][..],
        &["--sink=nats:nats://u:sekret@host:4222/A/b"],
        &["--sink", "nats:tls://u/sekret@host/b"],
        &["--sink", "nats:sekret@host"],
        &["--sink", "nats:u:sekret@one,u:sekret@two/A/b"],
        &["--sink", "kafka:u:sekret@host/t"],
        &["--sink", "kafka:u:sekret@host:9092/t"],
        &["--sink", "natz:nats://u:sekret@host/A/b"],
        &["nats:nats://u:sekret@host:4222/A/b"],
        &["--output", "u:sekret@host"],
        &["--nats:u:sekret@host"],
        &["--spool-bytes=u:sekret@host"],
    ] {
        let text = refused(args);
        assert!(!text.contains("kret"), "{args:?}: {text}");
        let is_target = args[1..].first().is_some_and(|text| text.starts_with(['n', 'k']));
        let is_known = is_target && !args[1].starts_with("natz");
        assert!(!is_known || text.contains("RINGEST_"), "the next move, {args:?}: {text}");
    }
}

#[test]
fn flags_without_the_sink_they_are_for_are_refused_with_the_next_move() {
    for (args, said) in [
        (&["--compress", "zstd"][..], "--compress does nothing here: add --sink journal:DIR"),
        (&["--retain-age", "1h", "--sink", "stdout"], "--retain-age does nothing here"),
        (&["--retain-bytes", "1G"], "--retain-bytes does nothing here"),
        (&["--segment-bytes", "1G"], "--segment-bytes does nothing here"),
        (&["--segment-age", "1h"], "--segment-age does nothing here"),
        (&["--commit-interval", "50ms"], "--commit-interval does nothing here"),
        (&["--commit-bytes", "4M"], "--commit-bytes does nothing here"),
        (&["--journal-buffer", "32M"], "--journal-buffer does nothing here"),
        (&["--ship-window", "4096"], "--ship-window is for brokers: add --sink kafka"),
        (&["--flush-timeout", "5s"], "--flush-timeout is for brokers: add --sink kafka"),
        (&["--kafka-config", "/dev/null"], "add --sink kafka:…"),
        (&["--nats-sole-writer"], "add --sink nats:…"),
        (
            &["--nats-ca", "/dev/null", "--spool", "/nowhere/s", "--sink", "kafka:h:1/t"],
            "add --sink nats:…",
        ),
        (&["--decode", "raw", "--decode", "lines"], "twice"),
        (&["--decode", "127.0.0.1:0=raw", "--decode", "127.0.0.1:0=raw"], "twice"),
    ] {
        let text = refused(args);
        assert!(text.contains(said), "{args:?}: {text}");
    }
}

/// Sends until `listen` has ended by itself.
fn feed(listen: &mut Listen) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    until("it to have all it wants", || {
        // It may have ended meanwhile.
        let _ = socket.send_to(&[b'x'; 4000], listen.address);
        listen.child.try_wait().unwrap().is_some()
    });
}

/// The journal beside stdout has all there was, and the receivers go on, whatever its reader does.
#[test]
fn a_reader_that_stands_still_or_goes_holds_up_no_other_sink() {
    for (goes, said) in [(false, "the reader of stdout is behind"), (true, "closed by its reader")]
    {
        let place = temp_dir();
        let dir = place.path().join("journal");
        let sink = format!("journal:{}", dir.display());
        let mut listen = Listen::start(&[
            "--sink",
            "stdout",
            "--sink",
            &sink,
            "--count",
            "3000",
            "--workers",
            "1",
        ]);
        let reader = listen.child.stdout.take();
        let kept = reader.filter(|_| !goes);
        feed(&mut listen);
        listen.child.stdout = kept.or_else(|| Some(nothing()));
        let (printed, sheet) = listen.end();
        assert!(printed.len() < 6 << 20 && printed.is_empty() == goes, "{}", printed.len());
        let sheet = sheet.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(sheet.contains(said), "{sheet}");
        assert!(
            sheet.contains("was behind or went away") && !sheet.contains("error below"),
            "{sheet}"
        );
        assert!(contents(&dir).payloads.len() >= 3000);
    }
}

/// Returns output of a process that prints nothing.
fn nothing() -> std::process::ChildStdout {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    child.wait().unwrap();
    child.stdout.take().unwrap()
}
