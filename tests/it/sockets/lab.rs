//! Two hosts with several addresses each, in network namespaces, and what the tests of sockets share:
//! an engine that writes down all that is told of a datagram, peers that read the header of a reply,
//! and the real program. As root; skipped with a printed reason elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sockopt};
use nix::unistd::Pid;
use ringest::{Batch, Builder, Engine, Error, Replies, Summary};

use tempfile::NamedTempFile;

use crate::rigs::support::{DEADLINE, boxed, consistent, until};
use crate::sockets::network::{Cable, run};

/// Addresses of the engine's host; the first of each family is the one routing would choose.
pub(crate) const ENGINE_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 11), Ipv4Addr::new(10, 99, 0, 21)];
pub(crate) const ENGINE_V6: [Ipv6Addr; 3] = [v6(0x99, 1), v6(0x99, 0x11), v6(0x99, 0x21)];
/// Addresses of the client's host.
pub(crate) const CLIENT_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 99, 0, 2), Ipv4Addr::new(10, 99, 0, 12)];
pub(crate) const CLIENT_V6: [Ipv6Addr; 2] = [v6(0x99, 2), v6(0x99, 0x12)];
/// The directed broadcast address of the cable.
pub(crate) const BROADCAST_V4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 255);
/// The second cable's ends: engine, client.
pub(crate) const SECOND_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2)];
pub(crate) const SECOND_V6: [Ipv6Addr; 2] = [v6(0x98, 1), v6(0x98, 2)];

/// Returns an address for documentation (RFC 3849).
const fn v6(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
}

/// Two namespaces with a cable between them, three addresses of each family on the engine's end and
/// two on the client's.
#[derive(Debug)]
pub(crate) struct Lab {
    cable: Cable,
}

impl Lab {
    /// Makes it, or returns `None`, with a printed reason, where that cannot be made.
    pub(crate) fn lay() -> Option<Self> {
        let lab = Self { cable: Cable::lay()? };
        if let Err(reason) = lab.set_up() {
            println!("skipped: the lab cannot be set up: {reason}");
            return None;
        }
        Some(lab)
    }

    fn set_up(&self) -> Result<(), String> {
        let (engine, client) = (self.engine(), self.client());
        for ip in &ENGINE_V4[1..] {
            run("ip", &format!("-n {engine} address add {ip}/24 dev cable"))?;
        }
        run("ip", &format!("-n {client} address add {}/24 dev cable", CLIENT_V4[1]))?;
        for netns in [engine, client] {
            // Or an address could not be used for seconds (RFC 4862, duplicate address detection).
            for scope in ["all", "default", "cable"] {
                let setting = format!("net.ipv6.conf.{scope}.accept_dad=0");
                run("ip", &format!("netns exec {netns} sysctl -qw {setting}"))?;
            }
            // The hosts' own addresses answer for 10.0.0.0/8 alone; groups leave by the cable.
            run("ip", &format!("-n {netns} route add 224.0.0.0/4 dev cable"))?;
        }
        for ip in ENGINE_V6 {
            run("ip", &format!("-n {engine} address add {ip}/64 dev cable nodad"))?;
        }
        for ip in CLIENT_V6 {
            run("ip", &format!("-n {client} address add {ip}/64 dev cable nodad"))?;
        }
        self.await_link("cable");
        ENGINE_V6.iter().for_each(|&ip| await_address(engine, ip.into()));
        CLIENT_V6.iter().for_each(|&ip| await_address(client, ip.into()));
        Ok(())
    }

    /// Returns the engine's namespace.
    pub(crate) fn engine(&self) -> &str {
        &self.cable.engine
    }

    /// Returns the client's namespace.
    pub(crate) fn client(&self) -> &str {
        &self.cable.client
    }

    /// Lays another cable beside the first, called `second` at both ends.
    pub(crate) fn lay_second(&self) {
        let (engine, client) = (self.engine(), self.client());
        let link = "link add second type veth peer name second netns";
        run("ip", &format!("-n {engine} {link} {client}")).unwrap();
        for (end, netns) in [engine, client].into_iter().enumerate() {
            let (v4, v6) = (SECOND_V4[end], SECOND_V6[end]);
            run("ip", &format!("-n {netns} address add {v4}/24 dev second")).unwrap();
            run("ip", &format!("-n {netns} address add {v6}/64 dev second nodad")).unwrap();
            run("ip", &format!("-n {netns} link set second up")).unwrap();
        }
        self.await_link("second");
        await_address(engine, SECOND_V6[0].into());
        await_address(client, SECOND_V6[1].into());
    }

    /// Waits until a link is up, which is a moment after both its ends are; only then IPv6 works.
    fn await_link(&self, device: &str) {
        for netns in [self.engine(), self.client()] {
            let asked = format!("-n {netns} route get ff15::1 oif {device}");
            until("the link to be up", || run("ip", &asked).is_ok());
        }
    }

    /// Gives the engine's end of the cable an address, and waits until it can be sent to.
    pub(crate) fn add_address(&self, ip: IpAddr, bits: u8) {
        let nodad = if ip.is_ipv6() { "nodad" } else { "" };
        self.ip(&format!("address add {ip}/{bits} dev cable {nodad}"));
        await_address(self.engine(), ip);
    }

    /// Runs ip(8) on the engine's host.
    pub(crate) fn ip(&self, args: &str) {
        run("ip", &format!("-n {} {args}", self.engine())).unwrap();
    }

    /// Starts an engine on the engine's host.
    pub(crate) fn watch(&self, builder: Builder, answers: bool) -> Watched {
        Cable::inside(self.engine(), || Watched::start(builder, answers))
    }

    /// Returns a socket on the client's host.
    pub(crate) fn peer(&self, ip: impl Into<IpAddr>) -> Peer {
        let ip = ip.into();
        Cable::inside(self.client(), || Peer::bind(ip))
    }
}

/// Waits until the route of an IPv6 address is there, which comes after the address.
pub(crate) fn await_address(netns: &str, ip: IpAddr) {
    until("the address to be reached", || {
        let args = ["-n", netns, "route", "get", &ip.to_string()];
        let output = Command::new("ip").args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).starts_with("local ")
    });
}

/// Returns a port that no engine of this process has had, for several addresses of one port in a lab, where
/// nobody else binds any. (A port just given up may be taken for a moment still: while another test starts a
/// program, the child has a copy of every descriptor.)
pub(crate) fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(9001);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A datagram with all that the engine told of it.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) listener: usize,
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) hop_limit: Option<u8>,
    pub(crate) traffic_class: Option<u8>,
    pub(crate) kernel_unix_ns: Option<u64>,
    pub(crate) payload: Vec<u8>,
}

/// A running engine that writes down every datagram, and sends it back if it is to.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) engine: Engine,
    book: Arc<Mutex<Vec<Sight>>>,
}

impl Watched {
    pub(crate) fn start(builder: Builder, answers: bool) -> Self {
        Self::starting(builder, answers).unwrap()
    }

    /// Starts an engine that answers nothing, or returns why it could not be started.
    pub(crate) fn try_start(builder: Builder) -> Result<Self, Error> {
        Self::starting(builder, false)
    }

    /// Starts an engine, or returns why it could not be started.
    pub(crate) fn starting(builder: Builder, answers: bool) -> Result<Self, Error> {
        let book: Arc<Mutex<Vec<Sight>>> = Arc::default();
        let handler = |_| {
            let book = Arc::clone(&book);
            move |batch: &Batch, replies: &mut Replies| {
                for datagram in batch {
                    if answers {
                        replies.send(&datagram, datagram.payload());
                    }
                    book.lock().unwrap().push(Sight {
                        listener: datagram.listener(),
                        peer: datagram.peer(),
                        local: datagram.local(),
                        destination: datagram.destination(),
                        hop_limit: datagram.hop_limit(),
                        traffic_class: datagram.traffic_class(),
                        kernel_unix_ns: datagram.kernel_unix_ns(),
                        payload: datagram.payload().to_vec(),
                    });
                }
            }
        };
        let engine = builder.start(boxed(handler))?;
        Ok(Self { engine, book })
    }

    pub(crate) fn port(&self, listener: usize) -> u16 {
        self.engine.addresses()[listener].port()
    }

    pub(crate) fn seen(&self) -> usize {
        self.book.lock().unwrap().len()
    }

    /// Waits until a datagram with this payload was handled.
    pub(crate) fn await_payload(&self, payload: &[u8]) {
        let what = format!("{:?} to be handled", String::from_utf8_lossy(payload));
        until(&what, || self.book.lock().unwrap().iter().any(|sight| sight.payload == payload));
    }

    pub(crate) fn await_count(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.seen() < count {
            let stats = self.engine.stats();
            assert!(Instant::now() < deadline, "hung: waited for {count} datagrams: {stats:#?}");
            std::thread::yield_now();
        }
    }

    /// Stops it; the final accounts balance, and are of what was seen.
    pub(crate) fn stop(self) -> (Summary, Vec<Sight>) {
        let summary = crate::rigs::support::stop(self.engine);
        let sights = std::mem::take(&mut *self.book.lock().unwrap());
        consistent(&summary);
        assert_eq!(summary.ledger.queued, 0, "{summary:#?}");
        assert_eq!(summary.ledger.handled, sights.len() as u64, "{summary:#?}");
        (summary, sights)
    }
}

/// Returns how often each payload was seen, in the order of the payloads.
pub(crate) fn tally<'a>(
    sights: &[Sight],
    payloads: impl IntoIterator<Item = &'a str>,
) -> Vec<usize> {
    let count = |text: &str| sights.iter().filter(|one| one.payload == text.as_bytes()).count();
    payloads.into_iter().map(count).collect()
}

/// A datagram as a peer heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) payload: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
}

/// A socket that reads the headers of what it hears. Hearing fails rather than hangs.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
}

impl Peer {
    /// Binds a free port of the namespace that the thread is in.
    pub(crate) fn bind(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_broadcast(true).unwrap();
        let ask = |asked: nix::Result<()>| asked.unwrap();
        if ip.is_ipv6() {
            ask(nix::sys::socket::setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true));
            ask(nix::sys::socket::setsockopt(&socket, sockopt::Ipv6RecvTClass, &true));
        } else {
            ask(nix::sys::socket::setsockopt(&socket, sockopt::Ipv4RecvTtl, &true));
            ask(nix::sys::socket::setsockopt(&socket, sockopt::IpRecvTos, &true));
        }
        Self { socket }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn send(&self, to: impl Into<IpAddr>, port: u16, text: &str) {
        let to = SocketAddr::new(to.into(), port);
        assert_eq!(self.socket.send_to(text.as_bytes(), to).unwrap(), text.len());
    }

    /// Sets the TTL (hop limit) and the TOS (traffic class) of the datagrams sent from now on.
    pub(crate) fn stamp(&self, hop_limit: u8, traffic_class: u8) {
        let socket = socket2::SockRef::from(&self.socket);
        if self.address().is_ipv6() {
            socket.set_unicast_hops_v6(hop_limit.into()).unwrap();
            socket.set_multicast_hops_v6(hop_limit.into()).unwrap();
            socket.set_tclass_v6(traffic_class.into()).unwrap();
        } else {
            socket.set_ttl_v4(hop_limit.into()).unwrap();
            socket.set_multicast_ttl_v4(hop_limit.into()).unwrap();
            socket.set_tos_v4(traffic_class.into()).unwrap();
        }
    }

    pub(crate) fn hear(&self) -> Heard {
        let mut buffer = vec![0; 65_536];
        let mut control = nix::cmsg_space!(i32, i32);
        let fd = self.socket.as_raw_fd();
        let (len, from, messages) = loop {
            let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
            match recvmsg(fd, &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(got) => {
                    let from: SockaddrStorage = got.address.unwrap();
                    break (got.bytes, from, got.cmsgs().unwrap().collect::<Vec<_>>());
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => panic!("waited for an answer at {}: {error}", self.address()),
            }
        };
        buffer.truncate(len);
        let v4 =
            from.as_sockaddr_in().map(|name| SocketAddr::from(std::net::SocketAddrV4::from(*name)));
        let v6 = from.as_sockaddr_in6().map(|name| std::net::SocketAddrV6::from(*name).into());
        let (mut hop_limit, mut traffic_class) = (0, 0);
        for message in messages {
            match message {
                ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                    hop_limit = u8::try_from(value).unwrap();
                }
                ControlMessageOwned::Ipv4Tos(value) => traffic_class = value,
                ControlMessageOwned::Ipv6TClass(value) => {
                    traffic_class = u8::try_from(value).unwrap();
                }
                _ => {}
            }
        }
        Heard { payload: buffer, from: v4.or(v6).unwrap(), hop_limit, traffic_class }
    }

    /// Hears the echo of `text`, and returns who sent it.
    pub(crate) fn hear_echo(&self, text: &str) -> SocketAddr {
        let heard = self.hear();
        assert_eq!(String::from_utf8_lossy(&heard.payload), text, "{heard:?}");
        heard.from
    }
}

/// The real program, running; killed and reaped when dropped. What it prints goes to files.
#[derive(Debug)]
pub(crate) struct Program {
    child: std::process::Child,
    files: [NamedTempFile; 2],
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// Starts `ringest …`, in a namespace if one is given.
    pub(crate) fn ringest(netns: Option<&str>, args: &str) -> Self {
        let ringest = env!("CARGO_BIN_EXE_ringest");
        let mut command = match netns {
            None => Command::new(ringest),
            Some(netns) => {
                let mut command = Command::new("ip");
                // `ip` becomes the program (execvp), so a signal meets the program.
                command.args(["netns", "exec", netns, ringest]);
                command
            }
        };
        Self::start(command.args(args.split_whitespace()))
    }

    /// Starts any command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let files = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let child = command
            .stdin(Stdio::piped())
            .stdout(files[0].reopen().unwrap())
            .stderr(files[1].reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, files }
    }

    pub(crate) fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.files[0]).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.files[1]).unwrap()
    }

    /// Waits until it listens and returns its addresses.
    pub(crate) fn listening(&mut self) -> Vec<SocketAddr> {
        until("the program to listen", || {
            let text = self.stderr();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}: {text}");
            text.contains("listening on ") && text.contains('\n')
        });
        let text = self.stderr();
        let line = text.lines().find_map(|line| line.strip_prefix("listening on ")).unwrap();
        let addresses = line.split(" with ").next().unwrap().split(", ");
        addresses.map(|address| address.parse().unwrap()).collect()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits for its end, and fails the test if that hangs.
    pub(crate) fn end(mut self) -> Ended {
        let mut code = None;
        until("the program to end", || match self.child.try_wait().unwrap() {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        Ended { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.end()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
