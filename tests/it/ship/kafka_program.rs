//! `ringest listen --sink kafka:…` as a user runs it, while either end dies.

use std::fs;

use crate::journal::rig::temp_dir;
use crate::load::rig::Running;
use crate::ship::kafka_rig::{Kept, TOPIC, read_to_end};
use crate::ship::object_store::ObjectStore;
use crate::ship::program_rig::listen;
use crate::ship::rig::{
    Broker, Held, Stage, absences, broker_dies, program_dies, rounds, stopped_meanwhile,
};
use crate::ship::tansu::{Storage, Tansu};

/// Records under way at most; as many may come again.
const WINDOW: usize = 512;

const UNDER_WAY: [&str; 2] = ["--ship-window", "512"];

impl Broker for Tansu {
    fn sink(&self) -> String {
        format!("kafka:{}/{TOPIC}", self.address())
    }

    fn count(&mut self) -> u64 {
        self.records(TOPIC).cast_unsigned()
    }

    fn contents(&mut self) -> Vec<Held> {
        let held = |kept: Kept| Held {
            id: kept.id(),
            peer: String::from_utf8(kept.key).unwrap(),
            payload: kept.payload.unwrap(),
        };
        read_to_end(&self.address(), TOPIC).into_iter().map(held).collect()
    }

    fn kill(&mut self) {
        Self::kill(self);
    }

    fn start(&mut self) {
        self.restart();
    }
}

/// Starts a broker with the topic.
fn tansu(storage: Storage) -> Option<Tansu> {
    let tansu = Tansu::start(storage)?;
    tansu.create_topic(TOPIC, 3);
    Some(tansu)
}

/// Returns a sink without idempotence: see `a_broker_killed_under_load_has_every_record_when_it_is_back`.
fn without_idempotence(stage: &Stage) -> String {
    let config = stage.dir().join("librdkafka.conf");
    fs::write(&config, "enable.idempotence=false\n").unwrap();
    config.display().to_string()
}

#[test]
fn killed_and_started_again_the_program_ships_what_its_journal_has() {
    let Some(mut tansu) = tansu(Storage::Memory) else { return };
    let repeats = program_dies(&mut tansu, &mut Stage::journal(), &UNDER_WAY);
    let rounds = rounds(3);
    println!("{repeats} records came again in {rounds} rounds");
    // Those under way, and those whose acknowledgement was not kept yet.
    assert!(repeats <= 2 * WINDOW * rounds);
}

#[test]
fn while_its_broker_is_dead_it_receives_and_then_ships_all() {
    let Some(mut tansu) = tansu(Storage::Objects(ObjectStore::start())) else { return };
    let (mut stage, absences) = (Stage::journal(), absences(3));
    let config = without_idempotence(&stage);
    let more = [&UNDER_WAY[..], &["--kafka-config", &config]].concat();
    let repeats = broker_dies(&mut tansu, &mut stage, &absences, &more);
    println!("{repeats} records came again in {} rounds", absences.len());
    assert!(repeats <= WINDOW * absences.len());
}

#[test]
fn stopped_without_its_broker_it_says_what_waits_and_ships_it_later() {
    let Some(mut tansu) = tansu(Storage::Objects(ObjectStore::start())) else { return };
    let mut stage = Stage::journal();
    let config = without_idempotence(&stage);
    let more = [&UNDER_WAY[..], &["--kafka-config", &config]].concat();
    assert!(stopped_meanwhile(&mut tansu, &mut stage, &more) <= WINDOW);
}

#[test]
fn what_is_wrong_with_librdkafkas_properties_is_said_and_secrets_are_not() {
    let place = temp_dir();
    let config = place.path().join("librdkafka.conf");
    let path = config.display().to_string();
    let spool = place.path().display().to_string();
    let given = ["--sink", "kafka:127.0.0.1:9/t", "--spool", &spool, "--kafka-config", &path];
    for (text, part) in [
        ("# no such thing\nlinger.mss=5\n", "line 2: linger.mss: No such configuration property"),
        ("linger.ms=5\nacks=0\n", "line 2: acks cannot be set"),
        ("sasl.password=hunter2\nenable.idempotence=true\nmax.in.flight=9\n", "max.in.flight"),
    ] {
        fs::write(&config, text).unwrap();
        let ended = Running::of(listen(given).spawn().unwrap()).end();
        ended.failed(2, &[part]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}

#[test]
fn a_topic_that_is_not_there_is_said_and_what_came_is_sent_when_it_is() {
    let Some(mut tansu) = Tansu::start(Storage::Memory) else { return };
    let mut stage = Stage::journal();
    let (config, password) = (stage.dir().join("conf"), stage.dir().join("password"));
    fs::write(&config, "security.protocol=plaintext\n").unwrap();
    fs::write(&password, "hunter2\n").unwrap();
    let config = config.display().to_string();
    let mut command = stage.command(&tansu, &["--kafka-config", &config, "--flush-timeout", "1s"]);
    command.env("RINGEST_KAFKA_USER", "alice").env("RINGEST_KAFKA_PASSWORD_FILE", &password);
    let program = stage.run(command);
    stage.load(&program, "records, and what is wrong", |records| {
        records >= 50 && program.said().contains("there is no topic records at the broker")
    });
    let (summary, said) = program.stop();
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(summary["pending"], stage.sent(), "{summary:#}");

    // At the next start it is sent.
    tansu.create_topic(TOPIC, 1);
    let program = stage.start(&tansu, &["--flush-timeout", "20s"]);
    stage.load_until_it_catches_up(&program);
    assert_eq!(stage.stop(program, &mut tansu), 0);
}
