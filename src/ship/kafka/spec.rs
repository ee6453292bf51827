//! Which topic to write to, at which brokers, with which properties.

use std::fmt::{self, Debug};

/// Where records go, and how.
#[derive(Clone, Debug)]
pub struct KafkaSpec {
    /// `HOST:PORT`, several with commas between: any of the cluster's brokers will do.
    pub brokers: String,
    /// The topic; it is never created.
    pub topic: String,
    /// Properties of librdkafka, as its CONFIGURATION.md describes them.
    pub properties: Vec<Property>,
    /// Who to log in as (SASL).
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

/// Why no producer can be had from a [`KafkaSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Which of the [properties](KafkaSpec::properties) is at fault, where it is one alone.
    pub property: Option<usize>,
    /// What is wrong, without any value that may be a secret.
    pub reason: String,
}

impl Refused {
    pub(crate) fn because(reason: String) -> Self {
        Self { property: None, reason }
    }
}
