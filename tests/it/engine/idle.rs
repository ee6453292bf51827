//! When nothing comes: the program ends with a code of its own, and handlers get a tick. Ticks and
//! time-outs are counted, never timed; where something must not happen, far more time passes than it
//! would take.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringest::{BackendChoice, Batch, Engine, Error, Handler, Outcome, Replies};
use serde_json::Value;

use crate::rigs::support::{BACKENDS, boxed, consistent, small, stop, until};
use crate::sockets::lab::{Peer, Program};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A call that the handler got. A test compares them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Batch(u64),
    Idle,
    Finish,
}

/// When a handler is to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fragile {
    Never,
    Idle,
    Finish,
}

/// Keeps what it is given until nothing comes, and writes down what happens.
#[derive(Debug)]
struct Keeper {
    events: Arc<Mutex<Vec<Event>>>,
    kept: u64,
    fragile: Fragile,
}

impl Handler for Keeper {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        self.kept += batch.len();
        self.note(Event::Batch(batch.len()));
    }

    fn outcome(&self, handled: u64) -> Outcome {
        Outcome { delivered: handled - self.kept, pending: self.kept, ..Outcome::default() }
    }

    fn on_idle(&mut self) {
        assert!(self.fragile != Fragile::Idle, "deliberate, in on_idle");
        self.kept = 0;
        self.note(Event::Idle);
    }

    fn finish(&mut self) {
        assert!(self.fragile != Fragile::Finish, "deliberate, in finish");
        self.kept = 0;
        self.note(Event::Finish);
    }
}

impl Keeper {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

/// An engine with such handlers, and what each lived through.
#[derive(Debug)]
struct Kept {
    engine: Engine,
    events: Vec<Arc<Mutex<Vec<Event>>>>,
}

impl Kept {
    fn start(
        (backend, workers): (BackendChoice, usize),
        tick: Option<Duration>,
        fragile: Fragile,
    ) -> Self {
        let events: Vec<_> = (0..workers.max(1)).map(|_| Arc::default()).collect();
        let mut builder = small(backend).listen(SocketAddr::new(LOOPBACK, 0)).workers(workers);
        if let Some(tick) = tick {
            builder = builder.idle_tick(tick);
        }
        let handler = |index: usize| {
            let events: &Arc<Mutex<Vec<Event>>> = &events[index];
            Keeper { events: Arc::clone(events), kept: 0, fragile }
        };
        let engine = builder.start(handler).unwrap();
        Self { engine, events }
    }

    fn port(&self) -> u16 {
        self.engine.addresses()[0].port()
    }

    /// Returns how often this happened to each handler.
    fn counts(&self, wanted: impl Fn(Event) -> bool) -> Vec<usize> {
        let count = |events: &Arc<Mutex<Vec<Event>>>| {
            events.lock().unwrap().iter().filter(|event| wanted(**event)).count()
        };
        self.events.iter().map(count).collect()
    }

    fn ticks(&self) -> Vec<usize> {
        self.counts(|event| event == Event::Idle)
    }
}

/// Returns the backends, with handlers on the receiver, on a worker, and on two.
fn ways() -> impl Iterator<Item = (BackendChoice, usize)> {
    BACKENDS.into_iter().flat_map(|backend| {
        [0, 1, 2].map(|workers| {
            println!("{backend:?}, {workers} workers");
            (backend, workers)
        })
    })
}

/// A deadline is met though the tick is an hour away.
#[test]
fn a_handler_may_ask_for_a_call_sooner_than_any_tick() {
    for (backend, workers) in ways() {
        let builder = small(backend).listen(SocketAddr::new(LOOPBACK, 0)).workers(workers);
        let builder = builder.idle_tick(Duration::from_secs(3600));
        let engine = builder.start(|_| Restless::default()).unwrap();
        let peer = Peer::bind(LOOPBACK);
        peer.send(LOOPBACK, engine.addresses()[0].port(), "held");
        until("it to be looked after", || engine.stats().ledger.delivered == 1);
        stop(engine);
    }
}

/// Delivers a datagram at the third deadline.
#[derive(Debug, Default)]
struct Restless {
    held: u64,
    ticks: u64,
    due_ns: u64,
}

impl Handler for Restless {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        self.held += batch.len();
    }

    fn outcome(&self, handled: u64) -> Outcome {
        Outcome { delivered: handled - self.held, pending: self.held, ..Outcome::default() }
    }

    fn on_deadline(&mut self, now_ns: u64, _: &mut Replies) {
        self.ticks += 1;
        self.due_ns = now_ns + 1_000_000;
        if self.ticks == 3 {
            self.held = 0;
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        (self.held > 0).then_some(self.due_ns)
    }
}

/// Batches that follow each other without a pause do not put a deadline off.
#[test]
fn a_deadline_is_met_between_two_batches() {
    for (backend, workers) in ways() {
        let (events, most) = (Arc::new(Mutex::new(Vec::new())), 200);
        let builder = small(backend).listen(SocketAddr::new(LOOPBACK, 0)).workers(workers);
        let log = Arc::clone(&events);
        let engine = builder.start(move |_| Prompt { log: Arc::clone(&log), held: 0 }).unwrap();
        let peer = Peer::bind(LOOPBACK);
        for _ in 0..most {
            peer.send(LOOPBACK, engine.addresses()[0].port(), "again");
        }
        until("all to be handled", || engine.stats().ledger.delivered == most);
        stop(engine);
        // Each batch sets a deadline that is over at once, so a batch is never followed by another.
        let events = events.lock().unwrap();
        assert!(events.windows(2).all(|pair| pair[0] != pair[1]), "{events:?}");
    }
}

/// Has a deadline as soon as it holds a datagram. Writes down batches (`true`) and deadlines.
struct Prompt {
    log: Arc<Mutex<Vec<(usize, bool)>>>,
    held: u64,
}

impl Prompt {
    fn note(&self, batch: bool) {
        let handler = std::ptr::from_ref(self).addr();
        self.log.lock().unwrap().push((handler, batch));
    }
}

impl Handler for Prompt {
    fn handle(&mut self, batch: &Batch, _: &mut Replies) {
        self.held += batch.len();
        self.note(true);
    }

    fn outcome(&self, handled: u64) -> Outcome {
        Outcome { delivered: handled - self.held, pending: self.held, ..Outcome::default() }
    }

    fn deadline_ns(&self) -> Option<u64> {
        (self.held > 0).then_some(0)
    }

    fn on_deadline(&mut self, _: u64, _: &mut Replies) {
        self.held = 0;
        self.note(false);
    }
}

#[test]
fn a_handler_gets_ticks_while_nothing_comes_and_again_later() {
    for way in ways() {
        let kept = Kept::start(way, Some(Duration::from_millis(5)), Fragile::Never);
        until("ticks of every handler", || kept.ticks().iter().all(|&count| count >= 5));
        let peer = Peer::bind(LOOPBACK);
        (0..100).for_each(|_| peer.send(LOOPBACK, kept.port(), "hello"));
        until("all to be handled", || kept.engine.stats().ledger.handled == 100);
        // The handler delivers the datagrams that it kept at a tick, and the ledger counts them.
        until("all to be delivered", || kept.engine.stats().ledger.delivered == 100);
        let before = kept.ticks();
        until("ticks again", || {
            kept.ticks().iter().zip(&before).all(|(now, before)| now >= &(before + 5))
        });
        let Kept { engine, events } = kept;
        let summary = stop(engine);
        consistent(&summary);
        assert_eq!((summary.ledger.delivered, summary.ledger.pending), (100, 0), "{summary:#?}");
        for events in events {
            let events = events.lock().unwrap();
            let finishes = events.iter().filter(|event| **event == Event::Finish).count();
            assert_eq!((finishes, events.last()), (1, Some(&Event::Finish)), "{events:?}");
        }
    }
}

#[test]
fn without_being_asked_for_there_are_no_ticks() {
    for way in ways() {
        let kept = Kept::start(way, None, Fragile::Never);
        let peer = Peer::bind(LOOPBACK);
        (0..100).for_each(|_| peer.send(LOOPBACK, kept.port(), "hello"));
        until("all to be handled", || kept.engine.stats().ledger.handled == 100);
        let stats = kept.engine.stats().ledger;
        assert_eq!((stats.delivered, stats.pending), (0, 100), "nothing let it go");
        let Kept { engine, events } = kept;
        let summary = stop(engine);
        assert_eq!(summary.ledger.delivered, 100, "the end did: {summary:#?}");
        assert!(events.iter().all(|events| !events.lock().unwrap().contains(&Event::Idle)));
    }
}

/// All at once, so that it takes the time once: datagrams come for twice as long as a tick, each
/// far sooner than that after the last.
#[test]
fn there_are_no_ticks_while_datagrams_come_faster() {
    const TICK: Duration = Duration::from_secs(2);
    let ways = BACKENDS.into_iter().flat_map(|backend| [(backend, 0), (backend, 1)]);
    let engines: Vec<_> = ways.map(|way| Kept::start(way, Some(TICK), Fragile::Never)).collect();
    let peer = Peer::bind(LOOPBACK);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < 2 * TICK {
        engines.iter().for_each(|kept| peer.send(LOOPBACK, kept.port(), "hello"));
        sent += 1;
        // At most a few are on the way, so none is dropped and none waits.
        until("it to be handled", || {
            engines.iter().all(|kept| kept.engine.stats().ledger.handled == sent)
        });
        assert!(engines.iter().all(|kept| kept.ticks() == [0]), "after {sent} datagrams");
    }
    // And then they come.
    until("ticks", || engines.iter().all(|kept| kept.ticks()[0] > 0));
    for kept in engines {
        let summary = stop(kept.engine);
        consistent(&summary);
        assert_eq!(summary.ledger.handled, sent, "{summary:#?}");
    }
}

#[test]
fn a_panic_in_a_tick_or_at_the_end_is_the_handlers() {
    for way in ways() {
        for (fragile, said) in
            [(Fragile::Idle, "deliberate, in on_idle"), (Fragile::Finish, "deliberate, in finish")]
        {
            let kept = Kept::start(way, Some(Duration::from_millis(5)), fragile);
            if fragile == Fragile::Idle {
                until("the engine to end by itself", || kept.engine.has_ended());
            }
            match kept.engine.stop() {
                Err(Error::HandlerPanicked { worker, message, datagrams }) => {
                    assert!(worker < way.1.max(1) && datagrams == 0, "{worker}, {datagrams}");
                    assert_eq!(message, said);
                }
                other => panic!("{fragile:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_tick_of_nothing_is_refused() {
    let builder = small(BACKENDS[0]).listen(SocketAddr::new(LOOPBACK, 0));
    let refused =
        builder.idle_tick(Duration::ZERO).start(boxed(|_| |_: &Batch, _: &mut Replies| {}));
    let refused = refused.unwrap_err();
    assert!(refused.is_usage() && refused.to_string().contains("idle-tick"), "{refused}");
}

#[test]
fn a_program_that_nothing_comes_to_ends_with_3() {
    for (backend, command) in
        ["io_uring", "recvmmsg"].into_iter().flat_map(|b| ["listen", "echo"].map(|c| (b, c)))
    {
        let args = format!(
            "{command} 127.0.0.1:0 [::1]:0 --backend {backend} --receivers 2 --idle-timeout 200ms \
             --json"
        );
        let ended = Program::ringest(None, &args).end();
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stderr.contains("nothing came for 200ms"), "{ended:?}");
        let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(summary["received"], 0, "{summary}");
        // Something came, and then nothing more.
        let mut program = Program::ringest(None, &args);
        let target = program.listening()[0];
        Peer::bind(LOOPBACK).send(LOOPBACK, target.port(), "hello");
        let ended = program.end();
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stderr.contains("nothing more came for 200ms"), "{ended:?}");
        let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(summary["handled"], 1, "{summary}");
    }
}

#[test]
fn a_program_does_not_end_while_datagrams_come() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut programs: Vec<_> = ["io_uring", "recvmmsg"]
        .map(|backend| {
            let args = format!("listen 127.0.0.1:0 --backend {backend} --idle-timeout 2s --json");
            let mut program = Program::ringest(None, &args);
            let port = program.listening()[0].port();
            (program, port)
        })
        .into();
    let peer = Peer::bind(LOOPBACK);
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < 2 * TIMEOUT {
        for (program, port) in &mut programs {
            peer.send(LOOPBACK, *port, "hello");
            assert!(program.is_running(), "after {sent} datagrams: {}", program.stderr());
        }
        sent += 1;
        std::thread::yield_now();
    }
    for (program, _) in programs {
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
        let dropped = summary["dropped"]["kernel"].as_u64().unwrap();
        assert_eq!(summary["received"].as_u64().unwrap() + dropped, sent, "{summary}");
    }
}

/// A pipe nobody reads stops the sink: what came waits, and that is not idling.
#[test]
fn a_program_does_not_end_while_its_sink_is_behind() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    for backend in ["io_uring", "recvmmsg"] {
        let ringest = env!("CARGO_BIN_EXE_ringest");
        let script = format!(
            "exec 3<&0; {ringest} listen 127.0.0.1:0 --backend {backend} --sink stdout \
             --idle-timeout 200ms --workers 1 | {{ read go <&3; cat; }}; echo ${{PIPESTATUS[0]}}"
        );
        let mut program = Program::start(Command::new("bash").args(["-c", &script]));
        let port = program.listening()[0].port();
        let peer = Peer::bind(LOOPBACK);
        let line = "x".repeat(1000);
        // Three times what a pipe holds.
        (0..200).for_each(|_| peer.send(LOOPBACK, port, &line));
        let begun = Instant::now();
        while begun.elapsed() < 5 * TIMEOUT {
            assert!(program.is_running(), "it gave up: {}", program.stderr());
            assert!(!program.stderr().contains("nothing more came"), "{}", program.stderr());
            std::thread::yield_now();
        }
        // Were it stopping, its door would be shut by now.
        peer.send(LOOPBACK, port, "late");
        program.stdin().write_all(b"go\n").unwrap();
        let ended = program.end();
        assert!(ended.stderr.contains("nothing more came for 200ms"), "{ended:?}");
        let mut lines: Vec<_> = ended.stdout.lines().collect();
        assert_eq!(lines.pop(), Some("3"), "the exit code: {}", ended.stderr);
        assert_eq!(lines.pop(), Some("late"), "the last of all");
        assert_eq!(lines, vec![line; 200]);
    }
}
