//! A client of NATS of our own: it asks a server what its stream has.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ship::nats_rig::{PATIENCE, Server};

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

    /// Connects and logs in; the password is the name.
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

    /// Returns the next message.
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

    /// Tells whether the stream stores a message to a subject, within the time that an answer is waited for.
    pub(crate) fn stores(&mut self, subject: &str) -> bool {
        let reply = format!("{}.stored", self.inbox);
        let answer = self.publish(subject, &reply, b"probe").and_then(|()| self.next());
        answer.is_ok_and(|(_, message)| message.payload.starts_with(b"{\"stream\""))
    }

    /// Asks JetStream until it can do it.
    pub(crate) fn request(&mut self, what: &str, body: &Value) -> Value {
        let address = self.to.peer_addr().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // 10005: of the peers that a fresh cluster knows by now, too few can take it.
            let later = |answer: &Value| {
                answer["error"]["code"] == 503 || answer["error"]["err_code"] == 10005
            };
            match self.ask(what, body) {
                Ok(answer) if answer.is_object() && !later(&answer) => return answer,
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

    /// Returns the name of the server that leads the stream.
    pub(crate) fn leader(&mut self) -> Option<String> {
        let answer = self.ask("STREAM.INFO.LOGS", &json!({})).ok()?;
        answer["cluster"]["leader"].as_str().map(str::to_owned)
    }

    /// Returns the sequence of the last message of the stream, once it has a leader and no server is said to
    /// be behind.
    fn last_sequence(&mut self) -> Option<u64> {
        let answer = self.ask("STREAM.INFO.LOGS", &json!({})).ok()?;
        let is_current = |one: &Value| one["current"] == true && one["offline"] != true;
        let replicas = answer["cluster"]["replicas"].as_array()?;
        let is_led = answer["cluster"]["leader"].is_string();
        (is_led && replicas.iter().all(is_current)).then(|| answer["state"]["last_seq"].as_u64())?
    }

    /// Returns how many messages the stream has, or `None` if no server says so now.
    pub(crate) fn count(&mut self) -> Option<u64> {
        let answer = self.ask("STREAM.INFO.LOGS", &json!({})).ok()?;
        answer["state"]["messages"].as_u64()
    }

    /// Returns all that the stream has, in order.
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
            // They keep the subject that they were published to; a status ends what was asked for. Asked
            // before the consumer has a leader, nobody answers.
            while all.len() < before + 1000 && Some(all.len() as u64) < count {
                let Ok((subject, message)) = self.next() else { break };
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

/// Tells whether each of the servers has all that the stream has. The leader's word is not enough: it calls a
/// server current that is still being sent what it missed.
pub(crate) fn are_whole(servers: &[Server]) -> bool {
    let Some(last) = Probe::new(&servers[0]).last_sequence() else { return false };
    servers.iter().all(|server| server.last_sequence().is_some_and(|own| own >= last))
}
