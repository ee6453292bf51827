//! Stands in for Kafka in a program that was built without it.

use crate::carrier::Carrier;
use crate::kafka::spec::{KafkaSpec, Refused};

/// Returns the error that Kafka is not built in, and how to build with it.
///
/// # Errors
/// Always.
pub fn carrier(_: &KafkaSpec) -> Result<Box<dyn Carrier>, Refused> {
    Err(Refused::because(
        "this ringest was built without Kafka; build it with `cargo build --release --features kafka` \
         (Debian: apt-get install g++ make pkg-config libssl-dev), or keep the journal alone and ship it \
         later"
            .to_owned(),
    ))
}
