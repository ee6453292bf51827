//! `ringest send` against programs that are not ours: nc, socat, and a Python script. Skipped with a
//! printed reason where they are missing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::rig::{nobody, send, start_send};
use crate::load::rig::loopback;
use crate::rigs::support::until;

/// A program that takes datagrams; killed when dropped.
struct Other(Child);

impl Other {
    /// Starts it; `None`, with a printed reason, if it is missing. A minute is all it gets, so that a
    /// test that waits for what never comes ends.
    fn start(program: &str, args: &[&str]) -> Option<Self> {
        if let Err(error) = Command::new(program).arg("-h").output() {
            println!("skipped: {program} cannot be run here: {error}");
            return None;
        }
        let child = Command::new("timeout")
            .args(["60", program])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        Some(Self(child.unwrap()))
    }

    /// Waits until it has bound its port.
    fn await_bound(mut self, address: SocketAddr) -> Self {
        let port = format!(":{:04X} ", address.port());
        until("the other program to bind", || {
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "the other program ended: {ended:?}");
            let table = std::fs::read_to_string("/proc/net/udp").unwrap();
            table.lines().any(|line| {
                line.split_once(": ").is_some_and(|(_, rest)| rest[8..].starts_with(&port))
            })
        });
        self
    }

    /// Returns the next `bytes` bytes that it prints.
    fn printed(&mut self, bytes: usize) -> Vec<u8> {
        let mut printed = vec![0; bytes];
        self.0.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
        printed
    }

    fn say(&mut self, text: &[u8]) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(text).and_then(|()| stdin.flush()).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It hands the signal on.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    nobody(loopback(0).ip())
}

#[test]
fn netcat_gets_what_is_sent_and_its_answer_comes_back() {
    let to = free();
    let port = to.port().to_string();
    let Some(nc) = Other::start("nc", &["-u", "-l", "127.0.0.1", &port]) else { return };
    let mut nc = nc.await_bound(to);
    let asking = start_send(
        &[&to.to_string(), "question\n", "--wait-reply", "--timeout", "30s", "--linger", "0"],
        b"",
    );
    assert_eq!(nc.printed(9), b"question\n");
    nc.say(b"answer\n");
    let ended = asking.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "answer\\n\n"), "{ended:?}");
}

/// The other way round: nc asks, and the client, which sends from a port of its choice, hears it.
#[test]
fn netcat_that_speaks_first_is_heard_as_a_reply() {
    let (to, ours) = (free(), free());
    let (theirs, our_port) = (to.port().to_string(), ours.port().to_string());
    let args = ["-u", "-p", &theirs, "127.0.0.1", &our_port];
    let Some(nc) = Other::start("nc", &args) else { return };
    let mut nc = nc.await_bound(to);
    let asking = start_send(
        &[
            &to.to_string(),
            "hello\n",
            "--source-port",
            &our_port,
            "--wait-reply",
            "--timeout",
            "30s",
        ],
        b"",
    );
    assert_eq!(nc.printed(6), b"hello\n");
    nc.say(b"and you\n");
    let ended = asking.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "and you\\n\n"), "{ended:?}");
}

#[test]
fn socat_echoes_and_stores() {
    let to = free();
    let listen = format!("UDP4-RECVFROM:{},bind=127.0.0.1,fork", to.port());
    let Some(socat) = Other::start("socat", &[&listen, "EXEC:cat"]) else { return };
    let _socat = socat.await_bound(to);
    let ended = send(&format!("{to} one --wait-reply --timeout 30s --linger 0"));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "one\n"), "{ended:?}");

    let to = free();
    let receive = format!("UDP4-RECV:{},bind=127.0.0.1", to.port());
    let Some(socat) = Other::start("socat", &["-u", &receive, "STDOUT"]) else { return };
    let mut socat = socat.await_bound(to);
    let ended = send(&format!("{to} --hex 00 ff0a 7a7a --linger 0"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(socat.printed(5), [0, 0xff, 0x0a, b'z', b'z']);
}

const SCRIPT: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if sys.argv[1] == '6' else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('::1' if sys.argv[1] == '6' else '127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
while True:
    data, peer = s.recvfrom(65535)
    print(data.hex(), peer[1], flush=True)
    for part in (data.upper(), b'%d' % len(data)):
        s.sendto(part, peer)
";

#[test]
fn a_python_script_is_answered_and_answers() {
    for family in ["4", "6"] {
        if family == "6" && std::net::UdpSocket::bind("[::1]:0").is_err() {
            println!("skipped for IPv6: this host has no ::1");
            continue;
        }
        let Some(mut python) = Other::start("python3", &["-u", "-c", SCRIPT, family]) else {
            return;
        };
        let mut lines = BufReader::new(python.0.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let host = if family == "4" { "127.0.0.1" } else { "[::1]" };
        let to = format!("{host}:{}", line());
        let ended = send(&format!("{to} abc de --wait-reply 2 --timeout 30s"));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ABC\n3\nDE\n2\n"), "{ended:?}");
        let (first, second) = (line(), line());
        let ports: Vec<_> = [&first, &second].map(|line| line.split_once(' ').unwrap()).to_vec();
        assert_eq!((ports[0].0, ports[1].0), ("616263", "6465"));
        assert_eq!(ports[0].1, ports[1].1, "the local port is kept");
    }
}
