//! The values that handlers leave come back from the stop, in the order of the workers.

use std::net::{Ipv4Addr, SocketAddr};

use ringest::{Batch, Dispatch, Error, Handler, Remains, Replies};

use crate::rigs::support::{BACKENDS, SMALL_BATCH_BYTES, client, small, stop_with_remains, until};

/// Counts its datagrams and leaves the count beside its index.
struct Counting {
    worker: usize,
    datagrams: u64,
    panics: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Left(usize, u64);

impl Handler for Counting {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        self.datagrams += batch.len();
    }

    fn into_remains(self) -> Remains {
        assert!(!self.panics, "deliberate, in into_remains");
        Remains::new(Left(self.worker, self.datagrams))
    }
}

#[test]
fn every_handler_leaves_its_value_in_the_order_of_the_workers() {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for (backend, workers) in BACKENDS.into_iter().flat_map(|backend| [(backend, 3), (backend, 0)])
    {
        let builder = small(backend).listen(loopback).receivers(2).workers(workers);
        let builder = builder.dispatch(Dispatch::Spread).batch_bytes(SMALL_BATCH_BYTES);
        let engine =
            builder.start(|worker| Counting { worker, datagrams: 0, panics: false }).unwrap();
        let socket = client(engine.addresses()[0]);
        for _ in 0..40 {
            socket.send_to(b"datagram", engine.addresses()[0]).unwrap();
        }
        until("the handlers to have all", || engine.stats().ledger.handled == 40);
        let (summary, left) = stop_with_remains::<Left>(engine);
        let workers: Vec<_> = left.iter().map(|Left(worker, _)| *worker).collect();
        assert_eq!(workers, (0..summary.workers.len()).collect::<Vec<_>>());
        for (Left(_, datagrams), row) in left.iter().zip(&summary.workers) {
            assert_eq!(*datagrams, row.handled);
        }
        assert_eq!(left.iter().map(|Left(_, datagrams)| datagrams).sum::<u64>(), 40);
    }
}

#[test]
fn a_panic_while_leaving_is_the_handlers() {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for (backend, workers) in BACKENDS.into_iter().flat_map(|backend| [(backend, 1), (backend, 0)])
    {
        let builder = small(backend).listen(loopback).receivers(1).workers(workers);
        let engine =
            builder.start(|worker| Counting { worker, datagrams: 0, panics: true }).unwrap();
        match engine.stop() {
            Err(Error::HandlerPanicked { message, datagrams: 0, .. }) => {
                assert!(message.contains("deliberate"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}
