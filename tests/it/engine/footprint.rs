//! Memory is decided at start and stays there.

use std::net::{Ipv4Addr, SocketAddr};

use ringest::{Batch, Overload, Replies};
use ringest_load::spec::Payload;

use crate::rigs::child::Child;
use crate::rigs::support::{BACKENDS, Load, boxed, consistent, gso, load_spec, small, stop, until};

/// Slack for what is not the engine's: the C library's and the test harness's own.
const SLACK_BYTES: u64 = 1 << 20;

#[test]
fn memory_in_use_stays_flat_over_a_run_at_overload() {
    for overload in ["wait", "drop"] {
        Child::new("engine::footprint::child_at_overload").env("OVERLOAD", &overload).pass();
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_at_overload() {
    let overload = match std::env::var("OVERLOAD").unwrap().as_str() {
        "drop" => Overload::Drop,
        _ => Overload::Wait,
    };
    for backend in BACKENDS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // Echoing costs more than sending, so the engine falls behind.
        let echo = |batch: &Batch, replies: &mut Replies| {
            for datagram in batch {
                replies.send(&datagram, datagram.payload());
            }
        };
        let engine = small(backend)
            .listen(address)
            .overload(overload)
            .queue_batches(2)
            .rcvbuf_bytes(256 << 10)
            .start(boxed(|_| echo))
            .unwrap();
        let mut spec = load_spec(engine.addresses()[0]);
        (spec.gso, spec.flows, spec.payload) = (gso(32), 4, Payload::Zero);
        let load = Load::start(&spec);
        until("the warm-up", || engine.stats().ledger.handled >= 50_000);
        let before = engine.stats();
        until("the run", || engine.stats().ledger.handled >= before.ledger.handled + 300_000);
        let after = engine.stats();
        println!("{backend:?}, {overload:?}: {} then {}", before.rss_bytes, after.rss_bytes);
        assert!(after.rss_bytes <= before.rss_bytes + SLACK_BYTES, "{before:#?}\n{after:#?}");
        let summary = stop(engine);
        load.finish();
        consistent(&summary);
        let lost = summary.ledger.dropped.kernel + summary.ledger.dropped.after_receive();
        assert!(lost > 0, "this was to be an overload: {summary:#?}");
    }
}
