//! Benches between two hosts: network namespaces made by `scripts/lab`, as root; skipped with a printed
//! reason elsewhere. What nftables and tc say they dropped is what the ledger must say.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::bench::rig::{
    Host, Running, Server, all_balance, alone, count, lost, lost_only, report, sum, trials,
};

const SERVER_IP: &str = "192.0.2.1";
const SERVER_IP6: &str = "2001:db8::1";
/// Two trials at known rates, one by one. No warm-up: it would be dropped as well, and the rule's
/// counter would not tell.
const TWO_TRIALS: &str = "--points 2 --rounds 1 --flows 1 --duration 200ms --warm-up 0";

/// Two hosts of a test's own; gone when dropped.
#[derive(Debug)]
struct Lab {
    name: String,
}

impl Lab {
    /// Makes the lab, or returns `None`, with a printed reason, where it cannot be made. In CI, as root, it
    /// must be.
    fn up() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { name: format!("{}-{number}", std::process::id()) };
        let tool = |name: &str| match Command::new(name).arg("-V").output() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{name}: {error}")),
        };
        let made =
            ["ip", "tc", "nft"].into_iter().try_for_each(tool).and_then(|()| lab.try_script("up"));
        let Err(reason) = made else { return Some(lab) };
        let must = std::env::var_os("CI").is_some() && nix::unistd::geteuid().is_root();
        assert!(!must, "no lab, and this is CI: {reason}");
        println!("skipped: no lab here: {reason}");
        None
    }

    fn try_script(&self, args: &str) -> Result<(), String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab");
        let output = Command::new(script).args(args.split(' ')).env("LAB", &self.name).output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    fn script(&self, args: &str) {
        self.try_script(args).unwrap();
    }

    fn host(&self, which: &str) -> Host {
        Host::Lab(self.netns(which))
    }

    fn netns(&self, which: &str) -> String {
        format!("ringest-lab-{}-{which}", self.name)
    }

    /// Returns a server on `ip`, with a token.
    fn server(&self, ip: &str) -> Server {
        let server = self.host("server");
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        Server::start(&server, &format!("{ip}:0 --token sesame"))
    }

    /// Runs the client in the other host against `server` and returns its report.
    fn report(&self, server: &Server, args: &str) -> Value {
        let (mode, args) = args.split_once(' ').unwrap();
        let args = format!("{mode} {} --token sesame {args}", server.address);
        report(&self.host("client"), &args)
    }

    /// Runs a command in a host and returns its output, read as JSON.
    fn json(&self, which: &str, args: &str) -> Value {
        let netns = self.netns(which);
        let output = Command::new("ip")
            .args(["netns", "exec", &netns])
            .args(args.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{args}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Returns how many packets the rule of `scripts/lab drop` (or `refuse`) has dropped.
    fn rule_dropped(&self, which: &str) -> u64 {
        let rules = self.json(which, "nft -j list table inet lab");
        let counter = |entry: &Value| {
            let exprs = entry["rule"]["expr"].as_array()?;
            exprs.iter().find_map(|expr| expr["counter"]["packets"].as_u64())
        };
        rules["nftables"].as_array().unwrap().iter().find_map(counter).unwrap()
    }

    /// Returns how many packets the client's tbf queue has dropped.
    fn tbf_dropped(&self) -> u64 {
        let qdiscs = self.json("client", "tc -j -s qdisc show dev cable");
        let tbf = qdiscs.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "tbf");
        tbf.unwrap()["drops"].as_u64().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(reason) = self.try_script("down") {
            println!("{reason}");
        }
    }
}

/// A cable loses nothing by itself, on either family.
#[test]
fn two_hosts_find_no_loss_where_there_is_none() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    for (ip, load) in [
        (SERVER_IP, "--gso off --gro off"),
        (SERVER_IP, "--gso 16 --gro on"),
        (SERVER_IP6, "--gso 16 --gro off"),
    ] {
        let server = lab.server(ip);
        let found = lab.report(&server, &format!("curve {TWO_TRIALS} --max-rate 10k {load}"));
        all_balance(&found);
        lost_only(&found, "nowhere");
        assert_eq!(found["loopback"], false, "{found}");
        assert_eq!(sum(&found, "handled"), sum(&found, "sent"), "{found}");
    }
}

#[test]
fn what_the_receivers_filter_drops_is_lost_in_the_network() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    // A train is one packet to the rule, and eight datagrams to everybody else.
    for (ip, percent, load, train) in [
        (SERVER_IP, 10, "--gso off --gro off", 1),
        (SERVER_IP, 50, "--gso 8 --gro on", 8),
        (SERVER_IP6, 50, "--gso off --gro on", 1),
    ] {
        let server = lab.server(ip);
        let (found, dropped) = undisturbed(|| {
            lab.script(&format!("drop {percent}"));
            let found = lab.report(&server, &format!("curve {TWO_TRIALS} --max-rate 20k {load}"));
            let dropped = lab.rule_dropped("server");
            lab.script("clear");
            (found, dropped)
        });
        all_balance(&found);
        assert!(dropped > 0, "{found}");
        assert_eq!(lost(&found, "network"), dropped * train, "{found}");
        let missing = sum(&found, "sent") - sum(&found, "handled");
        assert_eq!(missing, dropped * train, "{found}");
    }
}

/// Repeats a run until no other process filled the backlog of a core that ours needed too: datagrams lost
/// there are lost on top.
fn undisturbed(run: impl Fn() -> (Value, u64)) -> (Value, u64) {
    for _ in 0..5 {
        let (found, count) = run();
        let disturbed = |trial: &Value| {
            [("host_drops", "backlog"), ("host_drops", "nic"), ("sender_drops", "nic_tx")]
                .iter()
                .any(|(side, layer)| trial[side][layer] != 0)
        };
        if !found["trials"].as_array().unwrap().iter().any(disturbed) {
            return (found, count);
        }
        println!("disturbed: {found}");
    }
    panic!("the machine is too busy: the backlog of a core overflowed five times");
}

#[test]
fn what_the_senders_filter_refuses_is_not_sent() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    for (ip, load, train) in [(SERVER_IP, "--gso off", 1), (SERVER_IP6, "--gso 8 --gro on", 8)] {
        let server = lab.server(ip);
        lab.script("refuse 20");
        let found = lab.report(&server, &format!("curve {TWO_TRIALS} --max-rate 20k {load}"));
        let refused = lab.rule_dropped("client");
        lab.script("clear");
        all_balance(&found);
        lost_only(&found, "send_failed");
        assert!(refused > 0, "{found}");
        assert_eq!(lost(&found, "send_failed"), refused * train, "{found}");
    }
}

#[test]
fn what_the_senders_qdisc_drops_is_found_there() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    for (ip, backend) in [(SERVER_IP, "io_uring"), (SERVER_IP6, "recvmmsg")] {
        let server = lab.server(ip);
        lab.script("tbf 2mbit");
        let found = lab.report(
            &server,
            &format!("curve {TWO_TRIALS} --max-rate 40k --gso off --backend {backend}"),
        );
        let dropped = lab.tbf_dropped();
        lab.script("clear");
        all_balance(&found);
        lost_only(&found, "qdisc");
        assert!(dropped > 0, "{found}");
        assert_eq!(lost(&found, "qdisc"), dropped, "{found}");
    }
}

/// All at once: each loss still has its own place.
#[test]
fn losses_at_three_places_are_told_apart() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    let server = lab.server(SERVER_IP);
    lab.script("drop 10");
    lab.script("tbf 8mbit");
    let found = lab.report(
        &server,
        &format!(
            "curve {TWO_TRIALS} --max-rate 60k --gso off --gro off --stall --overload drop \
             --workers 1"
        ),
    );
    let (filter, qdisc) = (lab.rule_dropped("server"), lab.tbf_dropped());
    all_balance(&found);
    assert!(filter > 0 && qdisc > 0, "{found}");
    assert_eq!(lost(&found, "qdisc"), qdisc, "{found}");
    assert_eq!(lost(&found, "network") + lost(&found, "backlog"), filter, "{found}");
    let after = lost(&found, "queue") + lost(&found, "pool");
    assert_eq!(sum(&found, "received"), after + sum(&found, "handled"), "{found}");
    assert_eq!(lost(&found, "socket"), 0, "{found}");
}

/// Every mode works between two hosts, and knows that they are two.
#[test]
fn a_search_and_round_trips_work_between_two_hosts() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    let server = lab.server(SERVER_IP);
    for mode in ["ndr --smoke --min-rate 4k --max-rate 5k", "latency --smoke --ndr 5k --loads 50"] {
        let found = lab.report(&server, mode);
        all_balance(&found);
        assert!(trials(&found).iter().all(|trial| count(trial, "sent") > 0), "{found}");
    }
}

#[test]
fn hosts_that_cannot_be_reached_are_said() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    let client = lab.host("client");
    // No route, nobody with that address on the cable, and nobody at that port.
    for host in ["203.0.113.1", "192.0.2.99", SERVER_IP, SERVER_IP6] {
        let ended = Running::bench(&client, &format!("ndr {host} --token sesame --smoke")).end();
        assert_eq!(ended.status.code(), Some(1), "{host}: {ended:?}");
        assert!(ended.stderr.contains("cannot reach a bench server at"), "{ended:?}");
        assert!(ended.stderr.contains("ringest bench server"), "the next move: {ended:?}");
    }
}

#[test]
fn the_lab_is_made_once_and_removed_whole() {
    let _alone = alone();
    let Some(lab) = Lab::up() else { return };
    assert!(lab.try_script("up").unwrap_err().contains("is up already"));
    assert!(lab.try_script("drop 101").unwrap_err().contains("from 0 to 100"));
    assert!(lab.try_script("tbf nonsense").is_err());
    lab.script("status");
    lab.script("clear");
    lab.script("down");
    lab.script("down");
    assert!(lab.try_script("drop 1").unwrap_err().contains("make it first"));
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(!listed.contains(&lab.name), "{listed}");
}
