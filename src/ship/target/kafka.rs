//! A topic of Kafka, as `--sink` names it.

use std::fmt;
use std::str::FromStr;

use crate::target::host::is_host;

/// Longest name of a topic, characters, that brokers take.
const TOPIC_CHARS_MAX: usize = 249;

/// The variables that the message about a password names.
const USER: &str = "RINGEST_KAFKA_USER";
const PASSWORD: &str = "RINGEST_KAFKA_PASSWORD";

/// A topic of Kafka: `kafka:HOST:PORT[,HOST:PORT…]/TOPIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTarget {
    /// `HOST:PORT`, separated by commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
}

impl FromStr for KafkaTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected kafka:HOST:PORT/TOPIC, such as kafka:broker-1:9092,broker-2:9092/syslog"
                .to_owned()
        };
        if text.contains('@') {
            return Err(format!(
                "a name or a password here shows in the list of processes: put them into {USER} and \
                 {PASSWORD}"
            ));
        }
        let (brokers, topic) = text
            .strip_prefix("kafka:")
            .and_then(|target| target.rsplit_once('/'))
            .ok_or_else(expected)?;
        if !brokers.split(',').all(is_broker) {
            return Err(expected());
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let named = !topic.is_empty() && topic != "." && topic != ".." && topic.bytes().all(fits);
        if !named || topic.len() > TOPIC_CHARS_MAX {
            return Err(format!(
                "a topic's name is 1 to {TOPIC_CHARS_MAX} of the characters a-z, A-Z, 0-9, '.', '_', '-'"
            ));
        }
        Ok(Self { brokers: brokers.to_owned(), topic: topic.to_owned() })
    }
}

/// Returns whether this is `HOST:PORT`, `IP:PORT` or `[IP6]:PORT`.
fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    is_host(host)
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl fmt::Display for KafkaTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "kafka:{}/{}", self.brokers, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_brokers_and_a_topic() {
        for text in
            ["kafka:h:9092/t", "kafka:127.0.0.1:1,b-2.example:65535/a.b_C-9", "kafka:[::1]:9092/t"]
        {
            assert_eq!(text.parse::<KafkaTarget>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "h:9092/t",
            "kafka:",
            "kafka:h/t",
            "kafka:h:9092",
            "kafka:h:9092/",
            "kafka:h:0/t",
            "kafka:h:70000/t",
            "kafka:h:+1/t",
            "kafka::9092/t",
            "kafka:h:9092,/t",
            "kafka:[h]:9092/t",
            "kafka:h:9092/a/t",
            "kafka:u@h:9092/t",
            "kafka:h:9092/..",
            "kafka:h:9092/a b",
            &format!("kafka:h:9092/{}", "t".repeat(250)),
        ] {
            assert!(text.parse::<KafkaTarget>().is_err(), "{text}");
        }
    }
}
