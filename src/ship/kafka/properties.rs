//! Builds the producer's configuration: our defaults, then the user's properties, then those that are
//! fixed.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use crate::kafka::spec::{KafkaSpec, Login, Property, Refused};

/// Properties with two names: librdkafka's alias, and the name used here. librdkafka would take whichever
/// comes last.
const ALIASES: [(&str, &str); 8] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("max.in.flight.requests.per.connection", "max.in.flight"),
    ("compression.type", "compression.codec"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("sasl.mechanisms", "sasl.mechanism"),
];

/// Our defaults, which the user may change. All others are librdkafka's.
const DEFAULTS: [(&str, &str); 12] = [
    ("client.id", "ringest"),
    ("enable.idempotence", "true"),
    ("compression.codec", "lz4"),
    ("linger.ms", "5"),
    // The choice of the Java clients, so that consumers that join by key find a peer in the expected
    // partition.
    ("partitioner", "murmur2_random"),
    // Larger than a shipper's window, which is what bounds memory. librdkafka's own default is 1 GiB.
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "131072"),
    // Reconnect soon after a broker is back; librdkafka's default is 10 s.
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.keepalive.enable", "true"),
    // A server that does not answer TLS is reported after this time; librdkafka's default is 30 s.
    ("socket.connection.setup.timeout.ms", "10000"),
    // How long a missing topic may still appear before its records are handed back. They are sent again
    // then, so this only decides when the operator is told; librdkafka's default is 30 s.
    ("topic.metadata.propagation.max.ms", "2000"),
    // librdkafka's own default is GSSAPI, which is not built in.
    ("sasl.mechanism", "PLAIN"),
];

/// Properties that are fixed, and the reason.
const FIXED: [(&str, &str, &str); 10] = [
    ("acks", "all", "a record counts as delivered once every replica in sync has it"),
    ("message.timeout.ms", "0", "records wait in the journal for as long as it takes"),
    ("retries", "2147483647", "records wait in the journal for as long as it takes"),
    ("allow.auto.create.topics", "false", "a wrong name must not become a topic"),
    (
        "delivery.report.only.error",
        "false",
        "each record's acknowledgement moves the journal's cursor",
    ),
    ("log.queue", "true", "librdkafka must not print"),
    ("bootstrap.servers", "", "the brokers are named in --sink kafka:BROKERS/TOPIC"),
    ("transactional.id", "", "records are sent outside of transactions"),
    ("enable.gapless.guarantee", "", "it follows enable.idempotence"),
    ("plugin.library.paths", "", "no foreign code is loaded"),
];

/// Partitioners that keep all records of one key, and so of one peer, in one partition.
const PARTITIONERS: [&str; 6] =
    ["consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"];

/// Returns whether a property's value may be a secret, which must not appear in messages.
fn is_secret(key: &str) -> bool {
    ["password", "secret", "pem", "oauthbearer"].iter().any(|part| key.contains(part))
}

fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(theirs, _)| *theirs == key).map_or(key, |(_, ours)| ours)
}

/// Builds the producer's configuration.
pub(crate) fn config(spec: &KafkaSpec) -> Result<ClientConfig, Refused> {
    let mut config = ClientConfig::new();
    // [`DeliveryEvents`](crate::kafka::delivery_events) filters the log lines.
    config.set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in DEFAULTS {
        config.set(key, value);
    }
    let mut given = Vec::new();
    for (place, property) in spec.properties.iter().enumerate() {
        let key = canonical(&property.key);
        allowed(key, property).map_err(|reason| Refused { property: Some(place), reason })?;
        config.set(key, &property.value);
        given.push(key);
    }
    if let Some(Login { user, password }) = &spec.login {
        config.set("sasl.username", user).set("sasl.password", password);
        if !given.contains(&"security.protocol") {
            // A password is not sent in the clear by default.
            config.set("security.protocol", "sasl_ssl");
        }
    }
    for (key, value, _) in FIXED {
        if !value.is_empty() {
            config.set(key, value);
        }
    }
    config.set("bootstrap.servers", &spec.brokers);
    if is_on(&config, "enable.idempotence") {
        // A record that fails for good stops the producer, so that none behind it overtakes it before it is
        // sent again.
        config.set("enable.gapless.guarantee", "true");
    } else if !given.contains(&"max.in.flight") {
        // A batch that is sent again must not come behind the next one.
        config.set("max.in.flight", "1");
    }
    Ok(config)
}

/// Checks whether the user may set a property to this value.
fn allowed(key: &str, property: &Property) -> Result<(), String> {
    let name = &property.key;
    if let Some((_, _, why)) = FIXED.iter().find(|(ours, _, _)| *ours == key) {
        return Err(format!("{name} cannot be set: {why}"));
    }
    if key == "partitioner" && !PARTITIONERS.contains(&property.value.as_str()) {
        return Err(format!(
            "{name} must keep a peer's records together: {}",
            PARTITIONERS.join(", ")
        ));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, &property.value);
    match alone.create_native_config() {
        Ok(_) => Ok(()),
        Err(_) if is_secret(name) => Err(format!("librdkafka does not take this value of {name}")),
        // The text names the property, sometimes by its alias.
        Err(KafkaError::ClientConfig(_, why, ..)) => Err(format!("{name}: {why}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the value that librdkafka uses for a property, or `None` if the configuration is invalid.
pub(crate) fn effective(config: &ClientConfig, key: &str) -> Option<String> {
    config.create_native_config().ok()?.get(key).ok()
}

fn is_on(config: &ClientConfig, key: &str) -> bool {
    effective(config, key).as_deref() == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(properties: &[(&str, &str)]) -> KafkaSpec {
        let property = |(key, value): &(&str, &str)| Property {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        KafkaSpec {
            brokers: "127.0.0.1:9092".to_owned(),
            topic: "t".to_owned(),
            properties: properties.iter().map(property).collect(),
            login: None,
        }
    }

    fn of(properties: &[(&str, &str)], key: &str) -> Option<String> {
        effective(&config(&spec(properties)).unwrap(), key)
    }

    #[test]
    fn all_that_must_hold_holds_whatever_is_set() {
        for (key, value) in [
            ("acks", "-1"),
            ("enable.idempotence", "true"),
            ("enable.gapless.guarantee", "true"),
            ("message.timeout.ms", "0"),
            ("allow.auto.create.topics", "false"),
            ("bootstrap.servers", "127.0.0.1:9092"),
        ] {
            assert_eq!(of(&[("linger.ms", "7")], key).as_deref(), Some(value), "{key}");
        }
        for (ours, _, why) in FIXED {
            let names = ALIASES.iter().filter(|(_, to)| *to == ours).map(|(theirs, _)| *theirs);
            for name in names.chain([ours]) {
                let refused = config(&spec(&[("linger.ms", "7"), (name, "1")])).unwrap_err();
                assert_eq!(refused.property, Some(1));
                assert!(refused.reason.contains(why) && refused.reason.contains(name));
            }
        }
    }

    #[test]
    fn the_users_properties_come_before_our_defaults_by_either_name() {
        assert_eq!(of(&[], "compression.codec").as_deref(), Some("lz4"));
        assert_eq!(
            of(&[("compression.type", "zstd")], "compression.codec").as_deref(),
            Some("zstd")
        );
        assert_eq!(of(&[("queue.buffering.max.ms", "1")], "linger.ms").as_deref(), Some("1"));
    }

    #[test]
    fn without_idempotence_one_request_is_in_flight_unless_said_otherwise() {
        let off = ("enable.idempotence", "false");
        assert_eq!(of(&[off], "max.in.flight").as_deref(), Some("1"));
        assert_eq!(of(&[off], "enable.gapless.guarantee").as_deref(), Some("false"));
        let four = ("max.in.flight.requests.per.connection", "4");
        assert_eq!(of(&[off, four], "max.in.flight").as_deref(), Some("4"));
        assert_eq!(of(&[four], "max.in.flight").as_deref(), Some("4"));
    }

    #[test]
    fn a_password_goes_over_tls_unless_said_otherwise_and_is_never_shown() {
        let login = Login { user: "u".to_owned(), password: "hunter2".to_owned() };
        let with = |properties: &[(&str, &str)]| KafkaSpec {
            login: Some(login.clone()),
            ..spec(properties)
        };
        let made = config(&with(&[])).unwrap();
        assert_eq!(effective(&made, "security.protocol").as_deref(), Some("sasl_ssl"));
        assert_eq!(effective(&made, "sasl.mechanism").as_deref(), Some("PLAIN"));
        assert_eq!(effective(&made, "sasl.password").as_deref(), Some("hunter2"));
        let plain = config(&with(&[("security.protocol", "sasl_plaintext")])).unwrap();
        assert_eq!(effective(&plain, "security.protocol").as_deref(), Some("sasl_plaintext"));
        let shown = format!("{:?} {:?}", with(&[("sasl.password", "hunter2")]), made);
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_librdkafka_does_not_know_is_said_in_its_words() {
        let refused = |key, value| config(&spec(&[(key, value)])).unwrap_err().reason;
        assert!(
            refused("no.such", "1")
                .contains("no.such: No such configuration property: \"no.such\"")
        );
        assert!(refused("linger.ms", "soon").contains("linger.ms"));
        assert!(refused("partitioner", "random").contains("murmur2"));
        let secret = refused("ssl.key.pem", "hunter2\0");
        assert!(secret.contains("ssl.key.pem") && !secret.contains("hunter2"), "{secret}");
    }
}
