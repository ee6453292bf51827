//! `ringest listen --sink nats:…` as a user runs it, while either end dies, or one of three brokers does.

use std::fs;
use std::time::Duration;

use ringest_records::journal::segment;
use serde_json::json;

use tempfile::TempDir;

use crate::journal::rig::temp_dir;
use crate::load::rig::Running;
use crate::rigs::support::until;
use crate::ship::nats_probe::{Probe, Stored, are_whole};
use crate::ship::nats_rig::{Server, cluster, is_here};
use crate::ship::program_rig::listen;
use crate::ship::rig::{
    Broker, Held, Stage, absences, broker_dies, compare, program_dies, stopped_meanwhile,
};

/// One server or three, with the stream on all of them.
struct Site {
    servers: Vec<Server>,
    /// Which of them is dead, if one is.
    lost: Option<usize>,
    _place: TempDir,
}

impl Site {
    /// Starts this many servers, or returns `None`, with a printed reason, where there is no such program.
    fn of(servers: usize) -> Option<Self> {
        if !is_here() {
            return None;
        }
        let place = temp_dir();
        let servers = match servers {
            1 => vec![Server::alone(&place, "")],
            _ => cluster(&place),
        };
        Probe::new(&servers[0]).make_stream(servers.len(), &json!({}));
        Some(Self { servers, lost: None, _place: place })
    }

    fn probe(&self) -> Probe {
        Probe::new(&self.servers[usize::from(self.lost == Some(0))])
    }

    /// Loses the one that leads the stream.
    fn lose_the_leader(&mut self) {
        let mut leader = None;
        until("a leader", || {
            leader = self.probe().leader();
            leader.is_some()
        });
        let leader: usize = leader.unwrap()[1..].parse().unwrap();
        self.servers[leader].kill();
        self.lost = Some(leader);
    }

    fn regain_it(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.servers[lost].start();
        }
    }
}

fn held(stored: Vec<Stored>) -> Vec<Held> {
    let held = |stored: Stored| Held {
        id: stored.headers["Nats-Msg-Id"].clone(),
        peer: stored.headers["Ringest-Peer"].clone(),
        payload: stored.payload,
    };
    stored.into_iter().map(held).collect()
}

impl Broker for Site {
    fn sink(&self) -> String {
        let servers: Vec<String> =
            self.servers.iter().map(|server| server.address().to_string()).collect();
        format!("nats:nats://{}/LOGS/logs.syslog", servers.join(","))
    }

    fn count(&mut self) -> u64 {
        self.probe().count().unwrap_or(0)
    }

    fn contents(&mut self) -> Vec<Held> {
        held(self.probe().contents())
    }

    fn kill(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
    }

    fn start(&mut self) {
        self.servers.iter_mut().for_each(Server::start);
    }
}

#[test]
fn killed_and_started_again_the_program_ships_what_its_journal_has() {
    let Some(mut site) = Site::of(1) else { return };
    assert_eq!(program_dies(&mut site, &mut Stage::journal(), &[]), 0);
}

#[test]
fn while_its_broker_is_dead_it_receives_and_then_ships_all() {
    let Some(mut site) = Site::of(1) else { return };
    let mut stage = Stage::journal();
    assert_eq!(broker_dies(&mut site, &mut stage, &absences(2), &[]), 0);
}

#[test]
fn so_it_does_from_a_spool_which_it_empties() {
    let Some(mut site) = Site::of(1) else { return };
    let mut stage = Stage::spool();
    assert_eq!(broker_dies(&mut site, &mut stage, &absences(1), &[]), 0);
    let left = segment::list(stage.dir()).unwrap();
    assert!(left.len() == 1 && left[0].sequence > 1, "what was sent is removed: {left:?}");
}

#[test]
fn so_it_does_while_three_brokers_are_dead() {
    let Some(mut site) = Site::of(3) else { return };
    let mut stage = Stage::journal();
    assert_eq!(broker_dies(&mut site, &mut stage, &absences(1), &[]), 0);
}

/// Kills the leader of three servers again and again, while the other two go on. One at a time: a server that
/// has not caught up yet is as good as dead.
fn one_of_three_dies(absences: &[Duration], more: &[&str]) {
    let Some(mut site) = Site::of(3) else { return };
    let mut stage = Stage::journal();
    let more = [more, &["--flush-timeout", "20s"]].concat();
    let program = stage.start(&site, &more);
    for length in absences {
        stage.load_until_it_has(&program, &mut site, 300);
        site.lose_the_leader();
        let dead = stage.records().len() as u64;
        stage.load_meanwhile(&program, *length, |_| true);
        stage.load(&program, "two of three to go on", |_| site.count() > dead);
        stage.load_until_it_catches_up(&program);
        site.regain_it();
        stage.load(&program, "all three to have all", |_| are_whole(&site.servers));
    }
    assert_eq!(stage.stop(program, &mut site), 0);
    let rounds = absences.len();
    println!("{} records past {rounds} leaders that died", stage.records().len());
    // Each of them says so, also those that were away.
    for server in &site.servers {
        let stored = held(Probe::new(server).contents());
        assert_eq!(compare(stage.records(), &stored), 0);
    }
}

#[test]
fn one_of_three_brokers_that_dies_is_not_missed() {
    one_of_three_dies(&absences(2), &[]);
}

#[test]
fn nor_is_it_with_many_records_of_a_peer_under_way() {
    one_of_three_dies(&absences(1), &["--nats-sole-writer"]);
}

#[test]
fn stopped_without_its_broker_it_says_what_waits_and_ships_it_later() {
    let Some(mut site) = Site::of(1) else { return };
    assert_eq!(stopped_meanwhile(&mut site, &mut Stage::spool(), &[]), 0);
}

/// A byte that flips in a sealed segment costs the one record that it is in.
#[test]
fn a_damaged_record_is_the_only_one_that_is_not_sent() {
    let Some(mut site) = Site::of(1) else { return };
    let mut stage = Stage::spool();
    site.kill();
    let program = stage.start(&site, &["--flush-timeout", "100ms"]);
    stage.load(&program, "some records", |records| records >= 500);
    program.stop();
    let journal = stage.records().to_vec();
    let lost = &journal[250];
    let path = segment::list(stage.dir()).unwrap().remove(0).path;
    let mut bytes = fs::read(&path).unwrap();
    let found = bytes.windows(lost.payload.len()).position(|some| *some == *lost.payload);
    bytes[found.unwrap()] ^= 1;
    fs::write(&path, bytes).unwrap();
    site.start();
    let program = stage.start(&site, &["--flush-timeout", "20s"]);
    stage.load_until_it_has(&program, &mut site, journal.len() as u64);
    stage.load_until_it_catches_up(&program);
    let (summary, said) = program.stop();
    assert_eq!(summary["delivered"], stage.sent(), "{said}");
    let destination = &summary["destinations"][0];
    assert_eq!(
        (&destination["undelivered"], &destination["backlog_records"]),
        (&json!(1), &json!(0))
    );
    let sent: Vec<Held> = stage.records().iter().filter(|held| *held != lost).cloned().collect();
    assert_eq!(destination["acknowledged"], sent.len(), "{summary:#}");
    assert_eq!(compare(&sent, &site.contents()), 0);
}

#[test]
fn what_is_wrong_is_said_without_secrets_and_what_came_is_sent_once_it_is_right() {
    if !is_here() {
        return;
    }
    let place = temp_dir();
    let server = "authorization { users: [ { user: joe, password: hunter2 }, \
                  { user: probe, password: probe } ] }";
    let site = Site { servers: vec![Server::alone(&place, server)], lost: None, _place: place };
    let mut stage = Stage::spool();
    let run = |stage: &mut Stage, password: &str, wrong: &str| {
        let mut command = stage.command(&site, &["--flush-timeout", "100ms"]);
        command.env("RINGEST_NATS_USER", "joe").env("RINGEST_NATS_PASSWORD", password);
        let program = stage.run(command);
        stage.load(&program, wrong, |_| program.said().contains(wrong));
        let (summary, said) = program.stop();
        assert!(!said.contains("hunter2") && !said.contains("wr0ng"), "{said}");
        assert_eq!(summary["pending"], stage.sent(), "{summary:#}");
    };
    run(&mut stage, "wr0ng", "authorization violation: the user or the password is wrong");
    run(&mut stage, "hunter2", "stream LOGS does not exist: create it (nats stream add LOGS");
    let mut probe = Probe::with_user(&site.servers[0], "probe");
    probe.make_stream(1, &json!({"subjects": ["logs.other"]}));
    run(&mut stage, "hunter2", "stream LOGS does not take subject logs.syslog, only logs.other");
    let all = json!({"name": "LOGS", "subjects": ["logs.*"], "storage": "file"});
    probe.request("STREAM.UPDATE.LOGS", &all);

    let password = stage.dir().join("password");
    fs::write(&password, "hunter2\n").unwrap();
    let mut command = stage.command(&site, &["--flush-timeout", "20s"]);
    command.env("RINGEST_NATS_USER", "joe").env("RINGEST_NATS_PASSWORD_FILE", &password);
    let program = stage.run(command);
    stage.load_until_it_catches_up(&program);
    program.stop();
    let stored = held(probe.contents());
    assert_eq!(compare(stage.records(), &stored), 0);
}

#[test]
fn a_password_on_the_command_line_is_refused_and_not_said() {
    let place = temp_dir();
    let spool = place.path().display().to_string();
    let given = ["--sink", "nats:nats://joe:hunter2@127.0.0.1:9/S/s", "--spool", &spool];
    let ended = Running::of(listen(given).spawn().unwrap()).end();
    ended.failed(2, &["RINGEST_NATS_PASSWORD"]);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}
