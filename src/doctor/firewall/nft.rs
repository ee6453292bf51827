//! `nft -j list ruleset` as chains (libnftables-json(5)).

use std::collections::HashMap;

use serde_json::Value;

use crate::check::word;
use crate::firewall::iptables;
use crate::firewall::model::{Base, Chain, Holds, Rule, Target, Verdict};

/// Protocols whose headers a UDP datagram does not have: a condition on one never holds.
const NOT_UDP: [&str; 12] =
    ["tcp", "icmp", "icmpv6", "igmp", "sctp", "dccp", "esp", "ah", "comp", "arp", "udplite", "gre"];

/// Returns the chains of a ruleset. `listing` is the output of `nft -a list ruleset`, for the text of the rules.
///
/// # Errors
/// `json` is not a ruleset.
pub(crate) fn chains(json: &str, listing: &str, target: &Target) -> Result<Vec<Chain>, String> {
    let root: Value = serde_json::from_str(json).map_err(|error| format!("nft -j: {error}"))?;
    let objects = root.get("nftables").and_then(Value::as_array);
    let objects = objects.ok_or("nft -j: no list of objects")?;
    let texts = rule_texts(listing);
    let mut chains: Vec<Chain> = Vec::new();
    for object in objects {
        if let Some(found) = object.get("chain") {
            chains.extend(chain(found, target));
        }
        if let Some(found) = object.get("rule") {
            let name = name(found, text(found, "chain"));
            if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
                chain.rules.extend(rules(found, &name, &texts, target));
            }
        }
    }
    Ok(chains)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the unique name of a chain, as nft takes it: `inet filter input`.
fn name(object: &Value, chain: &str) -> String {
    format!("{} {} {chain}", text(object, "family"), text(object, "table"))
}

/// Returns the same as words of a shell command.
fn command_name(name: &str) -> String {
    name.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn chain(object: &Value, target: &Target) -> Option<Chain> {
    let name = name(object, object.get("name")?.as_str()?);
    let can_match = match text(object, "family") {
        "inet" | "netdev" => true,
        "ip" => target.four,
        "ip6" => target.six,
        _ => false,
    };
    let before_sockets = match (text(object, "type"), text(object, "hook")) {
        // Datagrams that a host sends to itself were translated on their way out.
        ("nat", "prerouting") => !target.loopback,
        (_, hook) => ["ingress", "prerouting", "input"].contains(&hook),
    };
    let accept = target.port.map_or_else(String::new, |port| {
        format!("nft insert rule {} udp dport {port} accept", command_name(&name))
    });
    let policy_drops = text(object, "policy") == "drop";
    let base = before_sockets.then_some(Base { policy_drops, accept });
    can_match.then_some(Chain { name, base, rules: Vec::new() })
}

type Texts = HashMap<(String, u64), String>;

/// Returns the text of each rule by chain and handle, from the listing for people.
fn rule_texts(listing: &str) -> Texts {
    let mut texts = Texts::new();
    let (mut table, mut chain) = ("", "");
    for line in listing.lines().map(str::trim) {
        let (body, handle) = line.rsplit_once(" # handle ").unwrap_or((line, ""));
        let head = |kind| body.strip_prefix(kind).and_then(|rest| rest.strip_suffix(" {"));
        if let Some(name) = head("table ") {
            table = name;
        } else if let Some(name) = head("chain ") {
            chain = name;
        } else if let Ok(handle) = handle.parse() {
            texts.insert((format!("{table} {chain}"), handle), body.to_owned());
        }
    }
    texts
}

/// Returns a rule for each verdict of `object`; a verdict map has several.
fn rules(object: &Value, name: &str, texts: &Texts, target: &Target) -> Vec<Rule> {
    let handle = object.get("handle").and_then(Value::as_u64).unwrap_or(0);
    let said = texts.get(&(name.to_owned(), handle)).map_or("a rule", String::as_str);
    let mut holds = Holds::Yes;
    let mut port_alone = false;
    let mut verdicts = Vec::new();
    let table = name.rsplit_once(' ').map_or("", |(table, _)| table);
    let parts = object.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, part) in parts.iter().enumerate() {
        let Some((kind, body)) = part.as_object().and_then(|part| part.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => {
                port_alone |= is_port_alone(body, target);
                holds = holds.min(condition(body, target));
            }
            // A comment of iptables-nft.
            "xt" if text(body, "name") == "comment" => {}
            // A target of iptables stands last. An old nft does not print its name.
            "xt" if index + 1 == parts.len() => {
                let target = body.get("name").and_then(Value::as_str).unwrap_or("unknown");
                verdicts.extend(iptables::verdicts(target, holds));
            }
            "vmap" => verdicts.extend(verdict_map(table, body, holds, target)),
            "counter" | "log" | "comment" | "notrack" | "ct helper" | "ct timeout" => {}
            "mangle" => {
                let field = body.pointer("/key/payload/field").and_then(Value::as_str);
                let moves = matches!(field, Some("dport" | "daddr"));
                verdicts.extend(moves.then_some((holds, Verdict::Elsewhere)));
            }
            // A program that takes datagrams may give them back; they meet no later rule of the chain.
            "queue" => verdicts.extend(iptables::verdicts("NFQUEUE", holds)),
            // Takes datagrams only if a transparent socket is there.
            "tproxy" => verdicts.push((holds.min(Holds::Maybe), Verdict::Elsewhere)),
            kind => match verdict(kind, body, table) {
                Some(verdict) => verdicts.push((holds, verdict)),
                // A limit, a set that is filled, or a statement of a newer nft.
                None => holds = holds.min(Holds::Maybe),
            },
        }
    }
    let rule = |(holds, verdict)| Rule {
        holds,
        verdict,
        port_alone,
        text: format!("chain {name}: {said} (handle {handle})"),
        delete: format!("nft delete rule {} handle {handle}", command_name(name)),
    };
    verdicts.into_iter().map(rule).collect()
}

/// Returns the verdict that a statement gives by itself; `None`: it is none.
fn verdict(kind: &str, body: &Value, table: &str) -> Option<Verdict> {
    Some(match kind {
        // A translated source keeps no datagram away.
        "accept" | "snat" | "masquerade" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "redirect" | "dnat" | "fwd" => Verdict::Elsewhere,
        "jump" | "goto" => Verdict::Jump(format!("{table} {}", text(body, "target"))),
        "return" => Verdict::Return,
        _ => return None,
    })
}

/// Returns the entries of `ct state vmap { established : accept, invalid : drop }`.
fn verdict_map(table: &str, map: &Value, holds: Holds, target: &Target) -> Vec<(Holds, Verdict)> {
    let Some(elements) = map.pointer("/data/set").and_then(Value::as_array) else {
        // The entries of a named map are not in the rule: any verdict is possible.
        let some = holds.min(Holds::Maybe);
        return vec![(some, Verdict::Accept), (some, Verdict::Drop)];
    };
    let entry = |element: &Value| {
        let (value, entry) = (element.get(0)?, element.get(1)?.as_object()?.iter().next()?);
        let verdict = verdict(entry.0, entry.1, table)?;
        Some((holds.min(compare(map.get("key")?, value, target)), verdict))
    };
    elements.iter().filter_map(entry).collect()
}

/// Returns whether the condition holds for the port looked for and no other: no set, range or negation.
fn is_port_alone(condition: &Value, target: &Target) -> bool {
    let field = condition.pointer("/left/payload/field").and_then(Value::as_str);
    let port = condition.get("right").and_then(Value::as_u64);
    let equal = text(condition, "op") == "==";
    field == Some("dport") && equal && port.is_some() && port == target.port.map(u64::from)
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

/// Returns whether `left` is (one of) `right` in the datagrams looked for.
fn compare(left: &Value, right: &Value, target: &Target) -> Holds {
    let key = |pointer| left.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name =
        |value: &Value, holds: &dyn Fn(&str) -> Holds| value.as_str().map_or(Holds::Maybe, holds);
    match (key("/payload/protocol"), key("/payload/field"), key("/meta/key"), key("/ct/key")) {
        ("udp" | "th", "dport", ..) => {
            any_of(right, &|value| match (value.as_u64(), range(value)) {
                (Some(port), _) => target.is_port(port, port),
                (None, Some((first, last))) => target.is_port(first, last),
                _ => Holds::Maybe,
            })
        }
        ("ip", ..) if !target.four => Holds::No,
        ("ip6", ..) if !target.six => Holds::No,
        ("ip", "protocol", ..) | ("ip6", "nexthdr", ..) | (_, _, "l4proto", _) => {
            any_of(right, &is_udp)
        }
        (_, _, "nfproto" | "protocol", _) => {
            any_of(right, &|value| name(value, &|family| is_family(family, target)))
        }
        (_, _, "iifname" | "iif", _) => {
            any_of(right, &|value| name(value, &|interface| target.comes_by(interface)))
        }
        (.., "state") => any_of(right, &|value| name(value, &Target::is_state)),
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

fn is_family(family: &str, target: &Target) -> Holds {
    match family {
        "ipv4" | "ip" | "ipv6" | "ip6" if target.four && target.six => Holds::Maybe,
        "ipv4" | "ip" => Holds::from(target.four),
        "ipv6" | "ip6" => Holds::from(target.six),
        "arp" => Holds::No,
        _ => Holds::Maybe,
    }
}

/// Compares with a value, or with each of a set.
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
    use crate::firewall::rules::findings;
    use proptest::prelude::*;

    /// Output of nft 1.0.6 on a host set up as in Debian's wiki, with a rule for one port.
    const RULESET: &str = include_str!("../../../tests/fixtures/doctor/nft/debian.json");
    const LISTING: &str = include_str!("../../../tests/fixtures/doctor/nft/debian.txt");

    fn at(port: u16) -> Target {
        Target { port: Some(port), four: true, ..Target::default() }
    }

    fn of(json: &str, target: &Target) -> Vec<(bool, String)> {
        let found = findings(&chains(json, LISTING, target).unwrap());
        found.into_iter().map(|finding| (finding.sure, finding.fix)).collect()
    }

    #[test]
    fn a_port_that_is_let_in_is_and_others_meet_the_policy() {
        assert!(of(RULESET, &at(514)).is_empty());
        let opened = "nft insert rule inet filter input udp dport 9001 accept".to_owned();
        assert_eq!(of(RULESET, &at(9001)), [(true, opened)]);
        // A rule of its own is deleted by its handle.
        let delete = "nft delete rule inet filter input handle 10".to_owned();
        assert_eq!(of(RULESET, &at(9000)), [(true, delete)]);
        let text = &findings(&chains(RULESET, LISTING, &at(9000)).unwrap())[0].text;
        assert!(text.contains("udp dport 9000 counter packets 0"), "{text}");
        // Loopback comes by lo.
        assert!(of(RULESET, &Target { loopback: true, ..at(9000) }).is_empty());
    }

    /// Lists a chain at `hook` with one rule.
    fn ruled(kind: &str, expr: &str, target: &Target) -> Vec<(bool, String, String)> {
        let json = format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"t","name":"c","type":"{kind}","hook":"prerouting","policy":"accept"}}}},{{"rule":{{"family":"inet","table":"t","chain":"c","handle":1,"expr":[{expr}]}}}}]}}"#
        );
        let found = findings(&chains(&json, "", target).unwrap());
        found.into_iter().map(|finding| (finding.sure, finding.text, finding.fix)).collect()
    }

    fn one(expr: &str) -> Vec<bool> {
        ruled("filter", expr, &at(9000)).into_iter().map(|(sure, ..)| sure).collect()
    }

    #[test]
    fn conditions_are_judged() {
        let drop = r#"{"drop":null}"#;
        let when = |left: &str, op: &str, right: &str| {
            one(&format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}},{drop}"#))
        };
        let payload = |protocol: &str, field: &str| {
            format!(r#"{{"payload":{{"protocol":"{protocol}","field":"{field}"}}}}"#)
        };
        let (dport, proto) = (&payload("udp", "dport"), r#"{"meta":{"key":"l4proto"}}"#);
        let (iif, state) = (r#"{"meta":{"key":"iifname"}}"#, r#"{"ct":{"key":"state"}}"#);
        assert_eq!(one(drop), [true]);
        assert_eq!(when(dport, "==", "9000"), [true]);
        assert!(when(dport, "==", "9001").is_empty());
        assert_eq!(when(dport, "!=", "9001"), [true]);
        assert_eq!(when(dport, "==", r#"{"set":[1,{"range":[8999,9001]}]}"#), [true]);
        assert_eq!(when(dport, "==", r#""@ports""#), [false]);
        assert_eq!(when(proto, "==", r#""udp""#), [true]);
        assert_eq!(when(proto, "==", r#"{"set":["tcp","udp"]}"#), [true]);
        assert!(when(proto, "==", "6").is_empty());
        assert!(when(&payload("tcp", "dport"), "!=", "22").is_empty());
        assert_eq!(when(&payload("ip", "saddr"), "==", r#""192.0.2.9""#), [false]);
        assert_eq!(when(&payload("ip", "daddr"), "==", r#""192.0.2.9""#), [false]);
        assert!(when(&payload("ip6", "saddr"), "==", r#""::1""#).is_empty());
        assert!(when(iif, "==", r#""lo""#).is_empty());
        assert_eq!(when(iif, "==", r#""eth0""#), [false]);
        assert!(when(state, "in", r#""invalid""#).is_empty());
        assert_eq!(when(state, "in", r#"["new","related"]"#), [true]);
        assert_eq!(when(r#"{"numgen":{"mode":"random","mod":2}}"#, "==", "0"), [false]);
        assert_eq!(one(&format!(r#"{{"limit":{{"rate":1}}}},{drop}"#)), [false]);
        let map = r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["established",{"accept":null}],["invalid",{"drop":null}]]}}}"#;
        assert!(one(map).is_empty());
        assert_eq!(one(&map.replace("invalid", "new")), [true]);
        assert_eq!(one(r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":"@m"}}"#), [false]);
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
            ruled("filter", &expr, &at(9000)).remove(0).2
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
        let judged = |statement: &str| {
            let expr = format!(r#"{},{{"counter":null}},{statement}"#, port_is("==", "9000"));
            let found = ruled("nat", &expr, &at(9000)).into_iter();
            found
                .map(|(sure, text, fix)| (sure, text.starts_with("taken"), fix))
                .collect::<Vec<_>>()
        };
        for statement in [
            r#"{"redirect":{"port":9001}}"#,
            r#"{"dnat":{"family":"ip","addr":"172.17.0.2","port":9000}}"#,
            r#"{"fwd":{"dev":"eth1"}}"#,
            r#"{"mangle":{"key":{"payload":{"protocol":"udp","field":"dport"}},"value":9001}}"#,
            r#"{"xt":{"type":"target","name":"REDIRECT"}}"#,
        ] {
            assert_eq!(judged(statement), [(true, true, DELETE.to_owned())], "{statement}");
        }
        for statement in [
            r#"{"queue":{"num":1,"flags":"bypass"}},{"drop":null}"#,
            r#"{"tproxy":{"port":50080}},{"accept":null}"#,
            r#"{"xt":{"type":"target","name":"NFQUEUE"}}"#,
        ] {
            assert_eq!(judged(statement), [(false, true, OPEN.to_owned())], "{statement}");
        }
        for statement in [
            r#"{"masquerade":null}"#,
            r#"{"mangle":{"key":{"meta":{"key":"mark"}},"value":1}}"#,
            r#"{"xt":{"type":"target","name":"MARK"}}"#,
        ] {
            assert!(judged(statement).is_empty(), "{statement}");
        }
        // A target of iptables that an older nft does not name.
        assert_eq!(judged(r#"{"xt":null}"#), [(false, false, OPEN.to_owned())]);
        // A datagram that this host sends to itself is translated on its way out.
        let loopback = Target { loopback: true, ..at(9000) };
        assert!(ruled("nat", r#"{"redirect":{"port":9001}}"#, &loopback).is_empty());
    }

    #[test]
    fn text_that_is_no_ruleset_is_refused() {
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
                    let _ = findings(&chains);
                }
            }
        }
    }
}
