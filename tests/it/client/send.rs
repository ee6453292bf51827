//! `ringest send` on the loopback: what it sends, what it says, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::client::rig::{
    RINGEST, document, heard, is_empty, listener, loopbacks, nobody, send, send_input, start_send,
    take,
};
use crate::load::rig::{Running, TempFile, start_echo};
use crate::rigs::support::{payload, until};

fn local() -> (UdpSocket, SocketAddr) {
    listener(Ipv4Addr::LOCALHOST.into())
}

/// Takes these datagrams, in this order and all from one port, and no more.
fn takes(socket: &UdpSocket, wanted: &[&[u8]]) -> SocketAddr {
    let mut from = None;
    for wanted in wanted {
        let (got, peer) = take(socket);
        assert_eq!(got, *wanted);
        assert_eq!(*from.get_or_insert(peer), peer, "the local port is kept");
    }
    assert!(is_empty(socket));
    from.unwrap()
}

#[test]
fn words_lines_files_frames_and_hexadecimal_are_sent_as_they_are() {
    for ip in loopbacks() {
        let (socket, to) = listener(ip);
        let sent = |args: &str, input: &[u8], wanted: &[&[u8]]| {
            let ended = send_input(&format!("{to} {args} --linger 0"), input);
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
            let word = if wanted.len() == 1 { "datagram" } else { "datagrams" };
            let said = format!("sent {} {word} to {to}\n", wanted.len());
            assert!(ended.stderr.ends_with(&said), "{ended:?}");
            takes(&socket, wanted);
        };
        sent("one two", b"", &[b"one", b"two"]);
        sent("one two --repeat 2", b"", &[b"one", b"one", b"two", b"two"]);
        sent("one --repeat 3 --interval 1ms", b"", &[b"one", b"one", b"one"]);
        sent("one two --rate 1k", b"", &[b"one", b"two"]);
        sent("", b"a\n\n\xff\x00\nlast", &[b"a", b"", b"\xff\x00", b"last"]);
        sent("--hex 00ff 0x0a0b", b"", &[&[0, 255], &[10, 11]]);
        sent("--hex", b"de ad\nbe:ef\n", &[&[0xde, 0xad], &[0xbe, 0xef]]);
        let frames = b"\0\0\0\x02hi\0\0\0\0\0\0\0\x01\n";
        sent("--framing length-prefixed", frames, &[b"hi", b"", b"\n"]);
        let file = TempFile::new(frames);
        let path = file.path();
        sent(&format!("--file {path} --framing length-prefixed"), b"", &[b"hi", b"", b"\n"]);
        sent("--file - --framing length-prefixed", frames, &[b"hi", b"", b"\n"]);
        let file = TempFile::new(b"first\nsecond");
        sent(&format!("--file {}", file.path()), b"", &[b"first", b"second"]);
    }
}

#[test]
fn what_is_too_long_is_refused_with_the_limit_and_the_rest_is_sent() {
    let (socket, to) = local();
    let (most, long) = ("m".repeat(65_507), "x".repeat(65_508));
    let ended =
        send_input(&format!("{to} --json --linger 0"), format!("a\n{long}\n{most}\n").as_bytes());
    ended.failed(1, &["stdin: line 2: 65508 bytes", "at most 65507", "1 of 3 datagrams was not"]);
    let document = document(&ended);
    assert_eq!((&document["sent"], &document["failed"]), (&json!(2), &json!(1)));
    assert_eq!(heard(&document, 0), [("message_too_long", 1)]);
    takes(&socket, &[b"a", most.as_bytes()]);

    let frames = [&65_508u32.to_be_bytes(), long.as_bytes(), b"\0\0\0\x01b"].concat();
    let file = TempFile::new(&frames);
    let args = format!("{to} --file {} --framing length-prefixed --linger 0", file.path());
    send(&args).failed(1, &["datagram 1: 65508 bytes", "1 of 2 datagrams was not sent"]);
    takes(&socket, &[b"b"]);

    // Messages on the command line are all checked before the first is sent.
    send(&format!("{to} a {long}")).failed(2, &["message 2: 65508 bytes"]);
    assert!(is_empty(&socket));
}

#[test]
fn a_torn_file_and_what_is_no_hexadecimal_are_told() {
    let (socket, to) = local();
    let torn = TempFile::new(b"\0\0\0\x02hi\0\0\0\x09torn");
    let args = format!("{to} --file {} --framing length-prefixed --linger 0", torn.path());
    send(&args).failed(1, &["datagram 2: torn: 4 of 9 bytes", "sent 1 datagram"]);
    takes(&socket, &[b"hi"]);
    let ended = send_input(&format!("{to} --hex --json --linger 0"), b"00\n0g\n01\n");
    ended.failed(1, &["stdin: line 2: not hexadecimal", "1 of 3 datagrams was not sent"]);
    let document = document(&ended);
    assert_eq!((&document["failed"], heard(&document, 0)), (&json!(1), Vec::new()));
    takes(&socket, &[&[0], &[1]]);
    send(&format!("{to} --hex 00 0g")).failed(2, &["message 2: not hexadecimal"]);
    send(&format!("{to} --file /no/such/file")).failed(1, &["cannot read /no/such/file"]);
    send(&format!("{to} --file /")).failed(1, &["it is a directory"]);
    assert!(is_empty(&socket));
}

#[test]
fn json_is_the_contract_word_for_word() {
    let (socket, to) = local();
    let ended = send(&format!("{to} a b --json --linger 0"));
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.stdout,
        format!(
            "{{\"version\":1,\"sent\":2,\"failed\":0,\"replies\":0,\"peers\":[{{\"peer\":\"{to}\",\
             \"sent\":2,\"errors\":[]}}]}}\n"
        )
    );
    takes(&socket, &[b"a", b"b"]);
    drop(socket);
    let ended = send(&format!("{to} a b --json --quiet --linger 30s"));
    ended.failed(1, &["connection refused", "ss -uln"]);
    assert_eq!(
        ended.stdout,
        format!(
            "{{\"version\":1,\"sent\":2,\"failed\":0,\"replies\":0,\"peers\":[{{\"peer\":\"{to}\",\
             \"sent\":2,\"errors\":[{{\"kind\":\"connection_refused\",\"count\":2,\
             \"path_mtu\":null}}]}}]}}\n"
        )
    );
}

#[test]
fn each_peer_gets_each_message_and_has_its_own_errors() {
    let alive: Vec<_> = loopbacks().into_iter().map(listener).collect();
    let dead = nobody(Ipv4Addr::LOCALHOST.into());
    let mut list = dead.to_string();
    for (_, address) in &alive {
        list += &format!(",{address}");
    }
    let ended = send(&format!("{list} one two --json --linger 0"));
    ended.failed(1, &["sent 2  connection refused 2"]);
    let document = document(&ended);
    assert_eq!(heard(&document, 0), [("connection_refused", 2)]);
    for (index, (socket, address)) in alive.iter().enumerate() {
        let peer = &document["peers"][index + 1];
        assert_eq!(
            *peer,
            json!({"peer": address.to_string(), "sent": 2, "errors": []}),
            "{ended:?}"
        );
        takes(socket, &[b"one", b"two"]);
    }
}

#[test]
fn replies_are_printed_and_waited_for() {
    let (_echo, to) = start_echo();
    let ended = send(&format!("{to} ping pong --wait-reply --timeout 30s"));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ping\npong\n"), "{ended:?}");
    assert!(ended.stderr.contains(&format!("{to} replied in ")), "{ended:?}");
    assert!(ended.stderr.contains("sent 2 datagrams") && ended.stderr.contains("2 replies"));
    // Characters that a terminal would obey are escaped.
    let ended = send(&format!("{to} --hex 1b5b324aff --wait-reply --timeout 30s"));
    assert_eq!(ended.stdout, "\\u{1b}[2J\\xff\n");
    let ended = send(&format!("{to} --hex 1bff --wait-reply --timeout 30s --output hex --quiet"));
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("1bff\n", ""));
    let ended = send(&format!("{to} hi --wait-reply=1 --timeout 30s --output json"));
    let line: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&line["peer"], &line["payload"]), (&json!(to.to_string()), &json!("hi")));
    assert!(line["round_trip_ns"].as_u64().unwrap() > 0);
    let ended = send(&format!("{to} hi --wait-reply --timeout 30s --json"));
    assert_eq!(document(&ended)["replies"], 1);
    assert!(ended.stderr.contains("2 bytes: hi\n"), "{ended:?}");
}

#[test]
fn several_peers_owe_a_reply_each() {
    let ((_first, one), (_second, two)) = (start_echo(), start_echo());
    let ended = send(&format!("{one},{two} ping --repeat 2 --wait-reply --timeout 30s"));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ping\nping\nping\nping\n"));
    for peer in [one, two] {
        assert_eq!(ended.stderr.matches(&format!("{peer} replied in")).count(), 2, "{ended:?}");
    }
    // The program does not wait for replies of a peer that refused.
    let dead = nobody(Ipv4Addr::LOCALHOST.into());
    let ended = send(&format!("{one},{dead} ping --wait-reply --timeout 1h --json"));
    assert_eq!((ended.code, &document(&ended)["replies"]), (Some(1), &json!(1)));
}

#[test]
fn no_reply_in_time_is_an_ending_of_its_own() {
    let (socket, to) = local();
    let ended = send(&format!("{to} ping --wait-reply --timeout 1ms --linger 0"));
    ended.failed(3, &["1 of 1 reply did not come within 1ms"]);
    takes(&socket, &[b"ping"]);
    let (_echo, to) = start_echo();
    let ended = send(&format!("{to} ping --wait-reply 2 --timeout 300ms --json"));
    ended.failed(3, &["1 of 2 replies did not come"]);
    assert_eq!(document(&ended)["replies"], 1);
}

#[test]
fn it_sends_from_where_it_is_told_and_keeps_the_port() {
    let (socket, to) = local();
    let port = nobody([127, 0, 0, 2].into()).port();
    let args = format!("{to} a b c --bind 127.0.0.2 --source-port {port} --linger 0");
    assert_eq!(send(&args).code, Some(0));
    assert_eq!(takes(&socket, &[b"a", b"b", b"c"]).to_string(), format!("127.0.0.2:{port}"));
    let holder = UdpSocket::bind(("127.0.0.2", port)).unwrap();
    send(&args).failed(1, &["already in use", &format!("ss -uanp 'sport = :{port}'")]);
    drop(holder);
    let ended = send(&format!("localhost:{} x --resolve v4 --linger 0", to.port()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    takes(&socket, &[b"x"]);
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    for (args, words) in [
        ("127.255.255.255:9 x", &["broadcast address", "--broadcast"][..]),
        ("127.0.0.1:9,127.0.0.1:9 x", &["given twice"]),
        ("127.0.0.1:9 x --bind ::1", &["the other IPv6"]),
        ("127.0.0.1:9 x --file f", &["cannot be used with"]),
        ("127.0.0.1:9 x --framing lines", &["cannot be used with"]),
        ("127.0.0.1:9 --hex --framing length-prefixed", &["leave one out"]),
        ("127.0.0.1:9 --wait-reply x", &["after the messages"]),
        ("127.0.0.1:9 x --timeout 1s", &["--wait-reply"]),
        ("127.0.0.1:9 x --rate 1 --interval 1s", &["cannot be used with"]),
        ("127.0.0.1:9 x --repeat 0", &["forever"]),
        ("[fe80::1]:9 x", &["[fe80::1%eth0]:9"]),
        ("::1:9 x", &["[::1]:9"]),
    ] {
        send(args).failed(2, words);
    }
    send("127.0.0.1:9 x --device no-such-card").failed(1, &["SO_BINDTODEVICE", "ip link"]);
}

/// Starts it with a pipe on stdin that stays open.
fn with_open_stdin(args: &[&str]) -> std::process::Child {
    Command::new(RINGEST)
        .arg("send")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn an_error_is_told_while_the_next_line_is_waited_for() {
    let dead = nobody(Ipv4Addr::LOCALHOST.into());
    let mut child = with_open_stdin(&[&dead.to_string()]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let running = child.id();
    stdin.write_all(b"one\n").unwrap();
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("connection refused"), "{line}");
    // A signal ends it, and half a line is not sent.
    stdin.write_all(b"hal").unwrap();
    kill(Pid::from_raw(running.try_into().unwrap()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("sent 1 datagram"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_signal_ends_what_would_go_on_for_ever() {
    let (socket, to) = local();
    let words = format!("{to} tick --repeat forever --interval 1ms --json --linger 0");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let running = start_send(&words.split(' ').collect::<Vec<_>>(), b"");
        take(&socket);
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let sent = document(&ended)["sent"].as_u64().unwrap();
        for _ in 1..sent {
            assert_eq!(take(&socket).0, b"tick");
        }
        assert!(is_empty(&socket));
    }
    // Flat out, and while it waits for replies and errors.
    for args in ["--rate max", "--wait-reply --timeout 1h", "--interval 1h"] {
        let words = format!("{to} x --repeat forever --linger 1h {args}");
        let running = start_send(&words.split(' ').collect::<Vec<_>>(), b"");
        take(&socket);
        running.signal(Signal::SIGINT);
        // The second ends the wait for errors of datagrams that nobody refused.
        let again = || running.signal(Signal::SIGINT);
        let ended = end_with(&running, again);
        assert!(ended, "{args}");
        drop(running);
        while !is_empty(&socket) {
            let _ = socket.set_nonblocking(true);
            while socket.recv(&mut [0; 8]).is_ok() {}
            let _ = socket.set_nonblocking(false);
        }
    }
}

/// Sends signals until the process has ended.
fn end_with(running: &Running, again: impl Fn()) -> bool {
    let mut ended = false;
    until("the process to end", || {
        ended = running.has_ended();
        if !ended {
            again();
        }
        ended
    });
    ended
}

#[test]
fn a_stdout_that_is_closed_is_told() {
    let (_echo, to) = start_echo();
    let mut child = with_open_stdin(&[&to.to_string(), "--wait-reply", "--timeout", "30s"]);
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(b"ping\n").unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("cannot write to stdout"), "{said}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_large_file_arrives_whole_and_in_order() {
    let (socket, to) = local();
    let lines: Vec<_> = (0..500).map(|number| payload(number, 200)).collect();
    let framed = |line: &Vec<u8>| [&200u32.to_be_bytes()[..], line].concat();
    let file = TempFile::new(&lines.iter().flat_map(framed).collect::<Vec<_>>());
    let args = format!("{to} --file {} --framing length-prefixed --linger 0", file.path());
    assert_eq!(send(&args).code, Some(0));
    for line in &lines {
        assert_eq!(take(&socket).0, *line);
    }
    assert!(is_empty(&socket));
}
