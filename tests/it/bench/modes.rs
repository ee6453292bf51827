//! `ringest bench`, every mode from end to end, its `--json` to the letter, and what it says to what
//! cannot be.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::bench::rig::{Desk, Host, Running, all_balance, alone, balances, bench, count, trials};

/// The keys that were promised, whatever was asked; more may stand beside them.
const REPORT: [&str; 6] = ["version", "mode", "ndr_pps", "pdr_pps", "host", "trials"];
const TRIAL: [&str; 10] = [
    "intended_pps",
    "duration_s",
    "intended",
    "unsent",
    "sent",
    "received",
    "handled",
    "lost",
    "cpu_ns_per_datagram",
    "void",
];
const LOST: [&str; 6] = ["unsent", "network", "nic", "backlog", "socket", "queue"];

/// Modes, and the keys each adds.
const MODES: [(&str, &[&str]); 5] = [
    ("ndr", &["goals"]),
    ("compare", &["variants"]),
    ("burst", &["burst"]),
    ("latency", &["goals", "latencies"]),
    ("curve", &["curve"]),
];

fn has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.as_object().unwrap().contains_key(*key), "no {key} in {value}");
    }
}

/// Checks that the document has the promised keys, each of its kind.
fn documented(found: &Value, mode: &str, more: &[&str]) {
    has(found, &REPORT);
    has(found, more);
    assert_eq!((count(found, "version"), &found["mode"]), (1, &Value::from(mode)));
    for rate in ["ndr_pps", "pdr_pps"] {
        assert!(found[rate].is_null() || found[rate].as_f64().unwrap() > 0.0, "{rate}: {found}");
    }
    assert!(found["host"]["kernel"].is_string() && found["loopback"] == true, "{found}");
    for trial in trials(found) {
        let void = trial["void"].as_bool().unwrap();
        has(trial, &TRIAL);
        has(&trial["lost"], &LOST);
        assert!(!void || trial["void_reason"].is_string(), "{trial}");
        for (part, cost) in trial["cpu_ns_per_datagram"].as_object().unwrap() {
            assert!(cost.is_null() || cost.as_f64().unwrap() >= 0.0, "{part}: {trial}");
        }
        assert!(trial["duration_s"].as_f64().unwrap() > 0.0, "{trial}");
        assert!(trial["intended_pps"].is_null() || trial["intended_pps"].as_f64().unwrap() > 0.0);
        if !void {
            balances(trial);
        }
    }
}

#[test]
fn every_mode_runs_from_end_to_end() {
    let _alone = alone();
    let desk = Desk::new();
    for (mode, more) in MODES {
        let (json, page) = (desk.path("report.json"), desk.path("report.html"));
        let ended = bench(&format!(
            "{mode} --smoke --seed 1 --json {} --report {}",
            json.display(),
            page.display()
        ));
        assert!(ended.status.success(), "{mode}: {ended:?}");
        assert!(!ended.stdout.is_empty() && ended.stderr.contains("trial 1"), "{mode}: {ended:?}");
        let found: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        documented(&found, mode, more);
        assert!(trials(&found).iter().any(|trial| trial["void"] == false), "{mode}: {found}");
        let warned = found["warnings"].to_string();
        assert!(warned.contains("loopback"), "{mode}: {warned}");
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains("<html") && page.contains("<svg"), "{mode}");
    }
}

#[test]
fn what_a_search_finds_is_within_its_bounds() {
    let _alone = alone();
    let ended = bench("ndr --smoke --gso off --min-rate 1k --max-rate 4k --quiet --json -");
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stderr, "", "--quiet");
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    documented(&found, "ndr", &["goals"]);
    all_balance(&found);
    for goal in found["goals"].as_array().unwrap() {
        let lower = goal["lower_pps"].as_f64().unwrap_or(1000.0);
        let upper = goal["upper_pps"].as_f64().unwrap_or(4000.0);
        assert!((1000.0..=4000.0).contains(&lower) && (lower..=4000.0).contains(&upper), "{goal}");
    }
    let (ndr, pdr) = (found["ndr_pps"].as_f64(), found["pdr_pps"].as_f64());
    assert!(ndr.unwrap_or(0.0) <= pdr.unwrap_or(f64::INFINITY), "{ndr:?} {pdr:?}");
}

/// Nothing starts, and nothing hangs.
#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    for (args, code, reason) in [
        ("ndr --size 65508", 2, "65507"),
        ("ndr --size 100-65508", 2, "65507"),
        ("ndr --gso 64 --size 1400", 2, "46 datagrams of this size"),
        ("ndr --gso 65", 2, "64"),
        ("ndr --gso 2 --size imix", 2, "one size"),
        ("ndr --min-rate 0", 2, "--min-rate"),
        ("ndr --max-rate 0", 2, "--max-rate"),
        ("curve --max-rate 0", 2, "--max-rate"),
        ("compare --fixed 0", 2, "--fixed"),
        ("latency --ndr 0", 2, "--ndr"),
        ("latency --loads 0", 2, "--loads"),
        ("ndr --min-rate 20k --max-rate 10k --smoke", 2, "lowest"),
        ("ndr --flows 70000 --smoke", 2, "64511"),
        ("ndr --flows 0 --smoke", 2, "--flows 0"),
        ("ndr --flows 1,2 --smoke", 2, "curve takes a list"),
        ("ndr --threads 2 --smoke", 2, "raise --flows"),
        ("ndr --duration 0s", 2, "--duration"),
        ("burst --longest 0", 2, "--longest"),
        ("burst --repetitions 0", 2, "--repetitions"),
        ("compare --rounds 0", 2, "--rounds"),
        ("compare --only xyz --smoke", 2, "--only xyz"),
        ("ndr --token sesame", 2, "HOST"),
        ("ndr --slots 0 --smoke", 2, "slots = 0"),
        ("ndr --receivers 0 --smoke", 2, "receivers = 0"),
        ("ndr --server-cores 1023 --smoke", 2, "cores = 1023"),
        ("ndr --bind 192.0.2.77 --smoke", 1, "--bind"),
        ("ndr --json /nonexistent/report.json", 1, "cannot write /nonexistent/report.json"),
        ("ndr --report /nonexistent/report.html", 1, "cannot write /nonexistent/report.html"),
        ("ndr 127.0.0.1:1", 1, "cannot reach a bench server at 127.0.0.1:1"),
        ("ndr [::1]:1", 1, "cannot reach a bench server at [::1]:1"),
        ("server 0.0.0.0:0", 2, "--token"),
        ("server [::]:0", 2, "--token"),
        ("server 0.0.0.0:0 --token=", 2, "--token"),
        ("server 192.0.2.77:0 --token x", 1, "cannot listen on 192.0.2.77:0"),
        ("server no:such:thing", 2, "expected IP"),
        ("server 127.0.0.1:0 --parent 1", 1, "--parent is for"),
    ] {
        let ended = bench(args);
        assert_eq!(ended.status.code(), Some(code), "{args}: {ended:?}");
        assert!(ended.stderr.contains(reason), "{args}: {ended:?}");
        assert_eq!(ended.stdout, "", "{args}");
        assert!(!ended.stderr.contains("panicked"), "{args}: {ended:?}");
    }
}

#[test]
fn a_taken_control_port_is_said() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let ended = bench(&format!("server {address}"));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("cannot listen on {address}")), "{ended:?}");
}

/// More flows than this host has source ports, or descriptors: said, not hung in.
#[test]
fn more_flows_than_there_can_be_are_said() {
    let ended = bench("curve --smoke --max-rate 50k --flows 64511");
    if ended.status.success() {
        println!("skipped: this host has 64511 source ports");
        return;
    }
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let next_move = ended.stderr.contains("lower --flows") || ended.stderr.contains("source port");
    assert!(next_move, "{ended:?}");
}

/// Somebody else's server, or one that hangs up: no bench server.
#[test]
fn a_port_that_is_no_bench_server_is_said() {
    use std::io::{Read, Write};
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "{\"type\":\"marked\"}\n", "", "{\"type\""] {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = door.local_addr().unwrap();
        let client = Running::bench(&Host::Here, &format!("ndr {address} --smoke"));
        let (mut stream, _) = door.accept().unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        let ended = client.end();
        assert_eq!(ended.status.code(), Some(1), "{answer}: {ended:?}");
        assert!(ended.stderr.contains("does not answer as one"), "{answer}: {ended:?}");
    }
}
