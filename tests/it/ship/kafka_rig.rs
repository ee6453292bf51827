//! Tools for the tests of Kafka: numbered records, a loop that treats a carrier as the shipper does, and a
//! reader of all records in a topic.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _, Timestamp};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use ringest_ship::carrier::{Carrier, Message, MessageId, Submitted, Verdict};
use ringest_ship::kafka::{Kafka, KafkaSpec, Property};

use crate::rigs::support::DEADLINE;

/// Records under way at most, as a shipper would have it.
pub(crate) const WINDOW: usize = 512;

/// The topic of most tests.
pub(crate) const TOPIC: &str = "records";

/// librdkafka's cluster in this process.
pub(crate) struct Mock {
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Mock {
    /// Starts three brokers and makes the topic with this many partitions, or no topic for 0.
    pub(crate) fn new(partitions: i32) -> Self {
        let cluster = MockCluster::new(3).unwrap();
        if partitions > 0 {
            cluster.create_topic(TOPIC, partitions, 3).unwrap();
        }
        Self { cluster }
    }

    pub(crate) fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    pub(crate) fn carrier(&self, properties: &[(&str, &str)]) -> Kafka {
        Kafka::new(&spec(&self.brokers(), TOPIC, properties)).unwrap()
    }
}

pub(crate) fn spec(brokers: &str, topic: &str, properties: &[(&str, &str)]) -> KafkaSpec {
    let property = |(key, value): &(&str, &str)| Property {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    KafkaSpec {
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        properties: properties.iter().map(property).collect(),
        login: None,
    }
}

/// A record to send.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: MessageId,
    pub(crate) peer: SocketAddr,
    pub(crate) received_unix_ns: u64,
    pub(crate) payload: Vec<u8>,
}

/// Returns `count` records of `peers` peers in turn; a payload is `PEER NUMBER`, padded to `size`.
pub(crate) fn records(peers: u16, count: usize, size: usize) -> Vec<Sent> {
    let record = |number: usize| {
        let port = 1000 + u16::try_from(number % usize::from(peers)).unwrap();
        let peer = SocketAddr::from(([192, 0, 2, 7], port));
        let mut payload = format!("{peer} {number} ").into_bytes();
        payload.resize(payload.len().max(size), b'.');
        Sent {
            id: MessageId {
                segment: 0xfeed,
                worker: 1,
                sequence: 3,
                offset: 64 + number as u64 * 100,
            },
            peer,
            received_unix_ns: 1_700_000_000_123_456_789 + number as u64 * 1_000_003,
            payload,
        }
    };
    (0..count).map(record).collect()
}

/// Sends records through a carrier, as a shipper does: a window, in order, settled from the front; sent
/// again from there when the carrier asks for it.
pub(crate) struct Drive<'a> {
    pub(crate) carrier: Box<dyn Carrier>,
    sent: &'a [Sent],
    /// How many in front are settled.
    pub(crate) settled: usize,
    window: Vec<Option<Option<String>>>,
    first_ticket: u64,
    /// Which the broker will never take, and why.
    pub(crate) rejected: BTreeMap<usize, String>,
    /// Why all was sent again, each time.
    pub(crate) again: Vec<String>,
    /// Records sent again in all.
    pub(crate) repeated: usize,
}

impl std::fmt::Debug for Drive<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { carrier, settled, rejected, again, repeated, .. } = self;
        let under_way = self.window.len();
        write!(
            out,
            "{settled} settled, {under_way} under way, {repeated} repeated, again {again:?}, \
             rejected {rejected:?}, {carrier:?}"
        )
    }
}

impl<'a> Drive<'a> {
    pub(crate) fn new(carrier: impl Carrier + 'static, sent: &'a [Sent]) -> Self {
        Self::with(Box::new(carrier), sent)
    }

    pub(crate) fn with(carrier: Box<dyn Carrier>, sent: &'a [Sent]) -> Self {
        Self {
            carrier,
            sent,
            settled: 0,
            window: Vec::new(),
            first_ticket: 1,
            rejected: BTreeMap::new(),
            again: Vec::new(),
            repeated: 0,
        }
    }

    /// Takes one turn: fills the window up to `limit` records in all, and takes verdicts.
    pub(crate) fn turn(&mut self, limit: usize) {
        let mut again = self.fill(limit.min(self.sent.len()));
        let mut verdicts = Vec::new();
        self.carrier.poll(Duration::from_millis(10), &mut verdicts);
        for (ticket, verdict) in verdicts {
            let Some(place) = ticket.checked_sub(self.first_ticket) else { continue };
            let Some(fate) = self.window.get_mut(usize::try_from(place).unwrap()) else { continue };
            match verdict {
                Verdict::Acknowledged => *fate = Some(None),
                Verdict::Rejected(reason) => *fate = Some(Some(reason)),
                Verdict::Again(reason) => again = again.or(Some(reason)),
            }
        }
        let front = self.window.iter().take_while(|fate| fate.is_some()).count();
        for (place, fate) in self.window.drain(..front).enumerate() {
            if let Some(Some(reason)) = fate {
                self.rejected.insert(self.settled + place, reason);
            }
        }
        self.settled += front;
        self.first_ticket += front as u64;
        if let Some(reason) = again {
            self.carrier.reset();
            self.first_ticket += self.window.len() as u64;
            self.repeated += self.window.len();
            self.window.clear();
            self.again.push(reason);
        }
    }

    fn fill(&mut self, limit: usize) -> Option<String> {
        while self.window.len() < WINDOW && self.settled + self.window.len() < limit {
            let sent = &self.sent[self.settled + self.window.len()];
            let message = Message {
                ticket: self.first_ticket + self.window.len() as u64,
                id: sent.id,
                peer: sent.peer,
                listener: 2,
                received_unix_ns: sent.received_unix_ns,
                payload: &sent.payload,
            };
            match self.carrier.submit(&message) {
                Submitted::Taken => self.window.push(None),
                Submitted::Full => break,
                Submitted::Refused(Verdict::Acknowledged) => self.window.push(Some(None)),
                Submitted::Refused(Verdict::Rejected(reason)) => {
                    self.window.push(Some(Some(reason)));
                }
                Submitted::Refused(Verdict::Again(reason)) => return Some(reason),
            }
        }
        None
    }

    /// Turns until `done`, of the first `limit` records.
    pub(crate) fn until(&mut self, what: &str, limit: usize, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < deadline, "hung: waited for {what}: {self:?}");
            self.turn(limit);
        }
    }

    /// Takes turns until this many records are settled.
    pub(crate) fn settle(&mut self, count: usize) {
        self.until("records to be settled", count, |drive| drive.settled >= count);
    }

    /// Takes turns until the carrier reports a trouble that contains `part`; returns it.
    pub(crate) fn trouble(&mut self, part: &str) -> String {
        let mut text = String::new();
        self.until(part, self.sent.len(), |drive| {
            text = drive.carrier.trouble().unwrap_or_default();
            text.contains(part)
        });
        text
    }
}

/// A record as it is in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) partition: i32,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) unix_ms: i64,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Kept {
    pub(crate) fn id(&self) -> String {
        let (_, id) = self.headers.iter().find(|(key, _)| key == "ringest-id").unwrap();
        String::from_utf8(id.clone()).unwrap()
    }
}

/// Reads a topic from its beginning until it holds all of `ids`, and to its end.
pub(crate) fn read_all(brokers: &str, topic: &str, ids: &HashSet<String>) -> Vec<Kept> {
    read_with(&[("bootstrap.servers", brokers)], topic, ids)
}

/// Returns how many records a topic has, by the offset that its broker names as its end.
pub(crate) fn records_at(brokers: &str, topic: &str) -> i64 {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let end = |partition: &rdkafka::metadata::MetadataPartition| {
        consumer.fetch_watermarks(topic, partition.id(), DEADLINE).unwrap().1
    };
    partitions.iter().map(end).sum()
}

/// Reads a topic to its end.
pub(crate) fn read_to_end(brokers: &str, topic: &str) -> Vec<Kept> {
    read_all(brokers, topic, &HashSet::new())
}

/// Reads as [`read_all`] does, with the properties that a login needs.
pub(crate) fn read_with(
    properties: &[(&str, &str)],
    topic: &str,
    ids: &HashSet<String>,
) -> Vec<Kept> {
    let mut config: ClientConfig =
        properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let consumer: BaseConsumer = config
        .set("group.id", "readers")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap() {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut kept, mut missing, mut ended) = (Vec::new(), ids.clone(), HashSet::new());
    let deadline = Instant::now() + DEADLINE;
    while !missing.is_empty() || ended.len() < partitions {
        assert!(
            Instant::now() < deadline,
            "hung: {} records are not there: {missing:.200?}",
            missing.len()
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                ended.remove(&message.partition());
                let headers = message.headers().map_or_else(Vec::new, |headers| {
                    let header = |header: rdkafka::message::Header<'_, &[u8]>| {
                        (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
                    };
                    headers.iter().map(header).collect()
                });
                let Timestamp::CreateTime(unix_ms) = message.timestamp() else {
                    panic!("no time of its own: {:?}", message.timestamp())
                };
                let one = Kept {
                    partition: message.partition(),
                    key: message.key().unwrap_or_default().to_vec(),
                    payload: message.payload().map(<[u8]>::to_vec),
                    unix_ms,
                    headers,
                };
                missing.remove(&one.id());
                kept.push(one);
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(_)) | None => {}
        }
    }
    kept
}

pub(crate) fn ids<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> HashSet<String> {
    sent.into_iter().map(|sent| sent.id.to_string()).collect()
}

/// Checks a topic: all of `sent` is there unchanged, each peer's records are in one partition, and their
/// first copies are in order. Returns the number of further copies.
pub(crate) fn check(kept: &[Kept], sent: &[&Sent]) -> usize {
    let by_id: HashMap<String, (usize, &Sent)> = sent
        .iter()
        .enumerate()
        .map(|(place, sent)| (sent.id.to_string(), (place, *sent)))
        .collect();
    let mut last: HashMap<SocketAddr, (i32, usize)> = HashMap::new();
    let (mut seen, mut repeats) = (HashSet::new(), 0);
    for one in kept {
        let (place, sent) = by_id.get(&one.id()).expect("nothing that was not sent");
        assert_eq!(one.key, sent.peer.to_string().as_bytes());
        assert_eq!(one.payload.as_deref(), Some(&sent.payload[..]), "{place}");
        assert_eq!(one.unix_ms.cast_unsigned(), sent.received_unix_ns / 1_000_000);
        let names: Vec<&str> = one.headers.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["ringest-id", "ringest-time", "ringest-listener"]);
        assert_eq!(one.headers[2].1, b"2");
        let (partition, before) = *last.entry(sent.peer).or_insert((one.partition, *place));
        assert_eq!(one.partition, partition, "a peer is one partition");
        if seen.insert(one.id()) {
            assert!(before <= *place, "{place} of {} came after {before}", sent.peer);
            last.insert(sent.peer, (partition, *place));
        } else {
            repeats += 1;
        }
    }
    assert_eq!(seen.len(), sent.len(), "all of them");
    repeats
}
