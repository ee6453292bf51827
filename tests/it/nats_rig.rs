//! Real nats-servers, and a shipper's part towards the carrier.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringest::ship::carrier::{Carrier, Message, MessageId, Submitted, Verdict};
use ringest::ship::nats::{Login, Nats, NatsSpec};
use serde_json::{Value, json};

use super::support::until;

/// How long a broker may be away, choose a leader and so on, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The server to test with; another than the installed one may be named.
fn program() -> String {
    std::env::var("RINGEST_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned())
}

/// Whether there is a server here. Says why a test is skipped if not.
pub(crate) fn is_here() -> bool {
    let here = Command::new(program()).arg("--version").output();
    let here = here.is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: nats-server is not here; scripts/test installs it");
    }
    here
}

/// How often to break what is to be broken.
pub(crate) fn rounds(few: usize) -> usize {
    let given = std::env::var("RINGEST_BROKER_ROUNDS").ok();
    given.map_or(few, |rounds| rounds.parse().expect("RINGEST_BROKER_ROUNDS is a number"))
}

/// A directory that goes with the test.
#[derive(Debug)]
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("ringest-nats-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
    process: Option<Child>,
}

impl Server {
    fn new(place: &Place, name: &str, port: u16, more: &str) -> Self {
        let config = place.0.join(format!("{name}.conf"));
        let text = format!("server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n{more}\n");
        fs::write(&config, text).unwrap();
        let mut server = Self { config, port, process: None };
        server.start();
        server
    }

    /// One with JetStream, and `more` in its configuration.
    pub(crate) fn alone(place: &Place, more: &str) -> Self {
        let [port] = free_ports();
        let store = place.0.join("store");
        Self::new(place, "alone", port, &format!("jetstream {{ store_dir: {store:?} }}\n{more}"))
    }

    /// One as configured, without JetStream unless that is.
    pub(crate) fn plain(place: &Place, more: &str) -> Self {
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

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that replicate.
pub(crate) fn cluster(place: &Place) -> Vec<Server> {
    let ports = free_ports::<6>();
    let routes: Vec<_> =
        ports[3..].iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let server = |index: usize| {
        let (name, store) = (format!("n{index}"), place.0.join(format!("store{index}")));
        let more = format!(
            "jetstream {{ store_dir: {store:?} }}\ncluster {{ name: c, listen: \"127.0.0.1:{}\", \
             routes: [{}] }}",
            ports[3 + index],
            routes.join(", ")
        );
        Server::new(place, &name, ports[index], &more)
    };
    (0..3).map(server).collect()
}

/// What is to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) id: MessageId,
    pub(crate) peer: SocketAddr,
    pub(crate) received_unix_ns: u64,
    pub(crate) payload: Vec<u8>,
}

/// Numbered records of a few peers, one of which sends half of all.
pub(crate) fn facts(count: u64) -> Vec<Fact> {
    let fact = |number: u64| {
        let port = if number.is_multiple_of(2) {
            1000
        } else {
            2000 + u16::try_from(number % 61).unwrap()
        };
        Fact {
            id: MessageId { salt: 0xfeed, worker: 3, sequence: 7, offset: 64 + number * 100 },
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

/// Where to send to, unless a test says otherwise.
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

    /// As after a crash: a new carrier, and records that were settled are sent again.
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

    /// One turn, as a shipper makes it. Handing over stops at `until`.
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

    /// The same, and something beside it.
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

    /// Every record once, each peer's in order, as it was handed over; nothing else.
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

/// A message of a stream.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) headers: HashMap<String, String>,
    pub(crate) payload: Vec<u8>,
}

/// A client of our own, which knows only the protocol: what the carrier's client made is not read by it.
#[derive(Debug)]
pub(crate) struct Probe {
    from: BufReader<TcpStream>,
    to: TcpStream,
    user: &'static str,
    inbox: String,
}

impl Probe {
    pub(crate) fn new(server: &Server) -> Self {
        Self::with_user(server, "")
    }

    /// One that logs in; its password is its name.
    pub(crate) fn with_user(server: &Server, user: &'static str) -> Self {
        Self::try_new(server.address(), user).expect("a server that listens")
    }

    fn try_new(address: SocketAddr, user: &'static str) -> std::io::Result<Self> {
        let to = TcpStream::connect(address)?;
        to.set_read_timeout(Some(Duration::from_secs(5)))?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let inbox = format!("in{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut probe = Self { from: BufReader::new(to.try_clone()?), to, user, inbox };
        let options = json!({
            "verbose": false, "headers": true, "no_responders": true, "user": user, "pass": user,
        });
        let hello = format!("CONNECT {options}\r\nSUB {}.> 1\r\n", probe.inbox);
        probe.to.write_all(hello.as_bytes())?;
        Ok(probe)
    }

    pub(crate) fn publish(
        &mut self,
        subject: &str,
        reply: &str,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.to.write_all(&bytes)
    }

    /// Waits until the server has read all that was written.
    pub(crate) fn flush(&mut self) {
        self.request("INFO", &json!({}));
    }

    /// The next message.
    fn next(&mut self) -> std::io::Result<(String, Stored)> {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let words: Vec<_> = line.split_whitespace().collect();
            let number = |back: usize| words[words.len() - back].parse::<usize>().unwrap();
            let (header_bytes, bytes) = match words.first() {
                Some(&"MSG") => (0, number(1)),
                Some(&"HMSG") => (number(2), number(1)),
                Some(&"PING") => {
                    self.to.write_all(b"PONG\r\n")?;
                    continue;
                }
                _ => continue,
            };
            let mut body = vec![0; bytes + 2];
            self.from.read_exact(&mut body)?;
            let head = String::from_utf8(body[..header_bytes].to_vec()).unwrap();
            let mut headers: HashMap<_, _> = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let status = head.strip_prefix("NATS/1.0 ").and_then(|rest| rest.get(..3));
            headers.extend(status.map(|status| ("Status".to_owned(), status.to_owned())));
            let payload = body[header_bytes..bytes].to_vec();
            return Ok((words[1].to_owned(), Stored { headers, payload }));
        }
    }

    fn ask(&mut self, what: &str, body: &Value) -> std::io::Result<Value> {
        let text = body.to_string();
        let reply = format!("{}.api", self.inbox);
        self.publish(&format!("$JS.API.{what}"), &reply, text.as_bytes())?;
        loop {
            let (subject, message) = self.next()?;
            if subject == format!("{}.api", self.inbox) {
                return Ok(serde_json::from_slice(&message.payload).unwrap_or(Value::Null));
            }
        }
    }

    /// Asks JetStream until it can do it.
    pub(crate) fn request(&mut self, what: &str, body: &Value) -> Value {
        let address = self.to.peer_addr().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask(what, body) {
                Ok(answer) if answer.is_object() && answer["error"]["code"] != 503 => {
                    return answer;
                }
                Ok(_) => {}
                Err(_) => {
                    if let Ok(again) = Self::try_new(address, self.user) {
                        *self = again;
                    }
                }
            }
            assert!(Instant::now() < deadline, "hung: JetStream does not do {what}");
            std::thread::yield_now();
        }
    }

    /// Makes the stream that tests send to.
    pub(crate) fn make_stream(&mut self, replicas: usize, more: &Value) {
        let mut config = json!({
            "name": "LOGS", "subjects": ["logs.>"], "storage": "file", "num_replicas": replicas,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.request("STREAM.CREATE.LOGS", &config);
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// The name of the server that leads the stream.
    pub(crate) fn leader(&mut self) -> Option<String> {
        let answer = self.ask("STREAM.INFO.LOGS", &json!({})).ok()?;
        answer["cluster"]["leader"].as_str().map(str::to_owned)
    }

    /// All that the stream has, in order.
    pub(crate) fn contents(&mut self) -> Vec<Stored> {
        let info = self.request("STREAM.INFO.LOGS", &json!({}));
        let (count, last) =
            (info["state"]["messages"].as_u64(), info["state"]["last_seq"].as_u64());
        assert!(count.is_some() && count == last, "nothing was removed: {info}");
        let config = json!({"stream_name": "LOGS", "config": {
            "ack_policy": "none", "deliver_policy": "all", "replay_policy": "instant",
        }});
        let answer = self.request("CONSUMER.CREATE.LOGS", &config);
        let next = format!(
            "$JS.API.CONSUMER.MSG.NEXT.LOGS.{}",
            answer["name"].as_str().unwrap_or_else(|| panic!("{answer}"))
        );
        let (mut all, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while Some(all.len() as u64) < count {
            assert!(Instant::now() < deadline, "hung behind {} of {count:?}", all.len());
            let (inbox, before) = (self.inbox.clone(), all.len());
            self.publish(
                &next,
                &format!("{inbox}.contents"),
                br#"{"batch":1000,"expires":1000000000}"#,
            )
            .unwrap();
            // They keep the subject that they were published to; a status ends what was asked for.
            while all.len() < before + 1000 && Some(all.len() as u64) < count {
                let (subject, message) = self.next().unwrap();
                if message.headers.contains_key("Status") {
                    break;
                } else if subject.starts_with("logs.") {
                    all.push(message);
                }
            }
        }
        all
    }
}

/// How often which reason was given.
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
