//! Stands in for NATS in a program that was built without it.

use crate::carrier::Carrier;
use crate::nats::spec::NatsSpec;

/// Returns the error that NATS is not built in, and how to build with it.
///
/// # Errors
/// Always.
pub fn carrier(_: NatsSpec) -> Result<Box<dyn Carrier>, String> {
    Err("this ringest was built without NATS; build it with `cargo build --release --features nats`, or \
         keep the journal alone and ship it later"
        .to_owned())
}
