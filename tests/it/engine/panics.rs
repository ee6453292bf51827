//! A handler that panics ends the engine with its message, on a worker and on a receiver.

use std::net::{Ipv4Addr, SocketAddr};

use ringest::{BackendChoice, Batch, Engine, Error, Replies};

use crate::rigs::child::Child;
use crate::rigs::support::{
    BACKENDS, DEADLINE, Ground, boxed, grounds, load_spec, send_load, small,
};

/// Starts an engine whose handlers panic at their second batch.
fn fragile(backend: BackendChoice, address: SocketAddr, workers: usize) -> Engine {
    let handler = |_| {
        let mut batches = 0;
        move |batch: &Batch, _: &mut Replies| {
            batches += 1;
            assert!(batches < 2, "deliberate, of {} datagrams", batch.len());
        }
    };
    small(backend).listen(address).workers(workers).start(boxed(handler)).unwrap()
}

/// Sends until the engine has ended.
fn provoke(engine: &Engine) {
    let mut spec = load_spec(engine.addresses()[0]);
    (spec.count, spec.flows) = (Some(100), 8);
    send_load(&spec);
    let mut stats = engine.stats();
    while stats.ledger.handled == 0 && !engine.has_ended() {
        std::thread::yield_now();
        stats = engine.stats();
    }
    while !engine.is_stopping() && !engine.has_ended() {
        send_load(&spec);
    }
    assert!(engine.wait(DEADLINE), "hung: the engine must end by itself");
}

#[test]
fn a_handler_that_panics_ends_the_engine_with_its_message() {
    for Ground { backend, ip } in grounds() {
        for workers in [0, 1, 2] {
            let engine = fragile(backend, SocketAddr::new(ip, 0), workers);
            provoke(&engine);
            match engine.stop() {
                Err(Error::HandlerPanicked { worker, message, datagrams }) => {
                    assert!(worker < workers.max(1));
                    assert!(message.starts_with("deliberate, of"), "{message}");
                    assert!(message.contains(&format!(" {datagrams} ")), "{message}: {datagrams}");
                }
                other => panic!("{workers} workers: {other:?}"),
            }
        }
    }
}

#[test]
fn a_program_whose_handler_panics_ends_non_zero_and_says_why() {
    for workers in [0, 1] {
        let child =
            Child::new("engine::panics::child_with_a_fragile_handler").env("WORKERS", &workers);
        let output = child.run();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let said = "the handler of worker 0 panicked: deliberate, of ";
        assert!(stderr.contains(said), "{stderr}");
        assert!(stderr.contains("the engine was stopped"), "{stderr}");
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_with_a_fragile_handler() {
    let workers = std::env::var("WORKERS").unwrap().parse().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let engine = fragile(BACKENDS[0], address, workers);
    provoke(&engine);
    if let Err(error) = engine.stop() {
        eprintln!("{error}");
        #[expect(clippy::exit, reason = "what a program does with an error")]
        std::process::exit(1);
    }
}
