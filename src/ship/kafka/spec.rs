//! Which topic to write to, at which brokers, with which properties.

use std::fmt::{self, Debug};

/// Topic, brokers, properties and login of a Kafka destination.
#[derive(Clone, Debug)]
pub struct KafkaSpec {
    /// `HOST:PORT`, several with commas between: any of the cluster's brokers will do.
    pub brokers: String,
    /// The topic; it is never created.
    pub topic: String,
    /// Properties of librdkafka, as its CONFIGURATION.md describes them.
    pub properties: Vec<Property>,
    /// User and password (SASL), if any.
    pub login: Option<Login>,
}

/// One property of librdkafka. Its value may be a secret, and is never shown.
#[derive(Clone)]
pub struct Property {
    /// Such as `compression.codec`.
    pub key: String,
    /// Its value, as text.
    pub value: String,
}

impl Debug for Property {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}=…", self.key)
    }
}

/// A name and its password, which is never shown.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:…", self.user)
    }
}

/// Why a [`KafkaSpec`] is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Index of the [property](KafkaSpec::properties) at fault, if it is a single one.
    pub property: Option<usize>,
    /// The reason, without values that may be secret.
    pub reason: String,
}

impl Refused {
    pub(crate) fn because(reason: String) -> Self {
        Self { property: None, reason }
    }
}
