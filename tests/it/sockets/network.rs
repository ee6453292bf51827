//! Conditions that only a network makes: a slow path that fills the send buffer, an MTU that refuses a train.
//! In network namespaces joined by a veth pair, as root; skipped with a printed reason elsewhere.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use ringest::{BackendChoice, Batch, Builder, Engine, Replies, Summary};
use ringest_load::spec::Sizes;

use crate::rigs::support::{
    BACKENDS, DEADLINE, boxed, consistent, gso, load_spec, payload, send_load, send_train, small,
    stop, until,
};

pub(crate) const ENGINE_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Two namespaces with a cable between them; gone when dropped.
#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) engine: String,
    pub(crate) client: String,
}

pub(crate) fn run(program: &str, args: &str) -> Result<(), String> {
    let output = Command::new(program).args(args.split_whitespace()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} {args}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

impl Cable {
    /// Makes it, or returns `None`, with a printed reason, where that cannot be made.
    pub(crate) fn lay() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Made first, so that what was set up is taken down even if the rest fails.
        let cable = Self { engine: format!("ringest-e{id}"), client: format!("ringest-c{id}") };
        match cable.set_up() {
            Ok(()) => Some(cable),
            Err(reason) => {
                println!("skipped: no network namespaces here (not root?): {reason}");
                None
            }
        }
    }

    fn set_up(&self) -> Result<(), String> {
        let Self { engine, client } = self;
        run("ip", &format!("netns add {engine}"))?;
        run("ip", &format!("netns add {client}"))?;
        run("ip", &format!("-n {engine} link add cable type veth peer name cable netns {client}"))?;
        for (netns, ip) in [(engine, ENGINE_IP), (client, CLIENT_IP)] {
            run("ip", &format!("-n {netns} address add {ip}/24 dev cable"))?;
            run("ip", &format!("-n {netns} link set cable up"))?;
            run("ip", &format!("-n {netns} link set lo up"))?;
        }
        Ok(())
    }

    /// Makes the engine's way out this slow. The queue holds all that a send buffer can.
    fn slow_down(&self, rate: &str) -> Result<(), String> {
        let engine = &self.engine;
        run(
            "tc",
            &format!("-n {engine} qdisc add dev cable root tbf rate {rate} burst 16k limit 16m"),
        )
    }

    /// Runs `work` in a namespace. Sockets made there stay there.
    pub(crate) fn inside<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{netns}")).unwrap();
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Starts an engine that sends each datagram back `times` times.
    fn engine(&self, builder: Builder, times: usize) -> Engine {
        Self::inside(&self.engine, || {
            let echo = move |batch: &Batch, replies: &mut Replies| {
                for datagram in batch {
                    for _ in 0..times {
                        replies.send(&datagram, datagram.payload());
                    }
                }
            };
            builder.listen(SocketAddr::from((ENGINE_IP, 0))).start(boxed(|_| echo)).unwrap()
        })
    }

    fn client(&self) -> UdpSocket {
        Self::inside(&self.client, || {
            let socket = UdpSocket::bind((CLIENT_IP, 0)).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::RcvBufForce,
                &(64 << 20),
            )
            .unwrap();
            socket
        })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for netns in [&self.engine, &self.client] {
            if let Err(error) = run("ip", &format!("netns del {netns}")) {
                println!("{error}");
            }
        }
    }
}

/// Returns the backends, with and without a worker.
fn ways() -> impl Iterator<Item = (BackendChoice, usize)> {
    BACKENDS.into_iter().flat_map(|backend| [(backend, 1), (backend, 0)])
}

/// Takes answers until there have been `count`, and checks each.
fn collect(socket: &UdpSocket, count: u64, check: impl Fn(&[u8])) {
    let mut buffer = vec![0; 65_536];
    for taken in 0..count {
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) => break check(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{taken} of {count} answers came: {error}"),
            }
        }
    }
}

fn answers_balance(summary: &Summary, answers: u64) {
    consistent(summary);
    let replies = summary.replies;
    assert_eq!(replies.sent + replies.send_timed_out + replies.failed, answers, "{summary:#?}");
}

/// Sends `count` datagrams of 1000 bytes, 16 at a time, and returns how many.
fn ask(socket: &UdpSocket, target: SocketAddr, count: u64) -> u64 {
    for number in 0..count / 16 {
        let whole = payload(usize::try_from(number).unwrap(), 16_000);
        send_train(socket, target, &whole, 1000);
    }
    count / 16 * 16
}

#[test]
fn replies_wait_for_a_slow_path_and_all_arrive() {
    let Some(cable) = Cable::lay() else { return };
    cable.slow_down("80mbit").unwrap();
    for (backend, workers) in ways() {
        println!("{backend:?}, {workers} workers");
        let builder = small(backend).workers(workers).send_timeout(DEADLINE).reply_bytes(8 << 20);
        let engine = cable.engine(builder, 3);
        let socket = cable.client();
        // Three megabytes of answers through a send buffer of 200 kB.
        let sent = ask(&socket, engine.addresses()[0], 1000);
        until("all to be taken", || engine.stats().ledger.handled == sent);
        let summary = stop(engine);
        answers_balance(&summary, 3 * sent);
        assert_eq!(summary.replies.sent, 3 * sent, "{summary:#?}");
        assert_eq!(summary.cq_overflow, 0, "{summary:#?}");
        collect(&socket, 3 * sent, |answer| assert_eq!(answer.len(), 1000));
    }
}

#[test]
fn replies_that_a_slow_path_has_no_room_for_are_given_up_and_counted() {
    let Some(cable) = Cable::lay() else { return };
    cable.slow_down("8mbit").unwrap();
    for (backend, workers) in ways() {
        println!("{backend:?}, {workers} workers");
        let builder =
            small(backend).workers(workers).send_timeout(Duration::from_millis(1)).gro(false);
        let engine = cable.engine(builder, 2);
        let socket = cable.client();
        let sent = ask(&socket, engine.addresses()[0], 1000);
        until("all to be taken", || engine.stats().ledger.handled == sent);
        let summary = stop(engine);
        answers_balance(&summary, 2 * sent);
        assert!(summary.replies.send_timed_out > 0, "{summary:#?}");
        // An inline handler must not wait for room, so there it may find none.
        assert!(workers == 0 || summary.replies.failed == 0, "{summary:#?}");
        assert_eq!(summary.cq_overflow, 0, "{summary:#?}");
        // The kernel delivered every datagram that it took.
        collect(&socket, summary.replies.sent, |answer| assert_eq!(answer.len(), 1000));
    }
}

/// Returns the number of polls that wait in a ring, as the kernel shows them (proc(5), fdinfo).
fn most_polls_of_a_ring() -> usize {
    let rings = fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| {
        let text = fs::read_to_string(entry.unwrap().path()).ok()?;
        let (_, polls) = text.split_once("PollList:")?;
        Some(polls.lines().filter(|line| line.trim_start().starts_with("op=")).count())
    });
    rings.max().unwrap_or(0)
}

/// While a reply waits, every turn of the receiver asks to be told of room: a thousand turns must
/// not leave a thousand questions in the kernel.
#[test]
fn a_receiver_that_waits_for_room_goes_on_receiving() {
    let Some(cable) = Cable::lay() else { return };
    cable.slow_down("8mbit").unwrap();
    for (backend, workers) in ways() {
        println!("{backend:?}, {workers} workers");
        let builder = small(backend)
            .workers(workers)
            .slots(4)
            .coalesce(Duration::ZERO)
            .send_timeout(DEADLINE)
            .reply_bytes(8 << 20);
        let engine = cable.engine(builder, 1);
        let target = engine.addresses()[0];
        let socket = cable.client();
        // Fills the send buffer, and more.
        let mut sent = ask(&socket, target, 600);
        until("all to be taken", || engine.stats().ledger.handled == sent);
        let mut polls = 0;
        for number in 0..500 {
            socket.send_to(&payload(number, 10), target).unwrap();
            sent += 1;
            until("it to be taken", || engine.stats().ledger.received == sent);
            polls = polls.max(most_polls_of_a_ring());
        }
        assert!(polls <= 20, "{polls} polls were waiting in one ring");
        let summary = stop(engine);
        answers_balance(&summary, sent);
        assert_eq!(summary.ledger.handled, sent, "{summary:#?}");
        assert_eq!(summary.replies.send_timed_out, 0, "{summary:#?}");
        // An inline handler must not wait for room, so there it may find none.
        assert!(workers == 0 || summary.replies.failed == 0, "{summary:#?}");
        assert_eq!(summary.cq_overflow, 0, "{summary:#?}");
        let right = |answer: &[u8]| assert!([10, 1000].contains(&answer.len()));
        collect(&socket, summary.replies.sent, right);
    }
}

#[test]
fn a_train_the_mtu_refuses_is_answered_datagram_by_datagram() {
    let Some(cable) = Cable::lay() else { return };
    for slow in [false, true] {
        if slow {
            cable.slow_down("80mbit").unwrap();
        }
        for (backend, workers) in ways() {
            println!("{backend:?}, {workers} workers, slow {slow}");
            let builder = small(backend).workers(workers).send_timeout(DEADLINE);
            let engine = cable.engine(builder, 40);
            let target = engine.addresses()[0];
            let socket = cable.client();
            // Datagrams of 3000 bytes over an MTU of 1500 are fragmented, and sent without UDP_SEGMENT.
            for number in 0..20 {
                let body = payload(number, 3000);
                socket.send_to(&body, target).unwrap();
                collect(&socket, 40, |answer| assert_eq!(answer, body));
            }
            // And small ones, which may go as trains, to another peer.
            let other = cable.client();
            for number in 0..20 {
                let body = payload(number, 300);
                other.send_to(&body, target).unwrap();
                collect(&other, 40, |answer| assert_eq!(answer, body));
            }
            let summary = stop(engine);
            answers_balance(&summary, 1600);
            assert_eq!(summary.replies.sent, 1600, "{summary:#?}");
        }
    }
}

/// A stop does not wait for a path that has no end.
#[test]
fn a_stop_gives_up_replies_at_the_send_deadline() {
    let Some(cable) = Cable::lay() else { return };
    cable.slow_down("8mbit").unwrap();
    for (backend, workers) in ways() {
        let builder = small(backend).workers(workers).send_timeout(Duration::from_millis(1));
        let engine = cable.engine(builder, 5);
        let socket = cable.client();
        let sent = ask(&socket, engine.addresses()[0], 1000);
        let summary = stop(engine);
        assert_eq!(summary.ledger.handled, sent, "the client's way is fast: {summary:#?}");
        answers_balance(&summary, 5 * sent);
    }
}

/// Datagrams across a cable, for once: the accounts are the same.
#[test]
fn a_load_over_a_cable_balances() {
    let Some(cable) = Cable::lay() else { return };
    for (backend, workers) in ways() {
        for train in [1, 16] {
            let engine = cable.engine(small(backend).workers(workers).reply_bytes(0), 0);
            let mut spec = load_spec(engine.addresses()[0]);
            // Fewer than a core's backlog holds (1000): a busy host would drop the others there, uncounted.
            (spec.count, spec.gso, spec.sizes) = (Some(800), gso(train), Sizes::Fixed(800));
            let sent = Cable::inside(&cable.client, || send_load(&spec));
            let done = AtomicBool::new(false);
            until("all to arrive", || {
                let ledger = engine.stats().ledger;
                done.store(ledger.received == sent || ledger.dropped.kernel > 0, Ordering::Relaxed);
                done.load(Ordering::Relaxed)
            });
            let summary = stop(engine);
            consistent(&summary);
            let ledger = summary.ledger;
            assert_eq!(ledger.received + ledger.dropped.kernel, sent, "{summary:#?}");
        }
    }
}

/// With SO_REUSEPORT the kernel may choose a port that another such socket of this user holds: two
/// engines would share it without a word. Eight of them have ten ports to choose from here.
#[test]
fn engines_that_let_the_kernel_choose_never_share_a_port() {
    let Some(cable) = Cable::lay() else { return };
    let range = "sysctl -qw net.ipv4.ip_local_port_range=40000\t40009";
    let range = range.split(' ').collect::<Vec<_>>();
    let set = Command::new("ip").args(["netns", "exec", &cable.engine]).args(range).output();
    assert!(set.unwrap().status.success());
    for backend in BACKENDS {
        for receivers in [1, 2] {
            let builder = || small(backend).receivers(receivers).slots(4).reply_bytes(0);
            let engines: Vec<_> = (0..8).map(|_| cable.engine(builder(), 0)).collect();
            let ports: HashSet<_> = engines.iter().map(|engine| engine.addresses()[0]).collect();
            assert_eq!(ports.len(), engines.len(), "{ports:?}");
            for engine in engines {
                consistent(&stop(engine));
            }
        }
    }
}
