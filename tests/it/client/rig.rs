//! Tools for the tests of the client: the real binary with something on its stdin, peers that exist and peers
//! that do not, and three hosts in a row.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use ringest_client::{Client, PeerError};
use serde_json::Value;

use crate::load::rig::{Ended, Running};
use crate::rigs::support::{DEADLINE, client};
use crate::sockets::network::run;

pub(crate) const RINGEST: &str = env!("CARGO_BIN_EXE_ringest");

/// Returns the loopback addresses there are.
pub(crate) fn loopbacks() -> Vec<IpAddr> {
    let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        ips.push(Ipv6Addr::LOCALHOST.into());
    } else {
        println!("skipped for IPv6: this host has no ::1");
    }
    ips
}

/// Returns a socket that takes datagrams. Receiving on it fails rather than hangs.
pub(crate) fn listener(ip: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = client(SocketAddr::new(ip, 0));
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Returns an address that nothing is bound to any more.
pub(crate) fn nobody(ip: IpAddr) -> SocketAddr {
    listener(ip).1
}

/// Returns the next datagram and its sender.
pub(crate) fn take(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                buffer.truncate(len);
                return (buffer, from);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// Tells whether no datagram waits now.
pub(crate) fn is_empty(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let empty = socket.recv(&mut [0; 1]).is_err();
    socket.set_nonblocking(false).unwrap();
    empty
}

/// Returns the errors that a client hears until there were this many reports.
pub(crate) fn errors(client: &mut Client, reports: u64) -> Vec<PeerError> {
    let deadline = Instant::now() + DEADLINE;
    let (mut errors, mut heard) = (Vec::new(), 0);
    while heard < reports {
        assert!(client.await_errors(deadline).unwrap(), "hung: {heard} of {reports} came");
        for error in client.take_errors().unwrap() {
            heard += error.count;
            errors.push(error);
        }
    }
    assert_eq!(heard, reports, "{errors:?}");
    errors
}

/// Starts `ringest send` with these bytes on stdin, which ends after them.
pub(crate) fn start_send(args: &[&str], input: &[u8]) -> Running {
    let mut child = Command::new(RINGEST)
        .arg("send")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Small enough for the pipe; of one that ended before it read there is nothing to say.
    let _ = child.stdin.take().unwrap().write_all(input);
    Running::of(child)
}

/// Runs `ringest send` to its end; `args` are split at spaces.
pub(crate) fn send(args: &str) -> Ended {
    start_send(&args.split_whitespace().collect::<Vec<_>>(), b"").end()
}

/// Runs `ringest send` with something on stdin.
pub(crate) fn send_input(args: &str, input: &[u8]) -> Ended {
    start_send(&args.split_whitespace().collect::<Vec<_>>(), input).end()
}

/// Reads the output of `--json` and checks that its numbers add up.
pub(crate) fn document(ended: &Ended) -> Value {
    let document: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(document["version"], 1);
    let peers = document["peers"].as_array().unwrap();
    let sent: u64 = peers.iter().map(|peer| peer["sent"].as_u64().unwrap()).sum();
    assert_eq!(document["sent"], sent, "{document}");
    document
}

/// Returns kind and count of the errors of a peer of a document.
pub(crate) fn heard(document: &Value, peer: usize) -> Vec<(&str, u64)> {
    let errors = document["peers"][peer]["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| (error["kind"].as_str().unwrap(), error["count"].as_u64().unwrap()))
        .collect()
}

/// Three hosts in a row, a client, a router and a server, in network namespaces; gone when dropped.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) client: String,
    pub(crate) router: String,
    pub(crate) server: String,
}

impl Row {
    /// Addresses of the server.
    pub(crate) const SERVER: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(10, 98, 2, 2)),
        IpAddr::V6(Ipv6Addr::new(0xfd98, 2, 0, 0, 0, 0, 0, 2)),
    ];
    /// Addresses of the router on the client's side.
    pub(crate) const ROUTER: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(10, 98, 1, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd98, 1, 0, 0, 0, 0, 0, 1)),
    ];

    /// Makes it, or returns `None`, with a printed reason, where that cannot be made.
    pub(crate) fn lay() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Made first, so that what was set up is taken down even if the rest fails.
        let row = Self {
            client: format!("ringest-rc{id}"),
            router: format!("ringest-rr{id}"),
            server: format!("ringest-rs{id}"),
        };
        // Without the first there are no namespaces here; from then on all must succeed.
        if let Err(reason) = run("ip", &format!("netns add {}", row.client)) {
            println!("skipped: no network namespaces here (not root?): {reason}");
            return None;
        }
        row.set_up().unwrap();
        Some(row)
    }

    fn set_up(&self) -> Result<(), String> {
        let Self { client, router, server } = self;
        run("ip", &format!("netns add {router}"))?;
        run("ip", &format!("netns add {server}"))?;
        for netns in [client, router, server] {
            run("ip", &format!("-n {netns} link set lo up"))?;
            // By default a host answers the same one once a second, and all together 50 at once: no
            // limit for any type of IPv4, and for questions alone (128) of IPv6.
            sysctl(netns, "net.ipv4.icmp_ratemask=0")?;
            sysctl(netns, "net.ipv6.icmp.ratemask=128")?;
        }
        sysctl(router, "net.ipv4.ip_forward=1")?;
        sysctl(router, "net.ipv6.conf.all.forwarding=1")?;
        for (netns, side, number) in [(client, "near", 1), (server, "far", 2)] {
            run(
                "ip",
                &format!("-n {router} link add {side} type veth peer name wan netns {netns}"),
            )?;
            for (netns, device, host) in [(router, side, 1), (netns, "wan", 2)] {
                let address = format!("10.98.{number}.{host}/24");
                run("ip", &format!("-n {netns} address add {address} dev {device}"))?;
                let address = format!("fd98:{number}::{host}/64");
                run("ip", &format!("-n {netns} address add {address} dev {device} nodad"))?;
                run("ip", &format!("-n {netns} link set {device} up"))?;
            }
            run("ip", &format!("-n {netns} route add default via 10.98.{number}.1"))?;
            run("ip", &format!("-n {netns} -6 route add default via fd98:{number}::1"))?;
        }
        Ok(())
    }

    /// Runs a command of ip(8) in a namespace.
    pub(crate) fn ip(netns: &str, command: &str) {
        run("ip", &format!("-n {netns} {command}")).unwrap();
    }

    /// Rules of nft(8) in a namespace; `false`, with a printed reason, where there is none.
    pub(crate) fn nft(netns: &str, rules: &str) -> bool {
        if let Err(error) = Command::new("nft").arg("--version").output() {
            println!("skipped: nft cannot be run here: {error}");
            return false;
        }
        let command = ["netns", "exec", netns, "nft", rules];
        let output = Command::new("ip").args(command).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        true
    }
}

/// Sets a sysctl in a namespace.
pub(crate) fn sysctl(netns: &str, setting: &str) -> Result<(), String> {
    run("ip", &format!("netns exec {netns} sysctl -qw {setting}"))
}

impl Drop for Row {
    fn drop(&mut self) {
        for netns in [&self.client, &self.router, &self.server] {
            if let Err(error) = run("ip", &format!("netns del {netns}")) {
                println!("{error}");
            }
        }
    }
}
