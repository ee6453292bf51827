//! `nft -j list ruleset` as chains (libnftables-json(5)).

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::check::word;
use crate::firewall::chains::{Base, Chain, Holds, Rule, Target, Verdict, diverted, may_go};
use crate::firewall::iptables;

/// Protocols whose headers a UDP datagram has not: a condition on one never holds.
const NOT_UDP: [&str; 12] =
    ["tcp", "icmp", "icmpv6", "igmp", "sctp", "dccp", "esp", "ah", "comp", "arp", "udplite", "gre"];

/// The chains of a ruleset, and in each rule what it does to the datagrams looked for. `listing` is
/// the output of `nft -a list ruleset`, for the rules' text.
pub(crate) fn chains(json: &str, listing: &str, target: &Target) -> Result<Vec<Chain>, String> {
    let root: Value = serde_json::from_str(json).map_err(|error| format!("nft -j: {error}"))?;
    let objects = root.get("nftables").and_then(Value::as_array);
    let objects = objects.ok_or("nft -j: no list of objects")?;
    let texts = rule_texts(listing);
    let mut chains: Vec<Chain> = Vec::new();
    let families = [
        "inet",
        if target.four { "ip" } else { "" },
        if target.six { "ip6" } else { "" },
        "netdev",
    ];
    for object in objects {
        if let Some(found) = object.get("chain") {
            chains
                .extend(chain(found, target).filter(|_| families.contains(&text(found, "family"))));
        }
        if let Some(found) = object.get("rule") {
            let name = name(found, text(found, "chain"));
            if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
                chain.rules.push(rule(found, &texts, target));
            }
        }
    }
    Ok(chains)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `inet filter input`: as nft takes it, and unique.
fn name(object: &Value, chain: &str) -> String {
    format!("{} {} {chain}", text(object, "family"), text(object, "table"))
}

/// The same as words of a command.
fn command_name(name: &str) -> String {
    name.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn chain(object: &Value, target: &Target) -> Option<Chain> {
    let name = name(object, object.get("name")?.as_str()?);
    let before_sockets = match (text(object, "type"), text(object, "hook")) {
        ("nat", "prerouting") => !target.is_loopback(),
        (_, hook) => ["ingress", "prerouting", "input"].contains(&hook),
    };
    let accept = target.port.map_or_else(String::new, |port| {
        format!("nft insert rule {} udp dport {port} accept", command_name(&name))
    });
    let base =
        before_sockets.then(|| Base { policy_drops: text(object, "policy") == "drop", accept });
    Some(Chain { name, base, rules: Vec::new() })
}

type Texts = HashMap<(String, u64), String>;

/// The rules' own words by chain and handle, from the listing for people.
fn rule_texts(listing: &str) -> Texts {
    let mut texts = Texts::new();
    let (mut table, mut chain) = ("", "");
    for line in listing.lines().map(str::trim) {
        let (body, handle) = line.rsplit_once(" # handle ").unwrap_or((line, ""));
        if let Some(name) = body.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) {
            table = name;
        } else if let Some(name) =
            body.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {"))
        {
            chain = name;
        } else if let Ok(handle) = handle.parse() {
            texts.insert((format!("{table} {chain}"), handle), body.to_owned());
        }
    }
    texts
}

fn rule(object: &Value, texts: &Texts, target: &Target) -> Rule {
    let name = name(object, text(object, "chain"));
    let handle = object.get("handle").and_then(Value::as_u64).unwrap_or(0);
    let said = texts.get(&(name.clone(), handle)).map_or("a rule", String::as_str);
    let mut holds = Holds::Yes;
    let mut names_port = false;
    let mut verdicts = Vec::new();
    let parts = object.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, part) in parts.iter().enumerate() {
        let Some((kind, body)) = part.as_object().and_then(|part| part.iter().next()) else {
            continue;
        };
        let to = || {
            format!("{} {} {}", text(object, "family"), text(object, "table"), text(body, "target"))
        };
        match kind.as_str() {
            "match" => {
                names_port |= is_port_alone(body, target);
                holds = holds.min(condition(body, target));
            }
            // A comment of iptables-nft.
            "xt" if text(body, "name") == "comment" => {}
            // A target of iptables stands last; an older nft does not say which one it is.
            "xt" if index + 1 == parts.len() => {
                verdicts.extend(iptables::extension(xt_target(body), holds, Holds::Yes));
            }
            "mangle" if is_destination(body) => verdicts.push((holds, Verdict::Elsewhere)),
            "counter" | "log" | "comment" | "mangle" | "notrack" | "ct helper" | "ct timeout" => {}
            "accept" => verdicts.push((holds, Verdict::Accept)),
            "drop" | "reject" => verdicts.push((holds, Verdict::Drop)),
            "jump" => verdicts.push((holds, Verdict::Jump(to()))),
            "goto" => verdicts.push((holds, Verdict::Goto(to()))),
            "return" => verdicts.push((holds, Verdict::Return)),
            // The program that takes them may give them back.
            "queue" => verdicts.extend(diverted(holds, Holds::Maybe)),
            "redirect" | "dnat" => verdicts.extend(diverted(holds, translates(body, target))),
            // To another interface.
            "fwd" => verdicts.push((holds, Verdict::Elsewhere)),
            // Another source keeps no datagram away.
            "snat" | "masquerade" => verdicts.push((holds, Verdict::Accept)),
            // Only if a transparent socket is there; else the rule ends here.
            "tproxy" => {
                holds = holds.min(Holds::Maybe);
                verdicts.push((holds, Verdict::Elsewhere));
            }
            "vmap" => verdicts.extend(verdict_map(object, body, holds, target)),
            // A limit, a set that is filled, what only a newer nft knows.
            _ => holds = holds.min(Holds::Maybe),
        }
    }
    Rule {
        specific: may_go(names_port, &verdicts),
        verdicts,
        text: format!("chain {name}: {said} (handle {handle})"),
        delete: format!("nft delete rule {} handle {handle}", command_name(&name)),
    }
}

/// `ct state vmap { established : accept, invalid : drop }`.
fn verdict_map(rule: &Value, map: &Value, holds: Holds, target: &Target) -> Vec<(Holds, Verdict)> {
    let null = Value::Null;
    let key = map.get("key").unwrap_or(&null);
    let Some(elements) = map.pointer("/data/set").and_then(Value::as_array) else {
        // A named map: its elements are not here, so anything may happen.
        return vec![
            (holds.min(Holds::Maybe), Verdict::Accept),
            (holds.min(Holds::Maybe), Verdict::Drop),
        ];
    };
    let entry = |element: &Value| {
        let (value, verdict) = (element.get(0)?, element.get(1)?.as_object()?.iter().next()?);
        let to = || {
            format!(
                "{} {} {}",
                text(rule, "family"),
                text(rule, "table"),
                text(verdict.1, "target")
            )
        };
        let verdict = match verdict.0.as_str() {
            "accept" => Verdict::Accept,
            "drop" => Verdict::Drop,
            "jump" => Verdict::Jump(to()),
            "goto" => Verdict::Goto(to()),
            _ => Verdict::Return,
        };
        Some((holds.min(compare(key, value, target)), verdict))
    };
    elements.iter().filter_map(entry).collect()
}

/// Whether the condition holds for the port looked for and no other: not a set or a range in which it
/// is, nor all ports but some.
fn is_port_alone(condition: &Value, target: &Target) -> bool {
    let field = condition.pointer("/left/payload/field").and_then(Value::as_str);
    let port = condition.get("right").and_then(Value::as_u64);
    field == Some("dport")
        && text(condition, "op") == "=="
        && port.is_some()
        && port == target.port.map(u64::from)
}

/// Of what `mangle` alters, whether it is where a datagram goes.
fn is_destination(mangle: &Value) -> bool {
    let field = mangle.pointer("/key/payload/field").and_then(Value::as_str);
    matches!(field, Some("dport" | "daddr"))
}

/// The target of iptables by its name.
fn xt_target(xt: &Value) -> &str {
    xt.get("name").and_then(Value::as_str).unwrap_or("a target that is not shown")
}

/// Whether the destination that `redirect` or `dnat` gives is elsewhere. A map, which holds for some,
/// or a range may lead to where a datagram goes anyway.
fn translates(body: &Value, target: &Target) -> Holds {
    let (ip, port) = (body.get("addr"), body.get("port"));
    let to_ip = ip.and_then(Value::as_str).and_then(|ip| ip.parse().ok());
    let to_port = port.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    if ip.is_some() != to_ip.is_some() || port.is_some() != to_port.is_some() {
        return Holds::Maybe;
    }
    target.leaves_for(to_ip, to_port)
}

fn condition(condition: &Value, target: &Target) -> Holds {
    let null = Value::Null;
    let left = condition.get("left").unwrap_or(&null);
    let right = condition.get("right").unwrap_or(&null);
    if let Some(protocol) = left.pointer("/payload/protocol").and_then(Value::as_str)
        && NOT_UDP.contains(&protocol)
    {
        return Holds::No; // whatever the operator: the header is not there
    }
    let holds = compare(left, right, target);
    match text(condition, "op") {
        "==" | "in" | "" => holds,
        "!=" => holds.not(),
        _ => Holds::Maybe,
    }
}

/// Whether `left` is (one of) `right` in the datagrams looked for.
fn compare(left: &Value, right: &Value, target: &Target) -> Holds {
    if let Some(payload) = left.get("payload") {
        return payload_is((text(payload, "protocol"), text(payload, "field")), right, target);
    }
    if let Some(key) = left.pointer("/meta/key").and_then(Value::as_str) {
        return match key {
            "l4proto" => any_of(right, &|value| is_udp(value)),
            "nfproto" | "protocol" => any_of(right, &|value| family(value, target)),
            "iifname" | "iif" => any_of(right, &|value| {
                value.as_str().map_or(Holds::Maybe, |name| target.comes_by(name))
            }),
            _ => Holds::Maybe,
        };
    }
    match left.pointer("/ct/key").and_then(Value::as_str) {
        // The first datagram of a sender decides whether any later one is of a known flow.
        Some("state") => any_of(right, &|value| match value.as_str() {
            Some("established" | "related" | "invalid") => Holds::No,
            Some("new") => Holds::Yes,
            _ => Holds::Maybe,
        }),
        _ => Holds::Maybe,
    }
}

fn payload_is((protocol, field): (&str, &str), right: &Value, target: &Target) -> Holds {
    match (protocol, field) {
        ("udp" | "th", "dport") => any_of(right, &|value| match (value.as_u64(), range(value)) {
            (Some(port), _) => target.is_port(port, port),
            (None, Some((first, last))) => target.is_port(first, last),
            _ => Holds::Maybe,
        }),
        (protocol, _) if NOT_UDP.contains(&protocol) => Holds::No,
        ("ip", _) if !target.four => Holds::No,
        ("ip6", _) if !target.six => Holds::No,
        ("ip", "protocol") | ("ip6", "nexthdr") => any_of(right, &|value| is_udp(value)),
        ("ip" | "ip6", "daddr") => any_of(right, &|value| {
            let ip = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
            match (ip, target.ip) {
                (Some(ip), Some(wanted)) => Holds::from(ip == wanted),
                _ => Holds::Maybe,
            }
        }),
        _ => Holds::Maybe,
    }
}

fn is_udp(value: &Value) -> Holds {
    match (value.as_str(), value.as_u64()) {
        (Some("udp"), _) | (_, Some(17)) => Holds::Yes,
        (Some(name), _) if name.starts_with('@') => Holds::Maybe,
        (Some(_), _) | (_, Some(_)) => Holds::No,
        _ => Holds::Maybe,
    }
}

/// Of a condition on the family, what it means for the families looked for.
fn family(value: &Value, target: &Target) -> Holds {
    let both = target.four && target.six;
    match value.as_str() {
        Some("ipv4" | "ip") if both => Holds::Maybe,
        Some("ipv6" | "ip6") if both => Holds::Maybe,
        Some("ipv4" | "ip") => Holds::from(target.four),
        Some("ipv6" | "ip6") => Holds::from(target.six),
        Some("arp") => Holds::No,
        _ => Holds::Maybe,
    }
}

/// A value, or any of a set of them.
fn any_of(right: &Value, one: &dyn Fn(&Value) -> Holds) -> Holds {
    let set = right.get("set").and_then(Value::as_array).or_else(|| right.as_array());
    match set {
        Some(values) => values.iter().map(one).max().unwrap_or(Holds::No),
        None => one(right),
    }
}

fn range(value: &Value) -> Option<(u64, u64)> {
    let ends = value.get("range")?;
    Some((ends.get(0)?.as_u64()?, ends.get(1)?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::chains::droppers;
    use proptest::prelude::*;

    /// What nft 1.0.6 says of a host as Debian's wiki sets one up, with a rule for one port.
    const RULESET: &str = include_str!("../../../tests/fixtures/doctor/nft/debian.json");
    const LISTING: &str = include_str!("../../../tests/fixtures/doctor/nft/debian.txt");

    fn at(port: u16) -> Target {
        let ip = Some("192.0.2.1".parse().unwrap());
        Target { port: Some(port), ip, four: true, ..Target::default() }
    }

    fn of(json: &str, target: &Target) -> Vec<(bool, String)> {
        let found = droppers(&chains(json, LISTING, target).unwrap());
        found.into_iter().map(|dropper| (dropper.certain, dropper.fix)).collect()
    }

    #[test]
    fn a_port_that_is_let_in_is_and_others_meet_the_policy() {
        assert!(of(RULESET, &at(514)).is_empty());
        let opened = "nft insert rule inet filter input udp dport 9001 accept".to_owned();
        assert_eq!(of(RULESET, &at(9001)), [(true, opened)]);
        // A rule of its own is deleted by its handle.
        assert_eq!(
            of(RULESET, &at(9000)),
            [(true, "nft delete rule inet filter input handle 10".to_owned())]
        );
        let text = &droppers(&chains(RULESET, LISTING, &at(9000)).unwrap())[0].text;
        assert!(text.contains("udp dport 9000 counter"), "{text}");
        // Loopback comes by lo.
        let loopback = Target { ip: Some("127.0.0.1".parse().unwrap()), ..at(9000) };
        assert!(of(RULESET, &loopback).is_empty());
    }

    fn one(expr: &str) -> Vec<bool> {
        let json = format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"t","name":"c","type":"filter","hook":"input","policy":"accept"}}}},{{"rule":{{"family":"inet","table":"t","chain":"c","handle":1,"expr":[{expr}]}}}}]}}"#
        );
        of(&json, &at(9000)).into_iter().map(|(certain, _)| certain).collect()
    }

    #[test]
    fn conditions_are_judged() {
        let drop = r#"{"drop":null}"#;
        let when = |left: &str, op: &str, right: &str| {
            one(&format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}},{drop}"#))
        };
        let (dport, proto) =
            (r#"{"payload":{"protocol":"udp","field":"dport"}}"#, r#"{"meta":{"key":"l4proto"}}"#);
        assert_eq!(one(drop), [true]);
        assert_eq!(when(dport, "==", "9000"), [true]);
        assert!(when(dport, "==", "9001").is_empty());
        assert_eq!(when(dport, "!=", "9001"), [true]);
        assert_eq!(when(dport, "==", r#"{"set":[1,{"range":[8999,9001]}]}"#), [true]);
        assert_eq!(when(dport, "==", r#""@ports""#), [false]);
        assert_eq!(when(proto, "==", r#""udp""#), [true]);
        assert_eq!(when(proto, "==", r#"{"set":["tcp","udp"]}"#), [true]);
        assert!(when(proto, "==", "6").is_empty());
        assert!(when(r#"{"payload":{"protocol":"tcp","field":"dport"}}"#, "!=", "22").is_empty());
        assert_eq!(
            when(r#"{"payload":{"protocol":"ip","field":"saddr"}}"#, "==", r#""192.0.2.9""#),
            [false]
        );
        assert!(
            when(r#"{"payload":{"protocol":"ip","field":"daddr"}}"#, "==", r#""192.0.2.9""#)
                .is_empty()
        );
        assert!(
            when(r#"{"payload":{"protocol":"ip6","field":"saddr"}}"#, "==", r#""::1""#).is_empty()
        );
        assert!(when(r#"{"ct":{"key":"state"}}"#, "in", r#""invalid""#).is_empty());
        assert_eq!(when(r#"{"ct":{"key":"state"}}"#, "in", r#"["new","related"]"#), [true]);
        assert_eq!(when(r#"{"numgen":{"mode":"random","mod":2}}"#, "==", "0"), [false]);
        assert_eq!(one(&format!(r#"{{"limit":{{"rate":1}}}},{drop}"#)), [false]);
        let map = r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["established",{"accept":null}],["invalid",{"drop":null}]]}}}"#;
        assert!(one(map).is_empty());
        assert_eq!(one(&map.replace("invalid", "new")), [true]);
    }

    /// What a rule of a chain of that type at prerouting comes to: certain, elsewhere, and the fix.
    fn found(kind: &str, expr: &str, target: &Target) -> Vec<(bool, bool, String)> {
        let json = format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"t","name":"c","type":"{kind}","hook":"prerouting","policy":"accept"}}}},{{"rule":{{"family":"inet","table":"t","chain":"c","handle":1,"expr":[{expr}]}}}}]}}"#
        );
        let found = droppers(&chains(&json, "", target).unwrap());
        found.into_iter().map(|d| (d.certain, d.elsewhere, d.fix)).collect()
    }

    fn port_is(op: &str, right: &str) -> String {
        let left = r#"{"payload":{"protocol":"udp","field":"dport"}}"#;
        format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}}"#)
    }

    const DELETE: &str = "nft delete rule inet t c handle 1";
    const OPEN: &str = "nft insert rule inet t c udp dport 9000 accept";

    #[test]
    fn only_a_rule_about_this_port_alone_is_deleted() {
        let fix = |conditions: &str| {
            let expr = format!(r#"{conditions},{{"drop":null}}"#);
            found("filter", &expr, &at(9000)).remove(0).2
        };
        let own = port_is("==", "9000");
        assert_eq!(fix(&own), DELETE);
        let source = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"192.0.2.9"}}"#;
        for conditions in [
            port_is("==", r#"{"set":[53,9000]}"#),
            port_is("==", r#"{"range":[8999,9001]}"#),
            port_is("!=", "53"),
            port_is("in", r#""@ports""#),
            port_is(">=", "1024"),
            format!("{own},{source}"),
            format!("{source},{own}"),
            format!(r#"{own},{{"limit":{{"rate":1}}}}"#),
        ] {
            assert_eq!(fix(&conditions), OPEN, "{conditions}");
        }
    }

    #[test]
    fn statements_that_take_datagrams_elsewhere_are_found() {
        let at = at(9000);
        let judged = |statement: &str| {
            let expr = format!(r#"{},{{"counter":null}},{statement}"#, port_is("==", "9000"));
            found("nat", &expr, &at)
        };
        for statement in [
            r#"{"redirect":{"port":9001}}"#,
            r#"{"dnat":{"family":"ip","addr":"172.17.0.2","port":9000}}"#,
            r#"{"dnat":{"addr":"172.17.0.2"}}"#,
            r#"{"fwd":{"dev":"eth1"}}"#,
            r#"{"mangle":{"key":{"payload":{"protocol":"udp","field":"dport"}},"value":9001}}"#,
            r#"{"xt":{"type":"target","name":"REDIRECT"}}"#,
        ] {
            assert_eq!(judged(statement), [(true, true, DELETE.to_owned())], "{statement}");
        }
        for statement in [
            r#"{"queue":{"num":1,"flags":"bypass"}}"#,
            r#"{"tproxy":{"port":50080}},{"accept":null}"#,
            r#"{"redirect":{"port":{"range":[9001,9009]}}}"#,
            r#"{"dnat":{"addr":{"map":{"key":1,"data":"@m"}}}}"#,
            r#"{"xt":{"type":"target","name":"NFQUEUE"}}"#,
        ] {
            assert_eq!(judged(statement), [(false, true, OPEN.to_owned())], "{statement}");
        }
        for statement in [
            r#"{"dnat":{"addr":"192.0.2.1","port":9000}}"#,
            r#"{"masquerade":null}"#,
            r#"{"mangle":{"key":{"meta":{"key":"mark"}},"value":1}}"#,
            r#"{"xt":{"type":"target","name":"MARK"}}"#,
        ] {
            assert!(judged(statement).is_empty(), "{statement}");
        }
        // A target of iptables that an older nft does not name.
        assert_eq!(judged(r#"{"xt":null}"#), [(false, false, OPEN.to_owned())]);
        // What this host sends to itself is translated on its way out.
        let loopback = Target { ip: Some("127.0.0.1".parse().unwrap()), ..at.clone() };
        assert!(found("nat", r#"{"redirect":{"port":9001}}"#, &loopback).is_empty());
        // What a program gave back meets no rule after it.
        let queue = r#"{"queue":{"num":1}},{"drop":null}"#;
        assert_eq!(found("filter", queue, &at), [(false, true, OPEN.to_owned())]);
    }

    #[test]
    fn what_is_no_ruleset_is_said() {
        for json in ["", "{}", "[]", r#"{"nftables":1}"#] {
            assert!(chains(json, "", &at(1)).is_err(), "{json}");
        }
        let odd =
            r#"{"nftables":[1,{"chain":{}},{"rule":{"expr":[{"match":null},{"vmap":1},3]}}]}"#;
        assert!(chains(odd, "", &at(1)).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_ruleset_makes_the_reader_panic(cut in 0..RULESET.len(), byte in any::<u8>(), text in any::<String>()) {
            let mut bytes = RULESET.as_bytes().to_vec();
            bytes[cut] = byte;
            for json in [String::from_utf8_lossy(&bytes).into_owned(), text.clone()] {
                if let Ok(chains) = chains(&json, &text, &at(9000)) {
                    let _ = droppers(&chains);
                }
            }
        }
    }
}
