//! Packet filters: the rules that can match the port, before a socket sees a datagram.
//!
//! nft and iptables are read into one model: chains of rules. Each rule has a verdict, and its conditions are judged
//! beforehand: **yes** (they hold for every first datagram of a sender to the port), **no** (for none) or **maybe**
//! (for some, or this reader does not know a condition). A chain is read from its top to the first rule that ends it
//! for all those datagrams. Jumps are not followed: the rules of a chain that is jumped to are listed as rules that
//! can match. So a listing says which rules to look at; it does not say what the kernel will decide.

use std::process::{Command, Stdio};

use ringest_base::text::figures::count;

use crate::check::{Check, Status};
use crate::files::Files;
use crate::firewall::model::{Chain, Holds, Target, Verdict};
use crate::firewall::{iptables, nft};
use crate::wanted::Wanted;

/// A rule or a policy that can keep datagrams from the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) text: String,
    /// The command that lets the port in. Empty for a chain that the kernel enters only by a jump.
    pub(crate) fix: String,
    /// Whether it matches everything to the port, and no rule before it in its chain can end the chain.
    pub(crate) sure: bool,
}

/// Rules shown of those found.
const SHOWN: usize = 3;

/// Returns the rules and policies that can keep the datagrams away, the sure ones first.
pub(crate) fn findings(chains: &[Chain]) -> Vec<Finding> {
    let mut reached: Vec<&Chain> = chains.iter().filter(|chain| chain.base.is_some()).collect();
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(&chain) = reached.get(next) {
        next += 1;
        for to in list(chain, &mut found) {
            let new = chains.iter().find(|chain| chain.name == to);
            reached.extend(new.filter(|new| !reached.iter().any(|known| known.name == new.name)));
        }
    }
    found.sort_by_key(|finding| !finding.sure);
    found.dedup();
    found
}

/// Adds what `chain` can keep away to `found`. Returns the names of the chains that it can jump to.
fn list<'a>(chain: &'a Chain, found: &mut Vec<Finding>) -> Vec<&'a str> {
    let mut jumps = Vec::new();
    // Rules before may have accepted a datagram, or sent it to a chain that does.
    let mut unclear = chain.base.is_none();
    let accept = chain.base.as_ref().map_or("", |base| base.accept.as_str());
    for rule in chain.rules.iter().filter(|rule| rule.holds != Holds::No) {
        let all = rule.holds == Holds::Yes;
        match &rule.verdict {
            Verdict::Drop | Verdict::Elsewhere => {
                let elsewhere = rule.verdict == Verdict::Elsewhere;
                let taken = if elsewhere { "taken elsewhere by " } else { "" };
                let sure = all && !unclear;
                // A rule with another condition is about some senders: it stays, and the port is let in before it.
                let fix = if sure && rule.port_alone { &rule.delete } else { accept };
                let (text, fix) = (format!("{taken}{}", rule.text), fix.to_owned());
                found.push(Finding { text, fix, sure });
            }
            Verdict::Jump(to) => jumps.push(to.as_str()),
            Verdict::Accept | Verdict::Return => {}
        }
        match rule.verdict {
            Verdict::Accept | Verdict::Drop | Verdict::Elsewhere if all => return jumps,
            Verdict::Drop | Verdict::Elsewhere => {}
            Verdict::Accept | Verdict::Return | Verdict::Jump(_) => unclear = true,
        }
    }
    if chain.base.as_ref().is_some_and(|base| base.policy_drops) {
        let text = format!("policy drop of chain {}", chain.name);
        found.push(Finding { text, fix: accept.to_owned(), sure: !unclear });
    }
    jumps
}

/// Runs a program that reads and changes nothing. Returns its output, or why there is none.
fn ask(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", said.lines().next().unwrap_or("failed").trim()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{program} is not installed"))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Checks the packet filter.
pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    let target = Target::of(wanted);
    let mut sources = Vec::new();
    let mut failed = Vec::new();
    let mut chains = Vec::new();
    let mut read = |source: &str, text: Result<Vec<Chain>, String>| match text {
        Ok(mut more) => {
            sources.push(source.to_owned());
            chains.append(&mut more);
        }
        Err(why) => failed.push(why),
    };
    let listing = ask("nft", &["-a", "list", "ruleset"]).unwrap_or_default();
    let rules = ask("nft", &["-j", "list", "ruleset"]);
    let has_nft = rules.is_ok();
    read("nft -j list ruleset", rules.and_then(|json| nft::chains(&json, &listing, &target)));
    for (command, names, wanted) in [
        ("iptables", "/proc/net/ip_tables_names", target.four),
        ("ip6tables", "/proc/net/ip6_tables_names", target.six),
    ] {
        let save = |save: &str, command: &str| {
            ask(save, &["-c"]).map(|text| iptables::chains(&text, command, wanted, &target))
        };
        let (any, legacy) = (format!("{command}-save"), format!("{command}-legacy"));
        // nft does not show the old tables. They exist only if a program has made them.
        if files.read(names).is_ok_and(|names| !names.trim().is_empty()) {
            let old = format!("{legacy}-save");
            read(&old, save(&old, &legacy).or_else(|_| save(&any, command)));
        } else if !has_nft && wanted {
            read(&any, save(&any, command));
        }
    }
    let source =
        if sources.is_empty() { "nft, iptables-save".to_owned() } else { sources.join(", ") };
    let check = Check::of("firewall", source);
    if sources.is_empty() {
        // A program that is installed but fails mostly needs root: that says more than one that is missing.
        let why = failed.iter().find(|why| !why.ends_with("not installed"));
        return vec![check.unknown(why.or_else(|| failed.first()).map_or("", String::as_str))];
    }
    vec![judge(check, &chains, &target)]
}

fn judge(check: Check, chains: &[Chain], target: &Target) -> Check {
    let found = findings(chains);
    let what = target.port.map_or_else(|| "UDP".to_owned(), |port| format!("UDP to port {port}"));
    let Some(first) = found.first() else {
        let rules = chains.iter().map(|chain| chain.rules.len() as u64).sum();
        return check.says(
            Status::Ok,
            &format!("{} rules, none drops {what}", count(rules)),
            "No rule before the sockets can match what is to be received and drop it or take it elsewhere.",
        );
    };
    let mut texts: Vec<&str> = found.iter().take(SHOWN).map(|one| one.text.as_str()).collect();
    let more = format!("{} more", found.len().saturating_sub(SHOWN));
    texts.extend((found.len() > SHOWN).then_some(more.as_str()));
    let texts = texts.join("; ");
    if target.port.is_none() {
        let meaning = "These rules can match UDP and keep it from the sockets. Give the address to listen on \
                       (`ringest doctor ADDR`) to see those that can match its port.";
        return check.says(Status::Info, &texts, meaning);
    }
    let (status, meaning) = if first.sure {
        let meaning = format!(
            "The first rule listed matches all {what} and keeps it from the sockets; no counter of UDP shows that."
        );
        (Status::Warning, meaning)
    } else {
        let meaning = format!(
            "These rules can match {what} and keep it from the sockets. Whether they do depends on conditions and \
             chains that are not evaluated here: look whether they apply to your senders, and at their counters."
        );
        (Status::Info, meaning)
    };
    check.says(status, &texts, &meaning).mended_by(&first.fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::model::{Base, Rule};

    fn rule(holds: Holds, verdict: Verdict) -> Rule {
        let text = || String::from("r");
        Rule { holds, verdict, port_alone: false, text: text(), delete: text() }
    }

    fn chain(name: &str, policy_drops: Option<bool>, rules: Vec<Rule>) -> Chain {
        let base = policy_drops.map(|policy_drops| Base { policy_drops, accept: "a".into() });
        Chain { name: name.into(), base, rules }
    }

    fn sure(chains: &[Chain]) -> Vec<bool> {
        findings(chains).iter().map(|finding| finding.sure).collect()
    }

    #[test]
    fn a_chain_is_listed_up_to_the_rule_that_ends_it() {
        use Holds::{Maybe, No, Yes};
        use Verdict::{Accept, Drop, Return};
        let input = |rules| [chain("in", Some(false), rules)];
        assert_eq!(sure(&input(vec![rule(Yes, Drop)])), [true]);
        assert_eq!(sure(&input(vec![rule(Maybe, Drop)])), [false]);
        assert!(sure(&input(vec![rule(No, Drop)])).is_empty());
        assert!(sure(&input(vec![rule(Yes, Accept), rule(Yes, Drop)])).is_empty());
        assert_eq!(sure(&input(vec![rule(Maybe, Accept), rule(Yes, Drop)])), [false]);
        assert_eq!(sure(&input(vec![rule(Maybe, Return), rule(Yes, Drop)])), [false]);
        assert_eq!(sure(&[chain("in", Some(true), vec![])]), [true]);
        assert!(sure(&[chain("in", Some(true), vec![rule(Yes, Accept)])]).is_empty());
        assert_eq!(sure(&[chain("in", Some(true), vec![rule(Maybe, Accept)])]), [false]);
    }

    #[test]
    fn a_chain_that_can_be_jumped_to_is_listed_and_nothing_in_it_is_sure() {
        use Holds::{Maybe, No, Yes};
        let jump = |holds, to: &str| rule(holds, Verdict::Jump(to.into()));
        let sub = || chain("sub", None, vec![rule(Yes, Verdict::Drop), jump(Yes, "in")]);
        let through = |holds| sure(&[chain("in", Some(false), vec![jump(holds, "sub")]), sub()]);
        assert_eq!([through(Yes), through(Maybe), through(No)], [vec![false], vec![false], vec![]]);
        assert!(sure(&[sub()]).is_empty(), "nothing enters it");
        let two = [chain("in", Some(false), vec![jump(Yes, "gone"), rule(Yes, Verdict::Drop)])];
        assert_eq!(sure(&two), [false], "the chain may have accepted");
    }

    #[test]
    fn a_rule_that_takes_datagrams_elsewhere_is_said_to() {
        let at = Target { port: Some(9000), four: true, ..Target::default() };
        let judged = |holds| {
            let rules = vec![rule(holds, Verdict::Elsewhere)];
            judge(Check::of("firewall", ""), &[chain("in", Some(false), rules)], &at)
        };
        let all = judged(Holds::Yes);
        assert_eq!((all.status, all.found.as_str()), (Status::Warning, "taken elsewhere by r"));
        assert!(all.meaning.contains("matches all UDP to port 9000"), "{all:?}");
        let some = judged(Holds::Maybe);
        assert_eq!((some.status, some.fix.as_str()), (Status::Info, "a"));
        assert!(some.meaning.starts_with("These rules can match UDP to port 9000"), "{some:?}");
        assert_eq!(judged(Holds::No).status, Status::Ok);
    }

    #[test]
    fn a_sure_drop_is_a_warning_and_only_with_an_address() {
        let drops = [chain("in", Some(false), vec![rule(Holds::Yes, Verdict::Drop)])];
        let at = Target { port: Some(9000), four: true, ..Target::default() };
        let check = judge(Check::of("firewall", ""), &drops, &at);
        assert_eq!((check.status, check.fix.as_str()), (Status::Warning, "a"));
        let check = judge(Check::of("firewall", ""), &drops, &Target::default());
        assert_eq!((check.status, check.fix.as_str()), (Status::Info, ""));
        assert_eq!(judge(Check::of("firewall", ""), &[], &at).status, Status::Ok);
    }
}
