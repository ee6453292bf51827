//! `iptables-save -c` as chains (iptables-extensions(8)). An option that is not known here makes a condition that may
//! hold.

use crate::check::word;
use crate::firewall::model::{Base, Chain, Holds, Rule, Target, Verdict};

/// Returns the chains in the output of `iptables-save`. `command` is the program that changes these tables; `wanted`
/// says whether the datagrams looked for may be of its address family.
pub(crate) fn chains(text: &str, command: &str, wanted: bool, target: &Target) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = "";
    for line in text.lines().filter(|_| wanted) {
        // `[packets:bytes]`, where counters are shown.
        let (counter, line) = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((counter, line)) => (counter.split(':').next(), line),
            None => (None, line),
        };
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            let entered = match (table, name) {
                // INPUT of `nat` translates sources, which keeps no datagram away.
                ("nat", "PREROUTING") => !target.loopback,
                ("nat", _) => false,
                (_, name) => ["PREROUTING", "INPUT"].contains(&name),
            };
            let (of, into) = (word(table), word(name));
            let accept = target.port.map_or_else(String::new, |port| {
                format!("{command} -t {of} -I {into} -p udp --dport {port} -j ACCEPT")
            });
            let base = entered.then_some(Base { policy_drops: policy == "DROP", accept });
            let name = format!("{command} {table} {name}");
            chains.push(Chain { name, base, rules: Vec::new() });
        } else if let Some(body) = line.strip_prefix("-A ") {
            let words = words(body);
            let Some(name) = words.first() else { continue };
            let name = format!("{command} {table} {name}");
            // `iptables-save` names all chains of a table before its rules.
            let is_chain = |name: &str| chains.iter().any(|chain| chain.name == name);
            let (port_alone, verdicts) =
                read(&words, &format!("{command} {table}"), target, &is_chain);
            let shown = counter.map_or_else(String::new, |packets| format!(" ({packets} packets)"));
            let delete = words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ");
            let rule = |(holds, verdict)| Rule {
                holds,
                verdict,
                // The words of a comment with a backslash are not exactly the rule's, so none would be deleted.
                port_alone: port_alone && !body.contains('\\'),
                text: format!("{command} -t {table} -A {body}{shown}"),
                delete: format!("{command} -t {} -D {delete}", word(table)),
            };
            if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
                chain.rules.extend(verdicts.into_iter().map(rule));
            }
        }
    }
    chains
}

/// Returns the words of a rule. A comment stands in double quotes and is one word; a backslash keeps a quote in it.
fn words(line: &str) -> Vec<String> {
    const QUOTE: char = '\u{0}';
    let line = line.replace(r"\\", "").replace("\\\"", &QUOTE.to_string());
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        1 => vec![part.replace(QUOTE, "\"")],
        _ => part.split_whitespace().map(ToOwned::to_owned).collect(),
    });
    words.collect()
}

/// Returns whether the rule names the port and no other, and its verdicts.
fn read(
    words: &[String],
    table: &str,
    target: &Target,
    is_chain: &dyn Fn(&str) -> bool,
) -> (bool, Vec<(Holds, Verdict)>) {
    let (mut holds, mut port_alone, mut negated) = (Holds::Yes, false, false);
    let mut rest = words.iter().skip(1).map(String::as_str);
    while let Some(option) = rest.next() {
        let condition = match option {
            "!" => {
                negated = true;
                continue;
            }
            // The name of a match, whose options follow, or a remark.
            "-m" | "--comment" => {
                rest.next();
                continue;
            }
            "-j" | "-g" => {
                let to = rest.next().unwrap_or_default();
                let name = format!("{table} {to}");
                if is_chain(&name) {
                    return (port_alone, vec![(holds, Verdict::Jump(name))]);
                }
                return (port_alone, verdicts(to, holds));
            }
            "-p" => Holds::from(matches!(rest.next(), Some("udp" | "17" | "all") | None)),
            "--dport" | "--dports" | "--destination-port" => {
                let text = rest.next().unwrap_or_default();
                port_alone |= !negated && target.port.is_some() && text.parse().ok() == target.port;
                ports(text, target)
            }
            "-i" => rest.next().map_or(Holds::Maybe, |name| target.comes_by(name)),
            "--ctstate" | "--state" => {
                let states = rest.next().unwrap_or_default().split(',');
                states.map(Target::is_state).max().unwrap_or(Holds::Maybe)
            }
            _ => Holds::Maybe,
        };
        holds = holds.min(if negated { condition.not() } else { condition });
        negated = false;
    }
    (port_alone, Vec::new())
}

/// Targets that look, count, mark, or alter no destination: the next rule follows.
const PASSING: &str = "AUDIT CHECKSUM CLASSIFY CONNMARK CONNSECMARK CT DSCP ECN HL HMARK IDLETIMER LED LOG MARK NFLOG \
                       NOTRACK RATEEST SECMARK SET TCPMSS TCPOPTSTRIP TEE TOS TRACE TTL ULOG";

/// Returns the verdicts of a target that is no chain (iptables-extensions(8)). nft shows such targets as `xt`.
pub(crate) fn verdicts(name: &str, holds: Holds) -> Vec<(Holds, Verdict)> {
    let some = holds.min(Holds::Maybe);
    match name {
        // A translated source keeps no datagram away.
        "ACCEPT" | "SNAT" | "MASQUERADE" => vec![(holds, Verdict::Accept)],
        "DROP" | "REJECT" => vec![(holds, Verdict::Drop)],
        "RETURN" => vec![(holds, Verdict::Return)],
        // TPROXY drops what it has no transparent socket for, and an engine's are not transparent.
        "REDIRECT" | "DNAT" | "NETMAP" | "TPROXY" => vec![(holds, Verdict::Elsewhere)],
        // The program that takes datagrams may give them back; they meet no later rule of the chain.
        "NFQUEUE" | "QUEUE" => vec![(some, Verdict::Elsewhere), (holds, Verdict::Accept)],
        name if name.is_empty() || PASSING.split(' ').any(|passing| passing == name) => Vec::new(),
        _ => vec![(some, Verdict::Drop)],
    }
}

/// Returns whether the port is in `514`, `2055:2060` or `514,9000:9001`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::rules::findings;
    use proptest::prelude::*;

    const SAVED: &str = include_str!("../../../tests/fixtures/doctor/iptables/docker.txt");

    fn of(text: &str, port: u16) -> Vec<(bool, String)> {
        let target = Target { port: Some(port), four: true, ..Target::default() };
        let found = findings(&chains(text, "iptables", true, &target));
        found.into_iter().map(|finding| (finding.sure, finding.fix)).collect()
    }

    #[test]
    fn a_saved_table_is_read() {
        let delete = "iptables -t filter -D INPUT -p udp -m udp --dport 9000 -m comment --comment \
                      'not today; $(rm)' -j DROP";
        assert_eq!(of(SAVED, 9000)[0], (true, delete.to_owned()));
        assert!(of(SAVED, 514).is_empty());
        // A rate, and a chain for some senders.
        let open = "iptables -t filter -I INPUT -p udp --dport 9001 -j ACCEPT";
        assert_eq!(of(SAVED, 9001), [(false, open.to_owned()), (false, String::new())]);
        assert!(of("", 1).is_empty());
    }

    #[test]
    fn counters_are_shown() {
        let text = "*filter\n:INPUT ACCEPT [0:0]\n[12:345] -A INPUT -p udp -j DROP\nCOMMIT\n";
        let target = Target { port: Some(9000), four: true, ..Target::default() };
        let found = findings(&chains(text, "iptables", true, &target));
        assert_eq!(found[0].text, "iptables -t filter -A INPUT -p udp -j DROP (12 packets)");
        assert!(chains(text, "iptables", false, &target).is_empty(), "another family");
    }

    #[test]
    fn options_are_judged() {
        let one = |options: &str| {
            let text =
                format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {options} -j DROP\nCOMMIT\n");
            of(&text, 9000).into_iter().map(|(sure, _)| sure).collect::<Vec<_>>()
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

    #[test]
    fn only_a_rule_about_this_port_alone_is_deleted() {
        let fix = |options: &str| {
            let text =
                format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {options} -j DROP\nCOMMIT\n");
            of(&text, 9000).remove(0).1
        };
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
            r#"-p udp -m udp --dport 9000 -m comment --comment "a \" -p tcp""#,
            "-p udp",
        ] {
            let open = "iptables -t filter -I INPUT -p udp --dport 9000 -j ACCEPT";
            assert_eq!(fix(options), open, "{options}");
        }
        // Nor is one in a chain that only some enter.
        let some = "*filter\n:INPUT ACCEPT [0:0]\n:some - [0:0]\n-A INPUT -s 192.0.2.0/24 -j some\n\
                    -A some -p udp -m udp --dport 9000 -j DROP\n";
        assert_eq!(of(some, 9000), [(false, String::new())]);
    }

    #[test]
    fn targets_that_take_datagrams_elsewhere_are_found() {
        let judged = |table: &str, chain: &str, rule: &str, loopback: bool| {
            let text = format!("*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT\n");
            let target = Target { port: Some(9000), loopback, four: true, six: false };
            let found = findings(&chains(&text, "iptables", true, &target));
            found.iter().map(|one| (one.sure, one.text.starts_with("taken"))).collect::<Vec<_>>()
        };
        let nat =
            |rule: &str| judged("nat", "PREROUTING", &format!("-p udp --dport 9000 {rule}"), false);
        assert_eq!(nat("-j REDIRECT --to-ports 9001"), [(true, true)]);
        assert_eq!(nat("-j DNAT --to-destination 172.17.0.2:9000"), [(true, true)]);
        assert_eq!(nat("-j NETMAP --to 192.0.2.0/24"), [(true, true)]);
        assert_eq!(nat("! -i docker0 -j DNAT --to-destination 172.17.0.2:80"), [(false, true)]);
        assert!(nat("-j MARK --set-xmark 0x1/0xffffffff").is_empty());
        // To another port, in another chain, and from this host to itself.
        let other = "-p udp --dport 514 -j REDIRECT --to-ports 9001";
        assert!(judged("nat", "PREROUTING", other, false).is_empty());
        let rule = "-p udp --dport 9000 -j REDIRECT --to-ports 9001";
        assert!(judged("nat", "OUTPUT", rule, false).is_empty());
        assert!(judged("nat", "PREROUTING", rule, true).is_empty());
        let tproxy = "-p udp --dport 9000 -j TPROXY --on-port 50080 --on-ip 0.0.0.0";
        assert_eq!(judged("mangle", "PREROUTING", tproxy, false), [(true, true)]);
        let queue = "-p udp -j NFQUEUE --queue-num 0 --queue-bypass";
        assert_eq!(judged("filter", "INPUT", queue, false), [(false, true)]);
        // A target that is neither a chain nor known may drop; a chain of such a name is a chain.
        assert_eq!(judged("filter", "INPUT", "-j NOVEL --x 1", false), [(false, false)]);
        let chain = "*filter\n:INPUT ACCEPT [0:0]\n:NOVEL - [0:0]\n-A INPUT -j NOVEL\n";
        assert!(of(chain, 9000).is_empty());
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
