//! The control port of `ringest bench server`: who is let in, what is refused, and that whoever vanishes,
//! client or server, leaves nothing behind and nobody hanging.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringest_bench::wire::line::LINE_BYTES_MAX;
use serde_json::{Value, json};

use crate::bench::rig::{Desk, Host, Running, Server, all_balance, alone, bench, report};
use crate::rigs::support::{DEADLINE, until};

/// A client that says what it likes.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Connects a client that the server lets in.
    fn welcome(server: &Server) -> Self {
        let mut client = Self::connect(server);
        let reply = client.ask(&hello());
        assert_eq!((&reply["type"], &reply["version"]), (&json!("welcome"), &json!(1)), "{reply}");
        client
    }

    fn write(&mut self, bytes: &[u8]) {
        // It may have been refused before all of it was written.
        let _ = self.0.get_ref().write_all(bytes);
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.write(format!("{request}\n").as_bytes());
        self.hear()
    }

    /// Asks for what must work.
    fn get(&mut self, request: &Value, answer: &str) -> Value {
        let reply = self.ask(request);
        assert_eq!(reply["type"], answer, "{request}: {reply}");
        reply
    }

    /// Asks for what must not.
    fn error(&mut self, request: &Value) -> String {
        self.get(request, "error")["message"].as_str().unwrap().to_owned()
    }

    /// Asks for a receiver and returns the address that it listens on.
    fn prepare(&mut self, receiver: &Value) -> SocketAddr {
        let ready = self.get(&prepare(receiver), "ready");
        assert!(ready["setup"]["rcvbuf_bytes"].as_u64().unwrap() > 0, "{ready}");
        ready["address"].as_str().unwrap().parse().unwrap()
    }

    /// Returns the error that a refused client is sent. The server closes the connection after it.
    fn refused(mut self) -> String {
        let reply = self.hear();
        assert_eq!(reply["type"], "error", "{reply}");
        let mut rest = Vec::new();
        // Reset, if it had said more than was read.
        let _ = self.0.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
        reply["message"].as_str().unwrap().to_owned()
    }
}

fn hello() -> Value {
    json!({ "type": "hello", "version": 1, "token": null })
}

fn prepare(receiver: &Value) -> Value {
    json!({ "type": "prepare", "receiver": receiver })
}

fn mark(sent: u64) -> Value {
    json!({ "type": "mark", "sent": sent, "settle_ms": 5 })
}

fn finish(sent: u64, issued_by_flow: &[u64]) -> Value {
    json!({ "type": "finish", "sent": sent, "issued_by_flow": issued_by_flow, "failed": 0,
        "settle_ms": 5 })
}

/// Returns a request for an engine with a worker, which is held from the mark on if `stalled`.
fn receiver(stalled: bool) -> Value {
    json!({
        "kind": { "kind": "engine", "backend": "auto", "receivers": 1, "workers": 1, "slots": 256,
            "coalesce_us": null, "overload": "drop", "arrivals": true, "stalled": stalled },
        "gro": false, "rcvbuf_bytes": 1 << 20, "cores": [], "run": 7, "flows": 1, "size_max": 64,
        "tracks": true, "stages": false, "echoes": false, "sender_boot_id": "",
    })
}

fn threads(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/task", server.running.id())).unwrap().count()
}

/// Checks that the server is as it was before its client came, and serves the next one.
fn as_good_as_new(server: &mut Server, receiver: SocketAddr, threads_before: usize) {
    server.await_said(": gone");
    until("the threads to leave", || threads(server) == threads_before);
    until("the UDP port to be free", || UdpSocket::bind(receiver).is_ok());
    let found = report(&Host::Here, &format!("burst {} --smoke --longest 64", server.address));
    all_balance(&found);
}

#[test]
fn who_does_not_begin_as_a_client_is_refused_with_the_reason() {
    let server = Server::start(&Host::Here, "127.0.0.1:0 --token sesame");
    for (said, reason) in [
        (
            r#"{"type":"hello","version":2,"token":"sesame"}"#,
            "speaks version 1, the client version 2",
        ),
        (r#"{"type":"hello","version":1,"token":"Sesame"}"#, "the token is wrong"),
        (r#"{"type":"hello","version":1,"token":"sesame "}"#, "the token is wrong"),
        (r#"{"type":"hello","version":1,"token":""}"#, "the token is wrong"),
        (r#"{"type":"hello","version":1,"token":null}"#, "wants a token"),
        (r#"{"type":"hello","version":1}"#, "wants a token"),
        (r#"{"type":"hello","version":1,"token":"sesame","x":1}"#, "not a request"),
        (r#"{"type":"hello","version":-1}"#, "not a request"),
        (r#"{"type":"mark","sent":1,"settle_ms":5}"#, "the first thing said must be hello"),
        (r#"{"type":"shutdown"}"#, "not a request"),
        ("GET / HTTP/1.1\r", "not a request"),
        ("\u{0}\u{1}\u{fffd}", "not a request"),
        ("", "not a request"),
        ("[[[[[[", "not a request"),
    ] {
        let mut client = Client::connect(&server);
        client.write(format!("{said}\n").as_bytes());
        let message = client.refused();
        assert!(message.contains(reason), "{said}: {message}");
        assert!(!message.contains("sesame") || said.contains("sesame"), "the word stays here");
    }
    let mut endless = Client::connect(&server);
    endless.write(&vec![b'['; LINE_BYTES_MAX + 2]);
    assert!(endless.refused().contains("too long"));
    // And cut off in the middle of a line.
    let mut cut = Client::connect(&server);
    cut.write(b"{\"type\":");
    cut.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(cut.refused().contains("cut off"));
    let mut right = Client::connect(&server);
    right.get(&json!({ "type": "hello", "version": 1, "token": "sesame" }), "welcome");
}

#[test]
fn who_says_nothing_or_half_of_it_is_sent_away() {
    let server = Server::start(&Host::Here, "127.0.0.1:0");
    for said in ["", "{\"type\":\"hello\""] {
        let mut client = Client::connect(&server);
        client.write(said.as_bytes());
        let message = client.refused();
        assert!(message.contains("came in time"), "{message}");
    }
    drop(Client::welcome(&server));
}

#[test]
fn a_second_client_is_told_to_wait_and_the_first_goes_on() {
    let mut server = Server::start(&Host::Here, "127.0.0.1:0");
    let before = threads(&server);
    let mut first = Client::welcome(&server);
    for _ in 0..3 {
        let ended = bench(&format!("ndr {} --smoke", server.address));
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stderr.contains("busy with another client"), "{ended:?}");
    }
    let address = first.prepare(&receiver(false));
    assert_eq!(address, server.address, "the number a firewall knows already");
    assert!(first.error(&finish(0, &[0])).contains("mark"), "there was no mark");
    drop(first);
    as_good_as_new(&mut server, address, before);
}

#[test]
fn two_requests_in_one_breath_are_two() {
    let server = Server::start(&Host::Here, "127.0.0.1:0");
    let mut client = Client::connect(&server);
    let requests = [hello(), prepare(&receiver(false)), mark(0)];
    let said = requests.map(|request| format!("{request}\n")).concat();
    client.write(said.as_bytes());
    assert_eq!([(); 3].map(|()| client.hear()["type"].clone()), ["welcome", "ready", "marked"]);
}

#[test]
fn requests_out_of_place_or_reason_are_errors_and_the_server_stays() {
    let server = Server::start(&Host::Here, "127.0.0.1:0");
    let mut client = Client::welcome(&server);
    assert!(client.error(&hello()).contains("before"));
    assert!(client.error(&mark(1)).contains("no receiver"));
    assert!(client.error(&finish(1, &[1])).contains("no receiver"));
    for (at, odd) in [
        ("/kind/backend", json!("netmap")),
        ("/kind/overload", json!("hope")),
        ("/kind/workers", json!(usize::MAX)),
        ("/kind/receivers", json!(0)),
        ("/kind/slots", json!(usize::MAX)),
        ("/kind", json!({ "kind": "bare", "call": "read" })),
        ("/rcvbuf_bytes", json!(usize::MAX)),
        ("/rcvbuf_bytes", json!(0)),
        ("/cores", json!([100_000])),
    ] {
        let mut spec = receiver(false);
        *spec.pointer_mut(at).unwrap() = odd;
        assert!(!client.error(&prepare(&spec)).is_empty(), "{spec}");
    }
    // Refused or not believed: either way harmless.
    let mut spec = receiver(false);
    spec["flows"] = json!(usize::MAX);
    client.ask(&prepare(&spec));
    client.prepare(&receiver(false));
    client.get(&mark(u64::MAX), "marked");
    client.error(&finish(u64::MAX, &[1]));
    client.ask(&finish(u64::MAX, &[]));
    client.prepare(&receiver(false));
}

/// Handlers that are held are let go when nobody is left to open the gate.
#[test]
fn a_client_that_vanishes_with_stopped_workers_frees_everything() {
    let mut server = Server::start(&Host::Here, "127.0.0.1:0");
    let before = threads(&server);
    let mut client = Client::welcome(&server);
    let address = client.prepare(&receiver(true));
    client.get(&mark(0), "marked");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..1000 {
        sender.send_to(&[0; 64], address).unwrap();
    }
    drop(client);
    as_good_as_new(&mut server, address, before);
}

/// Returns the address in the server's "receiving on … with …".
fn receiving_on(server: &mut Server) -> SocketAddr {
    server.await_said(" with ");
    let said = server.running.stderr();
    let (_, rest) = said.split_once("receiving on ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_client_killed_in_a_trial_frees_everything() {
    let _alone = alone();
    let mut server = Server::start(&Host::Here, "127.0.0.1:0");
    let before = threads(&server);
    let args = format!("curve {} --duration 1h --max-rate 1k --points 2", server.address);
    let mut client = Running::bench(&Host::Here, &args);
    let address = receiving_on(&mut server);
    client.kill();
    as_good_as_new(&mut server, address, before);
}

#[test]
fn a_server_killed_in_a_trial_is_said() {
    let _alone = alone();
    let desk = Desk::new();
    let file = desk.path("report.json");
    let mut server = Server::start(&Host::Here, "127.0.0.1:0");
    let args = format!(
        "curve {} --flows 1 --duration 500ms --max-rate 1k --points 20 --quiet --json {}",
        server.address,
        file.display()
    );
    let client = Running::bench(&Host::Here, &args);
    receiving_on(&mut server);
    server.running.kill();
    let ended = client.end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the bench server does not answer as one"), "{ended:?}");
    assert!(fs::read(file).unwrap_or_default().is_empty(), "no half of a report");
}

/// Returns the server that a client without HOST has made.
fn child_of(client: &Running) -> i32 {
    let path = format!("/proc/{0}/task/{0}/children", client.id());
    let mut child = None;
    until("the child", || {
        let children = fs::read_to_string(&path).unwrap();
        child = children.split_whitespace().next().and_then(|id| id.parse().ok());
        child.is_some_and(|id: i32| {
            let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.windows(6).any(|word| word == b"server")
        })
    });
    child.unwrap()
}

/// Tells whether a process has ended; its parent need not have reaped it.
fn is_gone(id: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return true };
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

#[test]
fn a_server_in_a_child_process_dies_with_its_parent() {
    let _alone = alone();
    for how in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let client = Running::bench(&Host::Here, "curve --duration 1h --max-rate 1k --points 2");
        let child = child_of(&client);
        kill(Pid::from_raw(client.id().cast_signed()), how).unwrap();
        let ended = client.end();
        until("the child to end", || is_gone(child));
        if how != Signal::SIGKILL {
            assert_eq!(ended.status.code(), Some(1), "{ended:?}");
            assert!(ended.stderr.contains("stopped before the end"), "{ended:?}");
        }
    }
}

#[test]
fn a_server_ends_when_asked_even_with_a_client_in_it() {
    for how in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::start(&Host::Here, "127.0.0.1:0");
        let mut client = Client::welcome(&server);
        let address = client.prepare(&receiver(true));
        client.get(&mark(0), "marked");
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
        kill(Pid::from_raw(server.running.id().cast_signed()), how).unwrap();
        let ended = server.running.end();
        assert!(ended.status.success(), "{ended:?}");
        // Closed, or reset.
        assert!(matches!(client.0.read(&mut [0; 1]), Ok(0) | Err(_)));
        UdpSocket::bind(address).unwrap();
    }
}
