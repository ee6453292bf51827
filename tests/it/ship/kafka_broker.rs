//! The Kafka carrier against a broker that is a program.

use ringest_ship::kafka::Kafka;

use crate::ship::kafka_rig::{Drive, Sent, TOPIC, WINDOW, check, ids, read_all, records, spec};
use crate::ship::object_store::ObjectStore;
use crate::ship::rig::rounds;
use crate::ship::tansu::{Storage, Tansu};

#[test]
fn a_broker_gets_each_peers_records_in_order_with_every_codec() {
    let Some(tansu) = Tansu::start(Storage::Memory) else { return };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("records-{codec}");
        tansu.create_topic(&topic, 3);
        let sent = records(7, 2000, 200);
        let given = spec(&tansu.address(), &topic, &[("compression.codec", codec)]);
        let mut drive = Drive::new(Kafka::new(&given).unwrap(), &sent);
        drive.settle(sent.len());
        assert_eq!((drive.rejected.len(), drive.again.len()), (0, 0), "{drive:?}");
        let all: Vec<&Sent> = sent.iter().collect();
        let kept = read_all(&tansu.address(), &topic, &ids(&sent));
        assert_eq!(check(&kept, &all), 0, "no record comes twice");
    }
}

#[test]
fn a_broker_killed_under_load_has_every_record_when_it_is_back() {
    let Some(mut tansu) = Tansu::start(Storage::Objects(ObjectStore::start())) else { return };
    tansu.create_topic(TOPIC, 3);
    let rounds = rounds(3);
    let sent = records(5, 1000 * (rounds + 1), 200);
    // With idempotence this broker now and then acknowledges what it has not kept when it is killed: its
    // memory of sequence numbers gets ahead of its log. Without, it is asked for nothing it cannot do.
    let given = spec(&tansu.address(), TOPIC, &[("enable.idempotence", "false")]);
    let mut drive = Drive::new(Kafka::new(&given).unwrap(), &sent);
    for round in 1..=rounds {
        // Some are under way as it dies, and more come while it is away.
        let (some, more) = (round * 1000 - 500, round * 1000);
        drive.until("some of them", more, |drive| drive.settled >= some);
        tansu.kill();
        drive.trouble("reached");
        tansu.restart();
    }
    drive.settle(sent.len());
    assert_eq!((drive.rejected.len(), drive.again.len()), (0, 0), "{drive:?}");
    let all: Vec<&Sent> = sent.iter().collect();
    let kept = read_all(&tansu.address(), TOPIC, &ids(&sent));
    let repeats = check(&kept, &all);
    println!("{repeats} records came twice in {rounds} rounds");
    assert!(repeats <= rounds * WINDOW);
}
