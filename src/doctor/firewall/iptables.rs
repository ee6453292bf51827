//! `iptables-save` as chains (iptables-extensions(8)). Options it does not know make a condition that
//! holds maybe.

use std::net::{IpAddr, SocketAddr};

use crate::check::word;
use crate::firewall::chains::{Base, Chain, Holds, Rule, Target, Verdict, diverted, may_go};

/// The chains of what `iptables-save` wrote. `command` is the program that changes these tables.
pub(crate) fn chains(text: &str, command: &str, six: bool, target: &Target) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = "";
    if (six && !target.six) || (!six && !target.four) {
        return chains;
    }
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            // INPUT of `nat` translates sources, which keeps no datagram away.
            let entered = match (table, name) {
                ("nat", "PREROUTING") => !target.is_loopback(),
                ("nat", _) => false,
                (_, "PREROUTING" | "INPUT") => true,
                _ => false,
            };
            let accept = target.port.map_or_else(String::new, |port| {
                format!(
                    "{command} -t {} -I {} -p udp --dport {port} -j ACCEPT",
                    word(table),
                    word(name)
                )
            });
            let base = entered.then(|| Base { policy_drops: policy == "DROP", accept });
            chains.push(Chain {
                name: format!("{command} {table} {name}"),
                base,
                rules: Vec::new(),
            });
        } else if let Some(body) = line.strip_prefix("-A ") {
            let words = words(body);
            let Some(name) = words.first() else { continue };
            let name = format!("{command} {table} {name}");
            // `iptables-save` names all chains of a table before its rules.
            let is_chain = |name: &str| chains.iter().any(|chain| chain.name == name);
            let mut rule = rule(&words, &format!("{command} {table}"), target, &is_chain);
            if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
                let delete = words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ");
                rule.text = format!("{command} -t {table} -A {body}");
                rule.delete = format!("{command} -t {} -D {delete}", word(table));
                chain.rules.push(rule);
            }
        }
    }
    chains
}

/// Words as a shell would see them: a comment stands in double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut escaped, mut begun) = (false, false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                escaped = false;
                word.push(c);
            }
            '\\' if quoted => escaped = true,
            '"' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                begun = true;
                word.push(c);
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

fn rule(words: &[String], table: &str, target: &Target, is_chain: &dyn Fn(&str) -> bool) -> Rule {
    let mut holds = Holds::Yes;
    let mut names_port = false;
    let mut verdicts = Vec::new();
    let mut rest = words.iter().skip(1).map(String::as_str);
    let mut negated = false;
    while let Some(option) = rest.next() {
        let mut and = |condition: Holds| {
            holds = holds.min(if negated { condition.not() } else { condition });
        };
        match option {
            "!" => {
                negated = true;
                continue;
            }
            "-p" => and(match rest.next() {
                Some("udp" | "17") => Holds::Yes,
                Some("all") | None => Holds::Yes,
                Some(_) => Holds::No,
            }),
            "--dport" | "--dports" | "--destination-port" => {
                let text = rest.next().unwrap_or_default();
                // Of several ports, or all but one, this is only one: the rule is not about it alone.
                names_port |= !negated && target.port.is_some() && text.parse().ok() == target.port;
                and(ports(text, target));
            }
            "-i" => and(rest.next().map_or(Holds::Maybe, |name| target.comes_by(name))),
            "--ctstate" | "--state" => and(states(rest.next().unwrap_or_default())),
            // What a rule loads or says, and what follows it is read by the options above.
            "-m" | "--comment" => drop(rest.next()),
            "-j" | "-g" => {
                let to = rest.next().unwrap_or_default();
                let name = format!("{table} {to}");
                match (is_chain(&name), option) {
                    (true, "-g") => verdicts.push((holds, Verdict::Goto(name))),
                    (true, _) => verdicts.push((holds, Verdict::Jump(name))),
                    (false, _) => {
                        let elsewhere = translates(rest.clone(), target);
                        verdicts.extend(extension(to, holds, elsewhere));
                    }
                }
            }
            // Of a verdict already given.
            "--reject-with" | "--log-prefix" | "--log-level" => drop(rest.next()),
            _ => and(Holds::Maybe),
        }
        negated = false;
    }
    let specific = may_go(names_port, &verdicts);
    Rule { verdicts, specific, text: String::new(), delete: String::new() }
}

/// Targets that look, count, mark or alter what is no address: the next rule follows.
const PASSING: [&str; 26] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "LOG",
    "MARK",
    "NFLOG",
    "NOTRACK",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// What a target that is no chain does with datagrams (iptables-extensions(8)); `elsewhere`: whether
/// the destination it would give them is another one. nft shows such targets as `xt`.
pub(crate) fn extension(name: &str, holds: Holds, elsewhere: Holds) -> Vec<(Holds, Verdict)> {
    match name {
        // Another source keeps no datagram away.
        "ACCEPT" | "SNAT" | "MASQUERADE" => vec![(holds, Verdict::Accept)],
        "DROP" | "REJECT" => vec![(holds, Verdict::Drop)],
        "RETURN" => vec![(holds, Verdict::Return)],
        "REDIRECT" | "DNAT" => diverted(holds, elsewhere),
        // TPROXY drops what it has no transparent socket for, and an engine's are not transparent.
        "TPROXY" | "NETMAP" => diverted(holds, Holds::Yes),
        // The program that takes them may give them back.
        "NFQUEUE" | "QUEUE" => diverted(holds, Holds::Maybe),
        name if name.is_empty() || PASSING.contains(&name) => Vec::new(),
        // What is not known here may do anything.
        _ => vec![(holds.min(Holds::Maybe), Verdict::Drop)],
    }
}

/// Whether the destination that the options of REDIRECT and DNAT give is elsewhere.
fn translates<'a>(options: impl Iterator<Item = &'a str>, target: &Target) -> Holds {
    let mut options = options
        .skip_while(|option| !["--to-ports", "--to-port", "--to-destination"].contains(option));
    if options.next().is_none() {
        return target.leaves_for(None, None);
    }
    let to = options.next().unwrap_or_default();
    let bare = to.trim_start_matches('[').trim_end_matches(']');
    if let Ok(port) = to.trim_start_matches(':').parse() {
        target.leaves_for(None, Some(port))
    } else if let Ok(to) = to.parse::<SocketAddr>() {
        target.leaves_for(Some(to.ip()), Some(to.port()))
    } else if let Ok(ip) = bare.parse::<IpAddr>() {
        target.leaves_for(Some(ip), None)
    } else {
        Holds::Maybe // a range: it may hold this destination
    }
}

/// `514`, `2055:2060`, `514,9000:9001`.
fn ports(text: &str, target: &Target) -> Holds {
    let one = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => target.is_port(first, last),
            _ => Holds::Maybe,
        }
    };
    text.split(',').map(one).max().unwrap_or(Holds::Maybe)
}

/// The first datagram of a sender is of no known flow.
fn states(text: &str) -> Holds {
    if text.split(',').any(|state| state == "NEW") { Holds::Yes } else { Holds::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::chains::droppers;
    use proptest::prelude::*;

    const SAVED: &str = include_str!("../../../tests/fixtures/doctor/iptables/docker.txt");

    fn of(text: &str, port: u16) -> Vec<(bool, String)> {
        let target = Target { port: Some(port), four: true, ..Target::default() };
        let found = droppers(&chains(text, "iptables", false, &target));
        found.into_iter().map(|dropper| (dropper.certain, dropper.fix)).collect()
    }

    #[test]
    fn a_saved_table_is_walked() {
        let delete = "iptables -t filter -D INPUT -p udp -m udp --dport 9000 -m comment --comment \
                      'not today; $(rm)' -j DROP";
        assert_eq!(of(SAVED, 9000)[0], (true, delete.to_owned()));
        assert!(of(SAVED, 514).is_empty());
        let open = "iptables -t filter -I INPUT -p udp --dport 9001 -j ACCEPT";
        assert_eq!(of(SAVED, 9001), [(false, open.to_owned()), (false, open.to_owned())]);
        assert!(of("", 1).is_empty());
    }

    #[test]
    fn options_are_judged() {
        let one = |options: &str| {
            let text =
                format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {options} -j DROP\nCOMMIT\n");
            of(&text, 9000).into_iter().map(|(certain, _)| certain).collect::<Vec<_>>()
        };
        assert_eq!(one(""), [true]);
        assert!(one("-p tcp -m tcp --dport 9000").is_empty());
        assert_eq!(one("-p udp -m multiport --dports 1,8999:9001"), [true]);
        assert!(one("-p udp -m udp ! --dport 9000").is_empty());
        assert_eq!(one("-s 192.0.2.1/32"), [false]);
        assert!(one("-i lo").is_empty());
        assert_eq!(one("! -i eth0"), [false]);
        assert!(one("-m conntrack --ctstate INVALID").is_empty());
        assert_eq!(one("-m conntrack --ctstate NEW"), [true]);
        assert_eq!(one("-m limit --limit 5/sec"), [false]);
    }

    /// The fix of a rule of INPUT that drops port 9000.
    fn fix(options: &str) -> String {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {options} -j DROP\nCOMMIT\n");
        of(&text, 9000).remove(0).1
    }

    #[test]
    fn only_a_rule_about_this_port_alone_is_deleted() {
        for options in ["-p udp -m udp --dport 9000", "-p udp -m multiport --dports 9000"] {
            assert_eq!(fix(options), format!("iptables -t filter -D INPUT {options} -j DROP"));
        }
        for options in [
            "-p udp -m udp --dport 8999:9001",
            "-p udp -m udp --dport 9000:9000",
            "-p udp -m multiport --dports 53,9000",
            "-p udp -m udp ! --dport 53",
            "-p udp -m multiport ! --dports 53",
            "-s 192.0.2.0/24 -p udp -m udp --dport 9000",
            "-p udp -m udp --dport 9000 -m limit --limit 5/sec",
            "-p udp",
        ] {
            let open = "iptables -t filter -I INPUT -p udp --dport 9000 -j ACCEPT";
            assert_eq!(fix(options), open, "{options}");
        }
        // Nor is one in a chain that only some enter.
        let some = "*filter\n:INPUT ACCEPT [0:0]\n:some - [0:0]\n-A INPUT -s 192.0.2.0/24 -j some\n\
                    -A some -p udp -m udp --dport 9000 -j DROP\n";
        assert!(of(some, 9000)[0].1.contains("-I INPUT"), "{:?}", of(some, 9000));
    }

    #[test]
    fn targets_that_take_datagrams_elsewhere_are_found() {
        let judged = |table: &str, chain: &str, rule: &str, ip: Option<&str>| {
            let text = format!("*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT\n");
            let ip = ip.map(|ip| ip.parse().unwrap());
            let ours = vec!["192.0.2.1".parse().unwrap()];
            let target = Target { port: Some(9000), ip, four: true, six: false, ours };
            let found = droppers(&chains(&text, "iptables", false, &target));
            found.iter().map(|d| (d.certain, d.elsewhere)).collect::<Vec<_>>()
        };
        let nat =
            |rule: &str| judged("nat", "PREROUTING", &format!("-p udp --dport 9000 {rule}"), None);
        assert_eq!(nat("-j REDIRECT --to-ports 9001"), [(true, true)]);
        assert_eq!(nat("-j DNAT --to-destination 172.17.0.2:9000"), [(true, true)]);
        assert_eq!(nat("-j DNAT --to-destination 192.0.2.9"), [(true, true)]);
        assert_eq!(nat("-j NETMAP --to 192.0.2.0/24"), [(true, true)]);
        assert_eq!(nat("-j REDIRECT --to-ports 9001-9009"), [(false, true)]);
        assert_eq!(nat("! -i docker0 -j DNAT --to-destination 172.17.0.2:80"), [(false, true)]);
        // To where it would have gone.
        assert!(nat("-j REDIRECT --to-ports 9000").is_empty());
        assert!(nat("-j DNAT --to-destination 192.0.2.1:9000").is_empty());
        assert!(nat("-j MARK --set-xmark 0x1/0xffffffff").is_empty());
        // Of another port, on another way, and back from a program.
        let other = "-p udp --dport 514 -j REDIRECT --to-ports 9001";
        assert!(judged("nat", "PREROUTING", other, None).is_empty());
        let rule = "-p udp --dport 9000 -j REDIRECT --to-ports 9001";
        assert!(judged("nat", "OUTPUT", rule, None).is_empty());
        assert!(judged("nat", "PREROUTING", rule, Some("127.0.0.1")).is_empty());
        let tproxy = "-p udp --dport 9000 -j TPROXY --on-port 50080 --on-ip 0.0.0.0";
        assert_eq!(judged("mangle", "PREROUTING", tproxy, None), [(true, true)]);
        let queue = "-p udp -j NFQUEUE --queue-num 0 --queue-bypass";
        assert_eq!(judged("filter", "INPUT", queue, None), [(false, true)]);
        // What is neither a chain nor known may drop; a chain by such a name is one.
        assert_eq!(judged("filter", "INPUT", "-j NOVEL --x 1", None), [(false, false)]);
        let chain = "*filter\n:INPUT ACCEPT [0:0]\n:NOVEL - [0:0]\n-A INPUT -j NOVEL\n";
        assert!(of(chain, 9000).is_empty());
        let table = format!("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING {rule}\n");
        let delete = format!("iptables -t nat -D PREROUTING {rule}");
        assert_eq!(of(&table, 9000), [(true, delete)]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>(), cut in 0..SAVED.len(), byte in any::<u8>()) {
            let mut bytes = SAVED.as_bytes().to_vec();
            bytes[cut] = byte;
            let _ = (of(&text, 9000), of(&String::from_utf8_lossy(&bytes), 9000));
        }
    }
}
