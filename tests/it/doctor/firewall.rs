//! The checks of the packet filter and of connection tracking, on real rules. Fixes are run as printed, and then
//! datagrams must arrive.

use crate::doctor::rig::{PORT, arrives, engine_at, has, ward};
use crate::rigs::support::until;

#[test]
fn an_nft_rule_for_the_port() {
    let Some((cable, place, address)) = ward() else { return };
    if !has("nft") {
        return;
    }
    place.run(
        "nft 'add table inet house; add chain inet house input { type filter hook input priority \
         0; }; add rule inet house input tcp dport 22 accept; add rule inet house input udp dport \
         9000 counter drop'",
    );
    let sick = place.find_and_mend(&[&address], "firewall", "warning");
    assert!(sick.fix.starts_with("nft delete rule inet house input handle "), "{sick:?}");
    assert!(sick.found.contains("udp dport 9000 counter packets 0 bytes 0 drop"), "{sick:?}");
    arrives(&cable, engine_at(PORT));
    // A rule about other ports, too, stays as it is.
    place.run("nft 'add rule inet house input udp dport { 8999-9001 } counter drop'");
    let sick = place.find_and_mend(&[&address], "firewall", "warning");
    assert!(sick.found.contains("8999-9001"), "{sick:?}");
    assert_eq!(sick.fix, "nft insert rule inet house input udp dport 9000 accept");
    arrives(&cable, engine_at(PORT));
}

#[test]
fn rules_that_take_datagrams_elsewhere() {
    let Some((cable, place, address)) = ward() else { return };
    if !has("nft") {
        return;
    }
    let chain = |kind: &str| {
        format!(
            "nft 'add table ip house; add chain ip house way {{ type {kind} hook prerouting \
             priority -100; }}; flush chain ip house way; "
        )
    };
    for (kind, rule, status) in [
        ("nat", "udp dport 9000 redirect to :9001", "warning"),
        ("nat", "udp dport 8999-9001 dnat to 10.99.0.99", "warning"),
        ("filter", "udp dport 9000 queue num 0", "info"),
    ] {
        let rule = format!("{}add rule ip house way {rule}'", chain(kind));
        let made = place.shell(&rule);
        if !made.status.success() {
            println!("skipped: {rule}: {}", String::from_utf8_lossy(&made.stderr));
            continue;
        }
        let sick = place.find_and_mend(&[&address], "firewall", status);
        assert!(sick.found.starts_with("taken elsewhere by chain ip house way"), "{sick:?}");
        arrives(&cable, engine_at(PORT));
        place.run("nft delete table ip house");
    }
}

#[test]
fn an_nft_policy_that_lets_other_ports_in() {
    let Some((cable, place, address)) = ward() else { return };
    if !has("nft") {
        return;
    }
    place.run(
        "nft 'add table inet house; add chain inet house input { type filter hook input priority \
         0; policy drop; }; add rule inet house input ct state established,related accept; add \
         rule inet house input iif lo accept; add rule inet house input udp dport 514 accept'",
    );
    let sick = place.find_and_mend(&[&address], "firewall", "warning");
    assert_eq!(sick.found, "policy drop of chain inet house input");
    assert_eq!(sick.fix, "nft insert rule inet house input udp dport 9000 accept");
    arrives(&cable, engine_at(PORT));
    // A rule about some senders is listed, and not judged.
    place.run("nft insert rule inet house input ip saddr 192.0.2.0/24 drop");
    let some = place.examine(&[&address]);
    assert_eq!((some.check("firewall").status.as_str(), some.code), ("info", Some(0)));
    assert!(some.check("firewall").found.contains("ip saddr 192.0.2.0/24 drop"), "{some:#?}");
}

#[test]
fn a_chain_that_is_jumped_to_is_listed_and_not_judged() {
    let Some((_cable, place, address)) = ward() else { return };
    if !has("nft") {
        return;
    }
    place.run(
        "nft 'add table inet house; add chain inet house some; add chain inet house input { type \
         filter hook input priority 0; }; add chain inet house away { type filter hook forward \
         priority 0; }; add rule inet house some udp dport 9000 counter drop; add rule inet house \
         away drop'",
    );
    // No chain before the sockets leads there yet.
    assert_eq!(place.examine(&[&address]).check("firewall").status, "ok");
    place.run("nft add rule inet house input ip saddr 192.0.2.0/24 jump some");
    let listed = place.examine(&[&address]);
    let check = listed.check("firewall");
    assert_eq!((check.status.as_str(), check.fix.as_str()), ("info", ""), "{check:?}");
    assert!(check.found.starts_with("chain inet house some: udp dport 9000 counter"), "{check:?}");
}

#[test]
fn an_iptables_rule_for_the_port() {
    let Some((cable, place, address)) = ward() else { return };
    for iptables in ["iptables-legacy", "iptables-nft"] {
        if !has(iptables) {
            continue;
        }
        let made = place.shell(&format!(
            "{iptables} -A INPUT -p udp --dport 9000 -m comment --comment 'no; $(udp)' -j DROP"
        ));
        if !made.status.success() {
            println!("skipped: {iptables}: {}", String::from_utf8_lossy(&made.stderr));
            continue;
        }
        let sick = place.find_and_mend(&[&address], "firewall", "warning");
        assert!(sick.found.contains("9000"), "{sick:?}");
        arrives(&cable, engine_at(PORT));
    }
}

#[test]
fn senders_tracked_one_by_one() {
    let Some((cable, place, address)) = ward() else { return };
    let table = "nft 'add table inet house; add chain inet house input { type filter hook input \
                 priority 0; }; add rule inet house input ct state new counter'";
    if !has("nft") || !place.shell("test -r /proc/net/nf_conntrack").status.success() {
        println!("skipped: no connection tracking in this kernel");
        return;
    }
    place.run(table);
    // An entry stays in the table until it expires: after two seconds, in this namespace.
    let udp = "net.netfilter.nf_conntrack_udp_timeout";
    place.run(&format!("sysctl -qw {udp}=2 {udp}_stream=2"));
    let mut sick = None;
    until("a sender to be tracked", || {
        arrives(&cable, engine_at(PORT));
        let check = place.examine(&[&address]).check("conntrack_udp");
        sick = Some(check).filter(|check| check.status == "warning");
        sick.is_some()
    });
    let sick = sick.unwrap();
    assert!(sick.found.starts_with("senders to port 9000 that are tracked: "), "{sick:?}");
    place.run(&sick.fix);
    until("the entries to go, and no other to come", || {
        arrives(&cable, engine_at(PORT));
        place.examine(&[&address]).check("conntrack_udp").status == "ok"
    });
}
