//! The table of brokers by name, and one target of any kind. `--sink` and its help read the table.

use std::fmt;
use std::str::FromStr;

use crate::target::kafka::KafkaTarget;
use crate::target::nats::NatsTarget;
use ringest_records::sink::kinds::SinkKind;

/// The sinks of this crate: a journal is shipped to them. They have names in each build, whether their clients
/// are built in or not.
pub const KINDS: &[SinkKind] = &[
    SinkKind {
        name: "kafka",
        form: "kafka:BROKERS/TOPIC",
        help: "gets them from a journal or --spool DIR",
        parse: |argument| argument.parse::<KafkaTarget>().map(drop).map_err(Some),
    },
    SinkKind {
        name: "nats",
        form: "nats:URL/STREAM/SUBJECT",
        help: "gets them from a journal or --spool DIR",
        parse: |argument| argument.parse::<NatsTarget>().map(drop).map_err(Some),
    },
];

/// A broker's stream or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A topic of Kafka.
    Kafka(KafkaTarget),
    /// A stream and a subject of NATS JetStream.
    Nats(NatsTarget),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(argument: &str) -> Result<Self, String> {
        match argument.split(':').next() {
            Some("kafka") => argument.parse().map(Self::Kafka),
            _ => argument.parse().map(Self::Nats),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(target) => target.fmt(out),
            Self::Nats(target) => target.fmt(out),
        }
    }
}
