//! Records to NATS JetStream: real servers, killed and restarted, one and three; what a stream has at the end
//! is compared by id.

use std::time::{Duration, Instant};

use ringest_ship::carrier::Carrier;
use ringest_ship::nats::NatsSpec;
use serde_json::json;

use crate::journal::rig::temp_dir;
use crate::ship::nats_probe::{Probe, are_whole};
use crate::ship::nats_rig::{Courier, Server, cluster, facts, is_here, spec, summary};
use crate::ship::rig::rounds;

#[test]
fn everything_arrives_once_in_order_with_its_headers() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let servers = [Server::alone(&place, "")];
    let mut probe = Probe::new(&servers[0]);
    probe.make_stream(1, &json!({}));
    let mut courier = Courier::new(spec(&servers), facts(20_000));
    courier.ship(20_000);
    let stored = probe.contents();
    assert_eq!((stored.len(), courier.agains.len()), (20_000, 0));
    courier.check(&stored);
    // After a crash the last ones are sent again, and folded.
    courier.crash(spec(&servers), 5_000);
    courier.ship(20_000);
    assert_eq!((probe.contents().len(), courier.agains.len()), (20_000, 0));
}

#[test]
fn a_broker_killed_under_load_has_everything_once_and_in_order() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let mut servers = [Server::alone(&place, "")];
    Probe::new(&servers[0]).make_stream(1, &json!({}));
    let rounds = rounds(4);
    let mut courier = Courier::new(spec(&servers), facts(8_000 * (rounds as u64 + 1)));
    for round in 1..=rounds {
        courier.ship(8_000 * round - 3_000);
        servers[0].kill();
        courier.await_trouble("");
        servers[0].start();
    }
    courier.ship(8_000 * (rounds + 1));
    println!("{}", summary(&courier.agains));
    courier.check(&Probe::new(&servers[0]).contents());
}

/// Ships so many, over stalls of the cluster itself: nats-server 2.9.10 sometimes stores nothing any more after a death,
/// from nobody, with two of three there and a leader that takes and never commits; until somebody starts the leader
/// again, as is done here. Seen with every client silent for minutes.
fn ship_past_stalls(courier: &mut Courier, count: usize, servers: &mut [Server]) {
    const STALLED: Duration = Duration::from_secs(60);
    let (mut settled, mut since, mut stalls) = (courier.settled, Instant::now(), 0);
    while courier.settled < count {
        courier.turn(usize::MAX);
        if courier.settled > settled {
            (settled, since) = (courier.settled, Instant::now());
        }
        if since.elapsed() < STALLED {
            continue;
        }
        let up = servers.iter_mut().filter(|server| server.is_up());
        let mut leader: Vec<_> = up.filter(|server| server.leads()).collect();
        let stores = leader.iter_mut().any(|server| Probe::new(server).stores("logs.probe"));
        assert!(!stores && stalls < 3, "hung at {settled} of {count}: {:?}", courier.agains.last());
        println!("the cluster stores nothing from anybody: its leader is started again");
        leader.iter_mut().for_each(|server| {
            server.kill();
            server.start();
        });
        (since, stalls) = (Instant::now(), stalls + 1);
    }
}

/// Kills and restarts the leader of three servers, again and again. One at a time: a server that has not
/// caught up yet is as good as dead.
fn leaders_killed(sole_writer: bool, rounds: usize) {
    const EACH: usize = 6_000;
    let place = temp_dir();
    let mut servers = cluster(&place);
    Probe::new(&servers[0]).make_stream(3, &json!({}));
    let spec = NatsSpec { sole_writer, ..spec(&servers) };
    let mut courier = Courier::new(spec, facts((EACH * (rounds + 1)) as u64));
    for round in 1..=rounds {
        let is_whole = || are_whole(&servers);
        courier.ship_until("all three to have all", EACH * (round - 1) + EACH / 4, is_whole);
        ship_past_stalls(&mut courier, EACH * round - EACH / 2, &mut servers);
        let leader = servers.iter().find_map(|server| Probe::new(server).leader()).unwrap();
        let leader: usize = leader[1..].parse().unwrap();
        servers[leader].kill();
        ship_past_stalls(&mut courier, EACH * round, &mut servers);
        servers[leader].start();
    }
    ship_past_stalls(&mut courier, EACH * (rounds + 1), &mut servers);
    println!("{}", summary(&courier.agains));
    // Each of them has it, also those that were away.
    for server in &servers {
        courier.check(&Probe::new(server).contents());
    }
}

#[test]
fn three_brokers_whose_leader_is_killed_have_everything_once_and_in_order() {
    if is_here() {
        leaders_killed(false, rounds(2));
    }
}

#[test]
fn so_they_have_with_one_writer_that_has_many_records_of_a_peer_under_way() {
    if is_here() {
        leaders_killed(true, rounds(2));
    }
}

#[test]
fn others_that_write_to_the_stream_do_not_stop_it_nor_change_the_order() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let servers = [Server::alone(&place, "")];
    let mut probe = Probe::new(&servers[0]);
    probe.make_stream(1, &json!({}));
    let mut courier = Courier::new(spec(&servers), facts(10_000));
    let (mut others, mut troubles) = (0, Vec::new());
    let mut other = Probe::new(&servers[0]);
    courier.ship_while(10_000, |courier| {
        if courier.settled < 9_000 {
            other.publish("logs.other", "", b"from another").unwrap();
            others += 1;
        }
        troubles.extend(courier.carrier.trouble());
    });
    other.flush();
    courier.check(&probe.contents());
    assert!(others > 3, "{others}");
    assert_eq!(courier.agains, [""; 0], "it is mended without going back");
    assert!(troubles.iter().all(|trouble| trouble.contains("a stream of its own")), "{troubles:?}");
}

#[test]
fn what_is_too_large_is_rejected_and_the_rest_goes_on_in_order() {
    if !is_here() {
        return;
    }
    for (server, stream) in [("max_payload: 1200", json!({})), ("", json!({"max_msg_size": 1200}))]
    {
        let place = temp_dir();
        let servers = [Server::alone(&place, server)];
        let mut probe = Probe::new(&servers[0]);
        probe.make_stream(1, &stream);
        let mut facts = facts(2_000);
        for number in [0, 7, 8, 1_000, 1_999] {
            facts[number].payload = vec![b'y'; 1_201 - number % 2];
        }
        let mut courier = Courier::new(spec(&servers), facts);
        courier.ship(2_000);
        let rejected: Vec<_> = courier.rejected.iter().map(|(place, _)| *place).collect();
        assert_eq!(rejected, [0, 7, 8, 1_000, 1_999]);
        assert!(courier.rejected[0].1.contains("stream LOGS takes 1200"), "{:?}", courier.rejected);
        assert_eq!(courier.agains, [""; 0]);
        courier.check(&probe.contents());
    }
}

#[test]
fn a_full_stream_is_waited_for() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let servers = [Server::alone(&place, "")];
    let mut probe = Probe::new(&servers[0]);
    probe.make_stream(1, &json!({"discard": "new", "max_msgs": 500}));
    let mut courier = Courier::new(spec(&servers), facts(3_000));
    courier.await_trouble("maximum messages exceeded");
    assert_eq!(courier.settled, 500);
    let larger = json!({
        "name": "LOGS", "subjects": ["logs.>"], "storage": "file", "discard": "new", "max_msgs": 9_000,
    });
    probe.request("STREAM.UPDATE.LOGS", &larger);
    courier.ship(3_000);
    assert_eq!((courier.carrier.trouble(), courier.rejected.len()), (None, 0));
    courier.check(&probe.contents());
}

#[test]
fn a_stream_that_cannot_be_written_to_is_told_with_the_next_move_and_heals() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let servers = [Server::plain(&place, "")];
    let mut courier = Courier::new(spec(&servers), facts(10));
    courier.await_trouble("has no JetStream: enable it");
    drop(servers);
    courier.await_trouble("cannot connect to");
    let servers = [Server::alone(&place, "")];
    let mut courier = Courier::new(spec(&servers), facts(10));
    courier.await_trouble("stream LOGS does not exist: create it (nats stream add LOGS --subjects");
    let mut probe = Probe::new(&servers[0]);
    probe.make_stream(1, &json!({"subjects": ["logs.other"]}));
    courier.await_trouble("stream LOGS does not take subject logs.syslog, only logs.other");
    probe.request(
        "STREAM.UPDATE.LOGS",
        &json!({"name": "LOGS", "subjects": ["logs.*"], "storage": "file"}),
    );
    courier.ship(10);
    assert_eq!(courier.carrier.trouble(), None);
    courier.check(&probe.contents());
}
