//! Real nats-servers, and a shipper's part towards the carrier.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringest_ship::carrier::{Carrier, Message, MessageId, Submitted, Verdict};
use ringest_ship::nats::{Login, Nats, NatsSpec};
use serde_json::Value;

use tempfile::TempDir;

use crate::rigs::support::until;
use crate::ship::nats_probe::{Probe, Stored};

/// How long a broker may be away, choose a leader and so on, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the server to test with; the environment may name another than the installed one.
fn program() -> String {
    std::env::var("RINGEST_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned())
}

/// Tells whether there is a server here, and prints why a test is skipped if not.
pub(crate) fn is_here() -> bool {
    let here = Command::new(program()).arg("--version").output();
    let here = here.is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: nats-server is not here; scripts/test installs it");
    }
    here
}

/// Ports that nobody has now.
fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.each_ref().map(|socket| socket.local_addr().unwrap().port())
}

/// One server. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    config: PathBuf,
    pub(crate) port: u16,
    /// Where it tells about itself.
    monitor: Option<u16>,
    process: Option<Child>,
}

impl Server {
    fn new(place: &TempDir, name: &str, port: u16, more: &str) -> Self {
        let config = place.path().join(format!("{name}.conf"));
        let text = format!("server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n{more}\n");
        fs::write(&config, text).unwrap();
        let mut server = Self { config, port, monitor: None, process: None };
        server.start();
        server
    }

    /// Starts a server with JetStream, and `more` in its configuration.
    pub(crate) fn alone(place: &TempDir, more: &str) -> Self {
        let [port] = free_ports();
        let store = place.path().join("store");
        Self::new(place, "alone", port, &format!("jetstream {{ store_dir: {store:?} }}\n{more}"))
    }

    /// Starts a server with `more` as its configuration, which has JetStream only if that says so.
    pub(crate) fn plain(place: &TempDir, more: &str) -> Self {
        let [port] = free_ports();
        Self::new(place, "plain", port, more)
    }

    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.config.with_extension("log"))
            .unwrap();
        let process = Command::new(program())
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let address = self.address();
        until("a server to listen", || TcpStream::connect(address).is_ok());
    }

    /// Ends it as a crash would: SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Tells whether it leads the stream, as it says itself.
    pub(crate) fn leads(&self) -> bool {
        let name = self.config.file_stem().map(|name| name.to_string_lossy().into_owned());
        name.is_some() && Probe::new(self).leader() == name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Returns the sequence of the last message in its own copy of the stream, as one of a cluster says by
    /// HTTP.
    pub(crate) fn last_sequence(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor?)).ok()?;
        stream.write_all(b"GET /jsz?accounts=true&streams=true HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let answer: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        answer["account_details"][0]["stream_detail"][0]["state"]["last_seq"].as_u64()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts three servers that replicate.
pub(crate) fn cluster(place: &TempDir) -> Vec<Server> {
    let ports = free_ports::<9>();
    let routes: Vec<_> =
        ports[3..6].iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let server = |index: usize| {
        let (name, store) = (format!("n{index}"), place.path().join(format!("store{index}")));
        let more = format!(
            "http: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?} }}\n\
             cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{}] }}",
            ports[6 + index],
            ports[3 + index],
            routes.join(", ")
        );
        let mut server = Server::new(place, &name, ports[index], &more);
        server.monitor = Some(ports[6 + index]);
        server
    };
    (0..3).map(server).collect()
}

/// A record to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) id: MessageId,
    pub(crate) peer: SocketAddr,
    pub(crate) received_unix_ns: u64,
    pub(crate) payload: Vec<u8>,
}

/// Returns numbered records of a few peers, one of which sends half of all.
pub(crate) fn facts(count: u64) -> Vec<Fact> {
    let fact = |number: u64| {
        let port = if number.is_multiple_of(2) {
            1000
        } else {
            2000 + u16::try_from(number % 61).unwrap()
        };
        Fact {
            id: MessageId { segment: 0xfeed, worker: 3, sequence: 7, offset: 64 + number * 100 },
            peer: SocketAddr::from(([127, 0, 0, 1], port)),
            received_unix_ns: 1_700_000_000_000_000_000 + number,
            payload: format!(
                "record {number} {}",
                "x".repeat(usize::try_from(number % 300).unwrap())
            )
            .into_bytes(),
        }
    };
    (0..count).map(fact).collect()
}

/// Returns the destination that tests use unless they say otherwise.
pub(crate) fn spec(servers: &[Server]) -> NatsSpec {
    NatsSpec {
        servers: servers.iter().map(Server::url).collect(),
        stream: "LOGS".to_owned(),
        subject: "logs.syslog".to_owned(),
        login: Login::Nobody,
        tls: false,
        root_certificates: None,
        client_certificate: None,
        sole_writer: false,
    }
}

/// A shipper's part: hands over in order, settles from the front, and sends again what is to be.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) carrier: Nats,
    facts: Vec<Fact>,
    /// The first record that is not settled, and the next one to hand over.
    pub(crate) settled: usize,
    next: usize,
    /// The ticket of the record `settled`.
    ticket: u64,
    fates: HashMap<usize, bool>,
    pub(crate) rejected: Vec<(usize, String)>,
    pub(crate) agains: Vec<String>,
}

impl Courier {
    pub(crate) fn new(spec: NatsSpec, facts: Vec<Fact>) -> Self {
        Self {
            carrier: Nats::new(spec),
            facts,
            settled: 0,
            next: 0,
            ticket: 1,
            fates: HashMap::new(),
            rejected: Vec::new(),
            agains: Vec::new(),
        }
    }

    /// Goes on as after a crash: with a new carrier, and with records that were settled sent again.
    pub(crate) fn crash(&mut self, spec: NatsSpec, back: usize) {
        self.carrier = Nats::new(spec);
        self.settled = self.settled.saturating_sub(back);
        self.begin();
    }

    fn begin(&mut self) {
        self.ticket += (self.next.saturating_sub(self.settled)) as u64;
        self.next = self.settled;
        self.fates.clear();
    }

    /// Takes one turn, as a shipper does. Handing over stops at `until`.
    pub(crate) fn turn(&mut self, until: usize) {
        const WINDOW: usize = 4000;
        while self.next < until.min(self.facts.len()) && self.next - self.settled < WINDOW {
            let fact = &self.facts[self.next];
            let ticket = self.ticket + (self.next - self.settled) as u64;
            let message = Message {
                ticket,
                id: fact.id,
                peer: fact.peer,
                listener: 5,
                received_unix_ns: fact.received_unix_ns,
                payload: &fact.payload,
            };
            match self.carrier.submit(&message) {
                Submitted::Taken => self.next += 1,
                Submitted::Full => break,
                Submitted::Refused(verdict) => panic!("refused at once: {verdict:?}"),
            }
        }
        let mut verdicts = Vec::new();
        self.carrier.poll(Duration::from_millis(10), &mut verdicts);
        let mut again = None;
        for (ticket, verdict) in verdicts {
            let place = self.settled + usize::try_from(ticket - self.ticket).unwrap();
            assert!(place < self.next, "a verdict on what was not handed over");
            match verdict {
                Verdict::Acknowledged => assert!(self.fates.insert(place, true).is_none()),
                Verdict::Rejected(reason) => {
                    assert!(self.fates.insert(place, false).is_none());
                    self.rejected.push((place, reason));
                }
                Verdict::Again(reason) => again = Some(reason),
            }
        }
        while self.fates.remove(&self.settled).is_some() {
            self.settled += 1;
            self.ticket += 1;
        }
        if let Some(reason) = again {
            self.agains.push(reason);
            self.carrier.reset();
            self.begin();
        }
    }

    /// Goes on until so many are settled.
    pub(crate) fn ship(&mut self, count: usize) {
        self.ship_while(count, |_| {});
    }

    /// Ships, and calls `beside` between turns.
    pub(crate) fn ship_while(&mut self, count: usize, mut beside: impl FnMut(&Self)) {
        let deadline = Instant::now() + PATIENCE;
        while self.settled < count {
            self.turn(usize::MAX);
            beside(self);
            assert!(
                Instant::now() < deadline,
                "hung at {} of {count}: {:?}, {:?}",
                self.settled,
                self.carrier.trouble(),
                self.agains.last()
            );
        }
    }

    /// Goes on until `done`; hands over so many at most.
    pub(crate) fn ship_until(&mut self, what: &str, most: usize, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            self.turn(most);
            assert!(Instant::now() < deadline, "hung: waited for {what}: {:?}", self.agains.last());
        }
    }

    /// Goes on until it is in trouble of this kind.
    pub(crate) fn await_trouble(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn(usize::MAX);
            let trouble = self.carrier.trouble();
            if trouble.as_ref().is_some_and(|trouble| trouble.contains(text)) {
                return;
            }
            assert!(Instant::now() < deadline, "no trouble with {text}: {trouble:?}");
        }
    }

    /// Checks that every record is there once, each peer's in order, as it was handed over, and nothing else.
    pub(crate) fn check(&self, stored: &[Stored]) {
        let by_id: HashMap<String, usize> = self
            .facts
            .iter()
            .enumerate()
            .map(|(place, fact)| (fact.id.to_string(), place))
            .collect();
        let mut seen = vec![false; self.facts.len()];
        let mut last: HashMap<SocketAddr, usize> = HashMap::new();
        for one in stored.iter().filter(|one| one.headers.contains_key("Nats-Msg-Id")) {
            let place = by_id[&one.headers["Nats-Msg-Id"]];
            let fact = &self.facts[place];
            assert!(!std::mem::replace(&mut seen[place], true), "{place} is stored twice");
            assert_eq!(one.payload, fact.payload);
            assert_eq!(one.headers["Ringest-Peer"], fact.peer.to_string());
            assert_eq!(one.headers["Ringest-Listener"], "5");
            let time = format!("2023-11-14T22:13:20.{:09}Z", fact.received_unix_ns % 1_000_000_000);
            assert_eq!(one.headers["Ringest-Time"], time);
            let before = last.insert(fact.peer, place);
            assert!(before.is_none_or(|before| before < place), "{before:?} comes before {place}");
        }
        for (place, seen) in seen.iter().enumerate().take(self.settled) {
            let is_rejected = self.rejected.iter().any(|(rejected, _)| *rejected == place);
            assert_ne!(*seen, is_rejected, "record {place}; {:?}", self.agains);
        }
    }
}

/// Returns how often each reason was given.
pub(crate) fn summary(agains: &[String]) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for reason in agains {
        *counts.entry(reason).or_default() += 1;
    }
    counts.iter().fold(String::new(), |mut text, (reason, count)| {
        let _ = writeln!(text, "{count} times: {reason}");
        text
    })
}
