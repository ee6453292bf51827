//! Records to NATS JetStream: real servers, killed and restarted, one and three; what a stream has at the end
//! is compared by id.

use ringest::ship::carrier::Carrier;
use serde_json::json;

use super::nats_rig::{
    Courier, Place, Probe, Server, cluster, facts, is_here, rounds, spec, summary,
};

#[test]
fn everything_arrives_once_in_order_with_its_headers() {
    if !is_here() {
        return;
    }
    let place = Place::new();
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
    let place = Place::new();
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

#[test]
fn three_brokers_whose_leader_is_killed_have_everything_once_and_in_order() {
    if !is_here() {
        return;
    }
    let place = Place::new();
    let mut servers = cluster(&place);
    Probe::new(&servers[0]).make_stream(3, &json!({}));
    let rounds = rounds(2);
    let mut spec = spec(&servers);
    spec.sole_writer = true;
    let mut courier = Courier::new(spec, facts(8_000 * (rounds as u64 + 1)));
    for round in 1..=rounds {
        courier.ship(8_000 * round - 3_000);
        let leader = servers.iter().find_map(|server| Probe::new(server).leader()).unwrap();
        let leader: usize = leader[1..].parse().unwrap();
        servers[leader].kill();
        courier.ship(8_000 * round);
        servers[leader].start();
    }
    courier.ship(8_000 * (rounds + 1));
    println!("{}", summary(&courier.agains));
    courier.check(&Probe::new(&servers[0]).contents());
}

#[test]
fn a_stream_that_cannot_be_written_to_is_told_with_the_next_move_and_heals() {
    if !is_here() {
        return;
    }
    let place = Place::new();
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
