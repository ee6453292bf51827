//! `ringest journal …` as a user runs it, on a journal of several workers whose records are of the worst
//! sort: nothing is lost, changed, out of order, or obeyed by a terminal.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringest_base::text::escape;
use ringest_records::journal::format::Record;
use ringest_records::journal::names;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::segment;
use serde_json::Value;

use crate::journal::rig::{spec, temp_dir};
use crate::load::rig::Running;
use crate::rigs::support::{DEADLINE, client, until};

const RINGEST: &str = env!("CARGO_BIN_EXE_ringest");
/// 2026-05-28T20:26:40Z, ns.
pub(crate) const BEGAN_UNIX_NS: u64 = 1_780_000_000_000_000_000;
/// From one record to the next.
pub(crate) const GAP_NS: u64 = 1_000_003;

/// A record of the journals of these tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) unix_ns: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: u16,
    pub(crate) payload: Vec<u8>,
}

/// Payloads that attack a terminal, a parser, or a CSV reader.
fn hostile() -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = [
        &b""[..],
        b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
        b"\"quoted\", and 'quoted', with a comma",
        b"two\nlines\r\nand a tab\t",
        b"\x1b]0;title\x07\x1b[2J\x9b31m",
        b"\0\0NUL\0",
        b"\xff\xfe not UTF-8 \xc3",
        b"=HYPERLINK(\"http://192.0.2.1\",\"click\")",
        b"@SUM(1+1)*cmd|' /C calc'!A0",
        b"{\"json\": [1, null]}\n{}",
        b"back\\slash \\u{1b} \\x1b",
    ]
    .iter()
    .map(|bytes| bytes.to_vec())
    .collect();
    payloads.push("e\u{301} \u{202e}txt.exe \u{9b}2J 世界".as_bytes().to_vec());
    payloads.push((0..65_507u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect());
    // Bytes that look like a record and a segment.
    payloads.push(b"\x5d\x0b\xe7\x1c\0\0\0\0\x01\0RINGJRNLRINGSEAL".to_vec());
    payloads
}

/// Returns `count` records, each with its number, in the order of their arrival.
pub(crate) fn entries(count: usize) -> Vec<Entry> {
    let peers = ["192.0.2.7:514", "192.0.2.7:515", "[2001:db8::7]:516", "198.51.100.9:1"]
        .map(|text| text.parse().unwrap());
    let hostile = hostile();
    let entry = |number: usize| Entry {
        unix_ns: BEGAN_UNIX_NS + number as u64 * GAP_NS,
        peer: peers[number * 7 % peers.len()],
        listener: u16::try_from(number % 3).unwrap(),
        payload: match number {
            _ if number < hostile.len() => hostile[number].clone(),
            _ if number.is_multiple_of(5) => {
                format!("number {number} {}", "x".repeat(900)).into_bytes()
            }
            _ => format!("number {number}").into_bytes(),
        },
    };
    (0..count).map(entry).collect()
}

/// Writes them by three workers, into small segments.
pub(crate) fn write(dir: &Path, entries: &[Entry], compress: bool) {
    let small = spec(dir);
    let mut spec = JournalSpec { dir: dir.to_owned(), ..small };
    spec.writer.segment_bytes = 60_000;
    spec.retention.compress = compress.then_some(3);
    let journal = Journal::open(spec).unwrap();
    let mut writers: Vec<_> = (0..3).map(|worker| journal.writer(worker, 3)).collect();
    let now = Instant::now();
    for entry in entries {
        let Entry { unix_ns, peer, listener, ref payload } = *entry;
        let worker = usize::from(peer.port() % 3);
        let record =
            Record { received_unix_ns: unix_ns, peer, listener, continued: false, payload };
        writers[worker].push(&record, now);
        writers[worker].end_datagram(now);
    }
    for mut writer in writers {
        let mut lost = 0;
        writer.finish(now, &mut |run| lost += if run.lost { run.datagrams } else { 0 });
        assert_eq!(lost, 0);
    }
    journal.close();
}

/// Runs `ringest journal …`; `{}` is the directory.
pub(crate) fn journal(dir: &Path, args: &str) -> Output {
    let args = args.split_whitespace().map(|word| match word {
        "{}" => dir.to_str().unwrap().to_owned(),
        word => word.to_owned(),
    });
    Command::new(RINGEST).arg("journal").args(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs `ringest journal`, which must succeed.
pub(crate) fn journal_ok(dir: &Path, args: &str) -> Vec<u8> {
    let output = journal(dir, args);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Reads a line of `--output json`.
fn entry_of(line: &str) -> Entry {
    let value: Value = serde_json::from_str(line).unwrap();
    let time = humantime::parse_rfc3339(value["time"].as_str().unwrap()).unwrap();
    let unix_ns = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let payload = match value["payload"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => unhex(value["payload_hex"].as_str().unwrap()),
    };
    assert_eq!(value["length"], payload.len());
    Entry {
        unix_ns: unix_ns.try_into().unwrap(),
        peer: value["peer"].as_str().unwrap().parse().unwrap(),
        listener: value["listener"].as_u64().unwrap().try_into().unwrap(),
        payload,
    }
}

pub(crate) fn entries_of(stdout: &[u8]) -> Vec<Entry> {
    str::from_utf8(stdout).unwrap().lines().map(entry_of).collect()
}

/// Checks that the entries are the same. They are too many to be printed.
pub(crate) fn same(found: &[Entry], wanted: &[Entry], what: &str) {
    let numbers = |entries: &[Entry]| -> Vec<u64> {
        entries.iter().map(|entry| (entry.unix_ns - BEGAN_UNIX_NS) / GAP_NS).collect()
    };
    assert_eq!(numbers(found), numbers(wanted), "{what}");
    assert!(found == wanted, "{what}: a field or payload differs");
}

#[test]
fn cat_prints_all_there_is_in_order_and_what_is_asked_for() {
    for compress in [false, true] {
        let place = temp_dir();
        let all = entries(700);
        write(place.path(), &all, compress);
        let segments = segment::list(place.path()).unwrap();
        assert!(segments.len() > 3, "several segments: {}", segments.len());
        assert!(segments.iter().all(|one| names::is_packed(&one.path) == compress));
        same(&entries_of(&journal_ok(place.path(), "cat {} --output json")), &all, "all");
        let raw: Vec<u8> = all.iter().flat_map(|entry| entry.payload.clone()).collect();
        assert!(journal_ok(place.path(), "cat {} --output raw") == raw);
        let text = String::from_utf8(journal_ok(place.path(), "cat {}")).unwrap();
        assert!(!text.chars().any(|char| char.is_control() && char != '\n'));
        assert_eq!(text.lines().count(), all.len());
        let at = |number: u64| {
            let time = std::time::UNIX_EPOCH
                + std::time::Duration::from_nanos(BEGAN_UNIX_NS + number * GAP_NS);
            humantime::format_rfc3339_nanos(time).to_string()
        };
        type Wanted = fn(usize, &Entry) -> bool;
        let some: [(String, Wanted); 7] = [
            (format!("--since {} --until {}", at(300), at(400)), |n, _| (300..400).contains(&n)),
            (format!("--since {}", at(699)), |n, _| n == 699),
            ("--since 1s".to_owned(), |_, _| false),
            ("--peer 192.0.2.7".to_owned(), |_, one| one.peer.ip().to_string() == "192.0.2.7"),
            ("--peer 192.0.2.7:515".to_owned(), |_, one| one.peer.port() == 515),
            ("--peer [2001:db8::7]:516 --grep 66".to_owned(), |n, one| {
                one.peer.is_ipv6() && n > 13 && n.to_string().contains("66")
            }),
            ("--grep RINGSEAL".to_owned(), |n, _| n == 13),
        ];
        for (args, wanted) in some {
            let wanted = (0..).zip(&all).filter(|(n, one)| wanted(*n, one));
            let wanted: Vec<_> = wanted.map(|(_, one)| one.clone()).collect();
            let found = journal_ok(place.path(), &format!("cat {{}} --output json {args}"));
            same(&entries_of(&found), &wanted, &args);
            for count in [0, 1, 10, 5000] {
                let args = format!("tail {{}} --output json -n {count} {args}");
                let found = journal_ok(place.path(), &args);
                let last = &wanted[wanted.len().saturating_sub(count)..];
                same(&entries_of(&found), last, &args);
            }
        }
        for count in [0, 1, 10, 250, 5000] {
            let found = journal_ok(place.path(), &format!("tail {{}} --output json -n {count}"));
            same(&entries_of(&found), &all[all.len().saturating_sub(count)..], "the last");
        }
        let ls = String::from_utf8(journal_ok(place.path(), "ls {}")).unwrap();
        assert_eq!(ls.lines().count(), segments.len() + 1, "{ls}");
        let verified = journal_ok(place.path(), "verify {} --json");
        let verified: Value = serde_json::from_slice(&verified).unwrap();
        assert_eq!((&verified["records"], &verified["damaged"]), (&700.into(), &0.into()));
    }
}

/// A program whose lines are read as they come; killed when dropped.
struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    fn start(dir: &Path, args: &str) -> Self {
        let mut child = Command::new(RINGEST)
            .args(["journal", "tail", dir.to_str().unwrap()])
            .args(args.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (give, lines) = mpsc::channel();
        let read = move || {
            for line in stdout.lines().map_while(Result::ok) {
                if give.send(line).is_err() {
                    // The pipe is closed with this thread.
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(read).unwrap();
        Self { child, lines }
    }

    fn next(&self) -> Entry {
        entry_of(&self.lines.recv_timeout(DEADLINE).expect("hung: waited for a line"))
    }

    /// Its exit code, once it has ended.
    fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        until("tail to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts an engine of two workers that compresses what it seals.
fn listen(dir: &Path) -> (Running, SocketAddr) {
    let mut child = Command::new(RINGEST)
        .args(["listen", "127.0.0.1:0", "--workers", "2", "--compress", "zstd"])
        .args(["--segment-bytes", "1M", "--commit-interval", "5ms"])
        .arg(format!("--sink=journal:{}", dir.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.split_whitespace().find_map(|word| word.trim_matches(',').parse().ok());
    child.stderr = Some(said.into_inner());
    (Running::of(child), address.unwrap_or_else(|| panic!("no address in {line:?}")))
}

/// Returns the payload of a numbered datagram.
fn numbered(number: u64) -> Vec<u8> {
    format!("{number:08} {}", "y".repeat(1500)).into_bytes()
}

/// Follows a running engine over segments that end, are sealed and compressed, and are taken away.
#[test]
fn tail_follows_a_running_engine() {
    let place = temp_dir();
    let (engine, to) = listen(place.path());
    let sockets: Vec<_> = (0..6).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let send = |number: u64| {
        let socket = &sockets[usize::try_from(number % 6).unwrap()];
        socket.send_to(&numbered(number), to).unwrap();
    };
    send(0);
    let mut tail = Lines::start(place.path(), "-f -n 1000000 --output json");
    let mut closed = Lines::start(place.path(), "-f -n 1 --grep 00000001");
    let (mut sent, mut seen) = (1, vec![0u64; 6]);
    // 9 MB: each worker changes segments a few times.
    let total = 6000;
    for count in 0..total {
        while sent < total.min(count + 60) {
            send(sent);
            sent += 1;
        }
        let entry = tail.next();
        let number: u64 = str::from_utf8(&entry.payload[..8]).unwrap().parse().unwrap();
        assert!(entry.payload == numbered(number));
        // Each peer's come in order, none is missing.
        let peer = usize::try_from(number % 6).unwrap();
        assert_eq!(number, seen[peer] * 6 + peer as u64, "of peer {peer}");
        seen[peer] += 1;
        if count == total / 2 {
            // A sealed segment was read to its end or is open, so its removal takes nothing from a reader.
            until("a segment to be compressed", || {
                let listed = segment::list(place.path()).unwrap();
                let mut packed = listed.iter().filter(|one| names::is_packed(&one.path));
                packed.next().is_some_and(|one| fs::remove_file(&one.path).is_ok())
            });
        }
    }
    assert_eq!(closed.lines.recv_timeout(DEADLINE).unwrap().matches("00000001").count(), 1);
    kill(Pid::from_raw(tail.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(tail.ended(), Some(0), "SIGINT is how it is ended");
    // Nobody reads: the thread that did ends with the next line, and the other end of the pipe with it.
    drop(std::mem::replace(&mut closed.lines, mpsc::channel().1));
    send(1);
    assert_eq!(closed.ended(), Some(0), "closed");
    engine.signal(Signal::SIGTERM);
    let ended = engine.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    journal_ok(place.path(), "verify {}");
}

/// A compressed segment is what zstd(1) makes the plain one of.
#[test]
fn zstd_unpacks_a_compressed_segment() {
    if let Err(error) = Command::new("zstd").arg("--version").output() {
        println!("skipped: zstd cannot be run: {error}");
        return;
    }
    let place = temp_dir();
    let all = entries(700);
    write(place.path(), &all, true);
    let plain = place.path().join("plain");
    fs::create_dir(&plain).unwrap();
    for one in segment::list(place.path()).unwrap() {
        let unpacked = Command::new("zstd").arg("-dc").arg(&one.path).output().unwrap();
        assert!(unpacked.status.success(), "{unpacked:?}");
        let name = PathBuf::from(one.path.file_name().unwrap()).with_extension("");
        fs::write(plain.join(name), unpacked.stdout).unwrap();
    }
    same(&entries_of(&journal_ok(&plain, "cat {} --output json")), &all, "unpacked");
    journal_ok(&plain, "verify {}");
}

#[test]
fn a_replay_sends_all_again_in_order_and_each_peer_from_a_port() {
    let place = temp_dir();
    let all = entries(300);
    write(place.path(), &all, true);
    for (args, first, count) in [
        ("--speed max", 0, 300),
        ("--speed 2", 0, 300),
        ("--speed 100 --threads 2", 0, 300),
        ("--speed 100 --count 20", 0, 20),
        ("--speed 0.5 --grep 29", 14, 1000),
    ] {
        let receiver = client("127.0.0.1:0".parse().unwrap());
        let to = receiver.local_addr().unwrap();
        let report = journal_ok(place.path(), &format!("replay {{}} {to} --json {args}"));
        let report: Value = serde_json::from_slice(&report).unwrap();
        let wanted: Vec<&Entry> = (0..)
            .zip(&all)
            .filter(|(n, _)| !args.contains("grep") || (*n > 13 && n.to_string().contains("29")))
            .map(|(_, entry)| entry)
            .take(count)
            .collect();
        assert!(wanted.len() > 3 && first < all.len());
        assert_eq!(report["sent"], wanted.len(), "{args}: {report}");
        let mut came: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        let mut buffer = vec![0; 65_536];
        for _ in 0..wanted.len() {
            let (len, peer) = receiver.recv_from(&mut buffer).unwrap();
            came.push((peer, buffer[..len].to_vec()));
        }
        for peer in wanted.iter().map(|entry| entry.peer) {
            // The port of its first payload has all of them, in order, and nothing else.
            let of_peer: Vec<_> = wanted.iter().filter(|one| one.peer == peer).collect();
            let (port, _) =
                came.iter().find(|(_, payload)| *payload == of_peer[0].payload).unwrap();
            let of_port: Vec<_> = came.iter().filter(|(from, _)| from == port).collect();
            assert!(
                of_port.iter().map(|one| &one.1).eq(of_peer.iter().map(|one| &one.payload)),
                "{args}: {peer} by {port}"
            );
        }
        if args.contains("--speed 100 --count") {
            let same = came.iter().map(|one| &one.1).eq(wanted.iter().map(|one| &one.payload));
            assert!(same, "one thread sends in the order of arrival");
        }
        let elapsed_s = report["elapsed_s"].as_f64().unwrap();
        let least_s = if args == "--speed 2" { 299.0 * 0.001_000_003 / 2.0 } else { 0.0 };
        assert!(elapsed_s >= least_s, "never faster than asked: {elapsed_s}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let place = temp_dir();
    write(place.path(), &entries(20), false);
    for (args, code, said) in [
        ("cat /nonexistent", 1, "--sink journal:DIR"),
        ("tail /nonexistent -f", 1, "--sink journal:DIR"),
        ("cat {} --since noon", 2, "2026-11-22T10:00:00Z"),
        ("cat {} --peer host", 2, "IP:PORT"),
        ("replay {} 127.0.0.1:9", 1, "no socket is bound"),
        ("replay {} 127.0.0.1:9 --speed 0", 2, "never ends"),
        ("replay {} 127.0.0.1:9 --since 1s", 1, "no record to replay"),
        ("replay {} 127.0.0.1:9 --threads 9", 2, "--threads 9"),
        ("export {} --format csv --listener 192.0.2.1:5", 2, "--format pcapng"),
        ("export {} --format csv --out /nonexistent/x", 1, "cannot write /nonexistent/x"),
        ("export {} --format csv --out {}", 2, "give the name of a file in it"),
        ("export {}", 2, "--format"),
        ("cat {} --since 1s --until 1h", 2, "--since is the earlier one"),
    ] {
        let output = journal(place.path(), args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args}: {stderr}");
        assert!(stderr.contains(said), "{args}: {said:?} is not in {stderr}");
    }
    journal_ok(place.path(), "cat {} --peer [::1]");
    let line = journal_ok(place.path(), "cat {} --grep =HYPER");
    let mut wanted = Vec::new();
    escape::text(&mut wanted, &hostile()[7]);
    assert!(line.trim_ascii_end().ends_with(&wanted));
}
