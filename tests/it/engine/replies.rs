//! Replies of handlers: they leave from the address that was asked, in order, and each is counted once.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringest::{Batch, Builder, Engine, Handler, Path, Replies, Summary};

use crate::rigs::support::{
    BACKENDS, Ground, SMALL_BATCH_BYTES, all_handled, boxed, client, consistent, grounds, payload,
    payloads, send_train, small, stop, until,
};

/// Sends each datagram back.
fn echo(batch: &Batch, replies: &mut Replies) {
    for datagram in batch {
        replies.send(&datagram, datagram.payload());
    }
}

fn start_echo(builder: Builder) -> Engine {
    builder.start(boxed(|_| echo)).unwrap()
}

/// Checks that every answer a handler gave was counted once.
fn answers_balance(summary: &Summary, answers: u64) {
    let replies = summary.replies;
    assert_eq!(replies.sent + replies.send_timed_out + replies.failed, answers, "{summary:#?}");
}

/// Checks that all were handled, and all answers were sent.
fn all_answered(summary: &Summary, sent: u64) {
    all_handled(summary, sent);
    answers_balance(summary, sent);
    assert_eq!(summary.replies.sent, sent, "{summary:#?}");
}

/// Receives one datagram, as long as any can be.
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                buffer.truncate(len);
                return (buffer, from);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("waited for an answer: {error}"),
        }
    }
}

/// Returns inline handlers and a worker's.
fn with_and_without_workers() -> impl Iterator<Item = (Ground, usize)> {
    grounds().flat_map(|ground| [(ground, 0), (ground, 1)])
}

#[test]
fn an_echo_of_every_size_comes_back() {
    for (ground, workers) in with_and_without_workers() {
        let engine = start_echo(ground.builder().workers(workers));
        let target = engine.addresses()[0];
        let socket = client(target);
        let sent = payloads(&[1, 0, 65_507, 1400, 0, 0, 64, 64, 64, 9000, 1, 65_507, 65_506]);
        for body in &sent {
            socket.send_to(body, target).unwrap();
            assert_eq!(receive(&socket), (body.clone(), target));
        }
        // And without waiting for each: runs of equal and of different sizes.
        for body in &sent {
            socket.send_to(body, target).unwrap();
        }
        for body in &sent {
            assert_eq!(receive(&socket), (body.clone(), target));
        }
        all_answered(&stop(engine), 2 * sent.len() as u64);
    }
}

#[test]
fn trains_are_echoed_as_they_were_cut() {
    for (ground, workers) in with_and_without_workers() {
        for gro in [true, false] {
            let engine = start_echo(ground.builder().workers(workers).gro(gro));
            let target = engine.addresses()[0];
            let socket = client(target);
            for (bytes, segment_bytes) in [(1700, 500), (64, 1), (44_801, 1400), (63_000, 1000)] {
                let whole = payload(bytes, bytes);
                send_train(&socket, target, &whole, segment_bytes);
                for body in whole.chunks(segment_bytes.into()) {
                    assert_eq!(receive(&socket), (body.to_vec(), target));
                }
            }
            all_answered(&stop(engine), 4 + 64 + 33 + 63);
        }
    }
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    for backend in BACKENDS {
        for wildcard in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            for workers in [0, 1] {
                println!("{backend:?} on {wildcard}, {workers} workers");
                let listen = SocketAddr::new(wildcard, 0);
                let engine = start_echo(small(backend).listen(listen).workers(workers));
                let port = engine.addresses()[0].port();
                let mut asked = vec![
                    IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)),
                    Ipv4Addr::new(127, 0, 0, 3).into(),
                    Ipv4Addr::LOCALHOST.into(),
                ];
                if wildcard.is_ipv6() {
                    asked.push(Ipv6Addr::LOCALHOST.into());
                }
                let clients: Vec<_> = asked
                    .iter()
                    .map(|&ip| (client(SocketAddr::new(ip, port)), SocketAddr::new(ip, port)))
                    .collect();
                for round in 0..20 {
                    for (socket, target) in &clients {
                        socket.send_to(&payload(round, round * 3), target).unwrap();
                    }
                    for (socket, target) in &clients {
                        assert_eq!(receive(socket), (payload(round, round * 3), *target));
                    }
                    for (socket, target) in &clients {
                        send_train(socket, *target, &payload(round, 1000), 300);
                    }
                    for (socket, target) in &clients {
                        for body in payload(round, 1000).chunks(300) {
                            assert_eq!(receive(socket), (body.to_vec(), *target));
                        }
                    }
                }
                // One peer asking several addresses in turn, without waiting.
                let socket = client(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                let v4 = clients.iter().map(|(_, target)| target).filter(|t| t.is_ipv4());
                let targets: Vec<_> = v4.cycle().take(60).collect();
                for target in &targets {
                    socket.send_to(b"who?", target).unwrap();
                }
                for target in &targets {
                    assert_eq!(receive(&socket), (b"who?".to_vec(), **target));
                }
                all_answered(&stop(engine), 20 * 5 * asked.len() as u64 + 60);
            }
        }
    }
}

#[test]
fn echoes_of_many_peers_reach_each_its_own() {
    for (ground, workers) in with_and_without_workers() {
        let engine = start_echo(ground.builder().workers(2 * workers).receivers(2));
        let target = engine.addresses()[0];
        let clients: Vec<_> = (0..50).map(|_| client(target)).collect();
        for round in 0..5 {
            for (index, socket) in clients.iter().enumerate() {
                for part in 0..4 {
                    socket.send_to(&payload(index, 100 + part / 2 + round), target).unwrap();
                }
            }
            for (index, socket) in clients.iter().enumerate() {
                for part in 0..4 {
                    let expected = payload(index, 100 + part / 2 + round);
                    assert_eq!(receive(socket), (expected, target));
                }
            }
        }
        all_answered(&stop(engine), 1000);
    }
}

#[test]
fn a_reply_too_long_for_a_datagram_counts_as_failed() {
    for (ground, workers) in with_and_without_workers() {
        let handler = |_| {
            let long = vec![7; 65_508];
            move |batch: &Batch, replies: &mut Replies| {
                for datagram in batch {
                    assert!(!replies.send(&datagram, &long), "not taken");
                    assert!(replies.send(&datagram, &long[1..]), "the longest there is");
                    assert!(replies.send(&datagram, b"after"));
                }
            }
        };
        let engine = ground.builder().workers(workers).start(boxed(handler)).unwrap();
        let target = engine.addresses()[0];
        let socket = client(target);
        for _ in 0..3 {
            socket.send_to(b"go", target).unwrap();
            assert_eq!(receive(&socket).0, [7; 65_507]);
            assert_eq!(receive(&socket).0, b"after");
        }
        let summary = stop(engine);
        all_handled(&summary, 3);
        assert_eq!((summary.replies.sent, summary.replies.failed), (6, 3), "{summary:#?}");
    }
}

/// Answers each datagram with `REPLIES_EACH` numbered ones, far more than its reply batches hold.
const REPLIES_EACH: u64 = 3000;

fn flood(batch: &Batch, replies: &mut Replies) {
    let mut body = [0; 100];
    for datagram in batch {
        for number in 0..REPLIES_EACH {
            body[..8].copy_from_slice(&number.to_le_bytes());
            replies.send(&datagram, &body);
        }
    }
}

#[test]
fn a_worker_waits_for_room_for_its_replies() {
    for ground in grounds() {
        let builder =
            ground.builder().batch_bytes(SMALL_BATCH_BYTES).reply_bytes(2 * SMALL_BATCH_BYTES);
        let engine = builder.start(boxed(|_| flood)).unwrap();
        let target = engine.addresses()[0];
        let socket = client(target);
        for _ in 0..3 {
            socket.send_to(b"go", target).unwrap();
            for number in 0..REPLIES_EACH {
                let (body, from) = receive(&socket);
                assert_eq!((body[..8].to_vec(), from), (number.to_le_bytes().to_vec(), target));
            }
        }
        let summary = stop(engine);
        all_handled(&summary, 3);
        answers_balance(&summary, 3 * REPLIES_EACH);
        assert_eq!(summary.replies.sent, 3 * REPLIES_EACH, "{summary:#?}");
    }
}

#[test]
fn an_inline_handler_without_room_for_replies_counts_them_as_failed() {
    for ground in grounds() {
        let builder = ground
            .builder()
            .workers(0)
            .batch_bytes(SMALL_BATCH_BYTES)
            .reply_bytes(2 * SMALL_BATCH_BYTES);
        let engine = builder.start(boxed(|_| flood)).unwrap();
        let target = engine.addresses()[0];
        let socket = client(target);
        for _ in 0..3 {
            socket.send_to(b"go", target).unwrap();
        }
        let summary = stop(engine);
        all_handled(&summary, 3);
        answers_balance(&summary, 3 * REPLIES_EACH);
        assert_eq!(receive(&socket).0[..8], 0u64.to_le_bytes());
        assert!(summary.replies.failed > 0, "{summary:#?}");
    }
}

#[test]
fn without_room_for_replies_every_answer_counts_as_failed() {
    for (ground, workers) in with_and_without_workers() {
        let engine = start_echo(ground.builder().workers(workers).reply_bytes(0));
        let target = engine.addresses()[0];
        let socket = client(target);
        for _ in 0..10 {
            socket.send_to(b"anyone?", target).unwrap();
        }
        let summary = stop(engine);
        all_handled(&summary, 10);
        assert_eq!((summary.replies.sent, summary.replies.failed), (0, 10), "{summary:#?}");
    }
}

/// Datagrams taken before the stop are answered before the engine ends.
#[test]
fn a_stop_sends_the_answers_that_are_on_the_way() {
    for (ground, workers) in with_and_without_workers() {
        let engine = start_echo(ground.builder().workers(workers));
        let target = engine.addresses()[0];
        let socket = client(target);
        for number in 0..200 {
            socket.send_to(&payload(number, 50), target).unwrap();
        }
        let summary = stop(engine);
        all_answered(&summary, 200);
        for number in 0..200 {
            assert_eq!(receive(&socket), (payload(number, 50), target));
        }
    }
}

/// Peers that have gone answer with ICMP; an unconnected socket must not mind.
#[test]
fn peers_that_have_gone_do_not_disturb_the_others() {
    for (ground, workers) in with_and_without_workers() {
        let engine = start_echo(ground.builder().workers(workers));
        let target = engine.addresses()[0];
        let socket = client(target);
        for number in 0..50 {
            client(target).send_to(b"bye", target).unwrap();
            socket.send_to(&payload(number, 50), target).unwrap();
            assert_eq!(receive(&socket), (payload(number, 50), target));
        }
        let summary = stop(engine);
        all_handled(&summary, 100);
        answers_balance(&summary, 100);
        consistent(&summary);
    }
}

/// It must be taken then, not at the receiver's next tick a second later: as many ticks as there are
/// datagrams would take longer than the deadline.
#[test]
fn a_datagram_that_comes_while_replies_go_is_taken_at_once() {
    for (ground, workers) in with_and_without_workers() {
        let handled = Arc::new(AtomicU64::new(0));
        let counting_echo = |_| {
            let handled = Arc::clone(&handled);
            move |batch: &Batch, replies: &mut Replies| {
                echo(batch, replies);
                handled.fetch_add(batch.len(), Ordering::Relaxed);
            }
        };
        let engine = ground.builder().workers(workers).start(counting_echo).unwrap();
        let target = engine.addresses()[0];
        let socket = client(target);
        let mut sent = 0;
        until("all, one by one", || {
            let taken = handled.load(Ordering::Relaxed);
            if taken == sent && sent < 3000 {
                // Its predecessor has just been handled; the answer leaves now.
                socket.send_to(b"next", target).unwrap();
                sent += 1;
            }
            taken == 3000
        });
        all_answered(&stop(engine), sent);
    }
}

/// Answers what came with the next batch, or at a deadline if none follows: the datagrams are gone by then.
#[derive(Debug, Default)]
struct Late {
    owed: Vec<(Path, Vec<u8>)>,
    at_deadline: Arc<AtomicU64>,
}

impl Late {
    fn pay(&mut self, replies: &mut Replies) -> u64 {
        let owed = std::mem::take(&mut self.owed);
        owed.iter().filter(|(path, payload)| replies.send_to(path, payload)).count() as u64
    }
}

impl Handler for Late {
    fn handle(&mut self, batch: &Batch, replies: &mut Replies) {
        self.pay(replies);
        self.owed.extend(batch.iter().map(|it| (it.path(), it.payload().to_vec())));
    }

    /// Over at once, so that an answer waits for no longer than a turn.
    fn deadline_ns(&self) -> Option<u64> {
        (!self.owed.is_empty()).then_some(1)
    }

    fn on_deadline(&mut self, _: u64, replies: &mut Replies) {
        let paid = self.pay(replies);
        self.at_deadline.fetch_add(paid, Ordering::Relaxed);
    }
}

#[test]
fn a_handler_may_answer_when_the_datagram_has_gone() {
    for (ground, workers) in with_and_without_workers() {
        let at_deadline = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&at_deadline);
        let late = move |_| Late { owed: Vec::new(), at_deadline: Arc::clone(&counter) };
        let engine = ground.builder().workers(workers).start(late).unwrap();
        let target = engine.addresses()[0];
        let (one, other) = (client(target), client(target));
        for number in 0..50 {
            for socket in [&one, &other] {
                socket.send_to(&payload(number, 70), target).unwrap();
            }
            for socket in [&one, &other] {
                assert_eq!(receive(socket), (payload(number, 70), target));
            }
        }
        all_answered(&stop(engine), 100);
        assert!(at_deadline.load(Ordering::Relaxed) > 0, "the last answer had no later batch");
    }
}

/// A ring that was made and closed on a thread comes back to it as pending work, and interrupts
/// what the thread is waiting for. The caller of `start` must not notice.
#[test]
fn starting_does_not_interrupt_the_callers_own_calls() {
    for ground in grounds() {
        for _ in 0..20 {
            let engine = start_echo(ground.builder().slots(4));
            let target = engine.addresses()[0];
            let socket = client(target);
            for number in 0..100 {
                socket.send_to(&payload(number, 50), target).unwrap();
                let received = socket.recv_from(&mut [0; 64]);
                assert_eq!(received.expect("an answer"), (50, target));
            }
            all_answered(&stop(engine), 100);
        }
    }
}
