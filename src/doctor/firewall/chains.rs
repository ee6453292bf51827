//! Packet filters: which rules could drop a datagram before a socket sees it.
//!
//! nft and iptables are read into one small model, chains of rules whose conditions were judged
//! beforehand: **yes** (holds for every datagram looked for), **no** (for none), **maybe** (for some,
//! or this reader does not know the condition). `droppers` then walks the chains as a datagram
//! would. Only what surely drops is called a failure. What takes datagrams elsewhere (address
//! translation, a queue to a program) is as bad as what drops them: the socket sees neither.

use std::collections::HashMap;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use crate::check::{Check, Status};
use crate::files::Files;
use crate::firewall::{iptables, nft};
use crate::networks;
use crate::wanted::Wanted;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holds {
    No,
    Maybe,
    Yes,
}

impl Holds {
    pub(crate) fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(crate) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// The datagrams looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) port: Option<u16>,
    /// Where to; `None`: any address.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) four: bool,
    pub(crate) six: bool,
    /// Addresses of this host.
    pub(crate) ours: Vec<IpAddr>,
}

impl Target {
    fn of(wanted: &Wanted) -> Self {
        let ips: Vec<IpAddr> = wanted.addresses.iter().map(std::net::SocketAddr::ip).collect();
        let dual = ips.iter().any(|ip| ip.is_ipv6() && ip.is_unspecified());
        let one = ips.first().filter(|ip| ips.len() == 1 && !ip.is_unspecified());
        Self {
            port: wanted.port(),
            ip: one.copied(),
            four: ips.is_empty() || dual || ips.iter().any(IpAddr::is_ipv4),
            six: ips.is_empty() || ips.iter().any(IpAddr::is_ipv6),
            ours: networks::all().into_iter().map(|network| network.ip).collect(),
        }
    }

    /// Whether it is what this host sends to itself. Such datagrams were translated on their way out,
    /// so that no address translation happens to them when they come in.
    pub(crate) fn is_loopback(&self) -> bool {
        self.ip.is_some_and(|ip| ip.is_loopback())
    }

    /// Whether a datagram whose destination becomes this one goes elsewhere. What is `None` is not
    /// translated, but a translation without an address leads to some address of this host.
    pub(crate) fn leaves_for(&self, ip: Option<IpAddr>, port: Option<u16>) -> Holds {
        let port = match (port, self.port) {
            (None, _) => Holds::No,
            (Some(_), None) => Holds::Maybe,
            (Some(port), Some(wanted)) => Holds::from(port != wanted),
        };
        let ip = match (ip, self.ip) {
            (None, None) => Holds::No,
            (None, Some(_)) => Holds::Maybe,
            (Some(ip), Some(wanted)) => Holds::from(ip != wanted),
            (Some(ip), None) => Holds::from(!self.ours.contains(&ip)),
        };
        port.max(ip)
    }

    pub(crate) fn is_port(&self, first: u64, last: u64) -> Holds {
        self.port.map_or(Holds::Maybe, |port| Holds::from((first..=last).contains(&port.into())))
    }

    /// Whether what is looked for comes in by an interface of that name. Others than `lo` bring what
    /// other hosts send, which is what is looked for unless the address is a loopback one.
    pub(crate) fn comes_by(&self, interface: &str) -> Holds {
        match (interface == "lo", self.is_loopback()) {
            (true, true) => Holds::Yes,
            (true, false) | (false, true) => Holds::No,
            (false, false) => Holds::Maybe,
        }
    }
}

/// Where a rule sends what it holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// To another port, host or program.
    Elsewhere,
    /// To another chain and back.
    Jump(String),
    /// To another chain for good.
    Goto(String),
    Return,
}

/// What follows from a rule that ends the chain for all it holds for, and takes them elsewhere if
/// `elsewhere` holds.
pub(crate) fn diverted(holds: Holds, elsewhere: Holds) -> Vec<(Holds, Verdict)> {
    vec![(holds.min(elsewhere), Verdict::Elsewhere), (holds, Verdict::Accept)]
}

/// Whether a rule that names the port looked for, and that one alone, may be deleted: only if it
/// surely keeps the datagrams away. One with a condition that is not decided here (a source, a rate)
/// is somebody's wish about somebody, and an exception for the port leaves it as it is.
pub(crate) fn may_go(names_port: bool, verdicts: &[(Holds, Verdict)]) -> bool {
    names_port && matches!(verdicts.first(), Some((Holds::Yes, Verdict::Drop | Verdict::Elsewhere)))
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// A verdict map has several.
    pub(crate) verdicts: Vec<(Holds, Verdict)>,
    /// It surely keeps away what goes to this port and nothing else, so it may be deleted.
    pub(crate) specific: bool,
    pub(crate) text: String,
    pub(crate) delete: String,
}

/// A chain that the kernel itself enters.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) policy_drops: bool,
    /// The command that lets the port in before anything else in this chain.
    pub(crate) accept: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Something that could drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropper {
    pub(crate) text: String,
    pub(crate) fix: String,
    pub(crate) certain: bool,
    /// It takes them elsewhere rather than dropping them.
    pub(crate) elsewhere: bool,
}

/// Rules looked at, all chains together: chains that jump to each other may be walked often.
const STEPS_MOST: usize = 100_000;
const DEPTH_MOST: usize = 16;
/// Droppers shown.
const SHOWN: usize = 3;

struct Walk<'a> {
    chains: HashMap<&'a str, &'a Chain>,
    base: &'a Base,
    found: Vec<Dropper>,
    /// A rule before may have accepted it.
    maybe_accepted: bool,
    steps: usize,
}

/// What could drop the datagrams the conditions were judged for.
pub(crate) fn droppers(chains: &[Chain]) -> Vec<Dropper> {
    let names: HashMap<&str, &Chain> = chains.iter().map(|c| (c.name.as_str(), c)).collect();
    let mut found = Vec::new();
    for (chain, base) in chains.iter().filter_map(|c| Some((c, c.base.as_ref()?))) {
        let mut walk = Walk {
            chains: names.clone(),
            base,
            found: Vec::new(),
            maybe_accepted: false,
            steps: 0,
        };
        let decided = walk.enter(chain, Holds::Yes, 0);
        if !decided && base.policy_drops {
            let certain = !walk.maybe_accepted;
            let text = format!("policy drop of chain {}", chain.name);
            let fix = base.accept.clone();
            walk.found.push(Dropper { text, fix, certain, elsewhere: false });
        }
        found.append(&mut walk.found);
    }
    found.dedup();
    found
}

impl Walk<'_> {
    /// Goes through a chain that is entered if `entered` holds. Returns whether it surely decides.
    fn enter(&mut self, chain: &Chain, entered: Holds, depth: usize) -> bool {
        for rule in &chain.rules {
            for (holds, verdict) in &rule.verdicts {
                self.steps += 1;
                if self.steps > STEPS_MOST {
                    return false;
                }
                let holds = (*holds).min(entered);
                if holds == Holds::No {
                    continue;
                }
                match verdict {
                    Verdict::Accept if holds == Holds::Yes => return true,
                    Verdict::Accept => self.maybe_accepted = true,
                    Verdict::Drop | Verdict::Elsewhere => {
                        self.keeps_away(rule, holds, *verdict == Verdict::Elsewhere);
                        if holds == Holds::Yes {
                            return true;
                        }
                    }
                    Verdict::Jump(to) | Verdict::Goto(to) => {
                        let next = self.chains.get(to.as_str()).copied();
                        let next = next.filter(|_| depth < DEPTH_MOST);
                        let decided = next.is_some_and(|next| self.enter(next, holds, depth + 1));
                        if decided && holds == Holds::Yes {
                            return true;
                        }
                        if holds == Holds::Yes && matches!(verdict, Verdict::Goto(_)) {
                            return false;
                        }
                    }
                    Verdict::Return if holds == Holds::Yes => return false,
                    // Some go back: what follows holds for the others.
                    Verdict::Return => self.maybe_accepted = true,
                }
            }
        }
        false
    }

    fn keeps_away(&mut self, rule: &Rule, holds: Holds, elsewhere: bool) {
        // A chain that only some enter is about them as much as about the port.
        let may_go = rule.specific && holds == Holds::Yes;
        let fix = if may_go { &rule.delete } else { &self.base.accept };
        let certain = holds == Holds::Yes && !self.maybe_accepted;
        let text =
            if elsewhere { format!("taken elsewhere by {}", rule.text) } else { rule.text.clone() };
        self.found.push(Dropper { text, fix: fix.clone(), certain, elsewhere });
    }
}

/// Runs a program that reads and changes nothing; what it wrote, or why there is nothing.
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

pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    let target = Target::of(wanted);
    vec![firewall(files, &target)]
}

fn firewall(files: &Files, target: &Target) -> Check {
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
    read("nft -j list ruleset", rules.and_then(|json| nft::chains(&json, &listing, target)));
    // The old tables are invisible to nft, and there only if something has made them.
    let save = |save: &str, command: &str, six: bool| {
        ask(save, &[]).map(|text| iptables::chains(&text, command, six, target))
    };
    for (names, old, any, command, six) in [
        ("/proc/net/ip_tables_names", "iptables-legacy-save", "iptables-save", "iptables", false),
        (
            "/proc/net/ip6_tables_names",
            "ip6tables-legacy-save",
            "ip6tables-save",
            "ip6tables",
            true,
        ),
    ] {
        let in_use = files.read(names).is_ok_and(|names| !names.trim().is_empty());
        if in_use {
            let legacy = format!("{command}-legacy");
            read(old, save(old, &legacy, six).or_else(|_| save(any, command, six)));
        } else if !has_nft && (if six { target.six } else { target.four }) {
            read(any, save(any, command, six));
        }
    }
    let source =
        if sources.is_empty() { "nft, iptables-save".to_owned() } else { sources.join(", ") };
    let check = Check::of("firewall", source);
    if sources.is_empty() {
        // What is installed says more than what is not: mostly that it takes root.
        let why =
            failed.iter().find(|why| !why.ends_with("not installed")).or_else(|| failed.first());
        return check.unknown(why.map_or("", String::as_str));
    }
    judge(check, &chains, target)
}

fn judge(check: Check, chains: &[Chain], target: &Target) -> Check {
    let mut found = droppers(chains);
    let what = target.port.map_or_else(|| "UDP".to_owned(), |port| format!("UDP to port {port}"));
    if found.is_empty() {
        let rules: usize = chains.iter().map(|chain| chain.rules.len()).sum();
        return check.says(
            Status::Ok,
            &format!("{rules} rules, none drops {what}"),
            "No rule before the sockets drops what is to be received, or takes it elsewhere.",
        );
    }
    found.sort_by_key(|dropper| !dropper.certain);
    let certain = found.first().is_some_and(|dropper| dropper.certain);
    let mut texts: Vec<String> =
        found.iter().take(SHOWN).map(|dropper| dropper.text.clone()).collect();
    if found.len() > SHOWN {
        texts.push(format!("{} more", found.len() - SHOWN));
    }
    let texts = texts.join("; ");
    let fix = found.first().map_or("", |dropper| dropper.fix.as_str());
    let elsewhere = found.first().is_some_and(|dropper| dropper.elsewhere);
    let (status, meaning) = match (certain, target.port) {
        (true, Some(_)) if elsewhere => (
            Status::Failure,
            format!(
                "Takes {what} elsewhere, to another port, host or program: no socket on that port \
                 sees it, and no counter of UDP shows it."
            ),
        ),
        (true, Some(_)) => (
            Status::Failure,
            format!("Drops {what} before any socket sees it, and no counter of UDP shows it."),
        ),
        (false, Some(_)) => {
            let does = if elsewhere {
                format!("Could take {what} elsewhere, to another port, host or program")
            } else {
                format!("Could drop {what}")
            };
            (
                Status::Warning,
                format!(
                    "{does}, under conditions that are not decided here: look whether they hold \
                     for your senders."
                ),
            )
        }
        (_, None) => {
            let meaning = "Could drop UDP, or take it elsewhere, before any socket sees it: give \
                           the address to listen on (`ringest doctor ADDR`) to see whether it does.";
            return check.says(Status::Info, &texts, meaning);
        }
    };
    check.says(status, &texts, &meaning).mended_by(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(holds: Holds, verdict: Verdict) -> Rule {
        Rule {
            verdicts: vec![(holds, verdict)],
            specific: false,
            text: "r".into(),
            delete: "d".into(),
        }
    }

    fn chain(name: &str, policy_drops: Option<bool>, rules: Vec<Rule>) -> Chain {
        let base = policy_drops.map(|policy_drops| Base { policy_drops, accept: "a".into() });
        Chain { name: name.into(), base, rules }
    }

    fn certain(chains: &[Chain]) -> Vec<bool> {
        droppers(chains).iter().map(|dropper| dropper.certain).collect()
    }

    #[test]
    fn chains_are_walked_as_a_datagram_would() {
        use Holds::{Maybe, No, Yes};
        use Verdict::{Accept, Drop, Goto, Jump, Return};
        let input = |rules| chain("in", Some(false), rules);
        assert_eq!(certain(&[input(vec![rule(Yes, Drop)])]), [true]);
        assert_eq!(certain(&[input(vec![rule(Maybe, Drop)])]), [false]);
        assert!(certain(&[input(vec![rule(No, Drop)])]).is_empty());
        assert!(certain(&[input(vec![rule(Yes, Accept), rule(Yes, Drop)])]).is_empty());
        assert_eq!(certain(&[input(vec![rule(Maybe, Accept), rule(Yes, Drop)])]), [false]);
        let sub = chain("sub", None, vec![rule(Yes, Drop)]);
        assert_eq!(certain(&[input(vec![rule(Yes, Jump("sub".into()))]), sub.clone()]), [true]);
        assert_eq!(certain(&[input(vec![rule(Maybe, Jump("sub".into()))]), sub]), [false]);
        let back = chain("sub", None, vec![rule(Yes, Return), rule(Yes, Drop)]);
        assert!(certain(&[input(vec![rule(Yes, Goto("sub".into()))]), back]).is_empty());
        assert_eq!(certain(&[chain("in", Some(true), vec![])]), [true]);
        assert!(certain(&[chain("in", Some(true), vec![rule(Yes, Accept)])]).is_empty());
        assert_eq!(certain(&[chain("in", Some(true), vec![rule(Maybe, Accept)])]), [false]);
        // A chain nobody enters, and one that jumps to itself.
        assert!(certain(&[chain("sub", None, vec![rule(Yes, Drop)])]).is_empty());
        let round = input(vec![rule(Yes, Jump("in".into())), rule(Maybe, Jump("in".into()))]);
        assert!(certain(&[round]).is_empty());
    }

    #[test]
    fn what_is_taken_elsewhere_is_said_so() {
        let at = Target { port: Some(9000), four: true, ..Target::default() };
        let judged = |elsewhere| {
            let rule = Rule {
                verdicts: diverted(Holds::Yes, elsewhere),
                ..rule(Holds::No, Verdict::Drop)
            };
            // What was taken elsewhere meets no policy, and neither does what was not.
            judge(Check::of("firewall", ""), &[chain("in", Some(true), vec![rule])], &at)
        };
        let sure = judged(Holds::Yes);
        assert_eq!(
            (sure.status, sure.found.as_str(), sure.fix.as_str()),
            (Status::Failure, "taken elsewhere by r", "a")
        );
        assert!(sure.meaning.starts_with("Takes UDP to port 9000 elsewhere"), "{sure:?}");
        let some = judged(Holds::Maybe);
        assert_eq!((some.status, some.found.as_str()), (Status::Warning, "taken elsewhere by r"));
        assert!(some.meaning.starts_with("Could take UDP to port 9000 elsewhere"), "{some:?}");
        assert_eq!(judged(Holds::No).status, Status::Ok);
    }

    #[test]
    fn a_destination_of_this_host_is_not_elsewhere() {
        use Holds::{Maybe, No, Yes};
        let (ours, other) = ("192.0.2.1".parse().ok(), "192.0.2.9".parse().ok());
        let any =
            Target { port: Some(9000), ours: ours.into_iter().collect(), ..Target::default() };
        assert_eq!([any.leaves_for(None, None), any.leaves_for(None, Some(9000))], [No, No]);
        assert_eq!([any.leaves_for(ours, None), any.leaves_for(other, None)], [No, Yes]);
        assert_eq!(any.leaves_for(ours, Some(9001)), Yes);
        let one = Target { ip: ours, ..any };
        assert_eq!([one.leaves_for(None, None), one.leaves_for(None, Some(1))], [Maybe, Yes]);
        assert_eq!([one.leaves_for(ours, None), one.leaves_for(other, Some(9000))], [No, Yes]);
        let unasked = Target::default();
        assert_eq!(unasked.leaves_for(None, Some(1)), Maybe);
    }

    #[test]
    fn what_is_certain_is_a_failure_and_only_with_an_address() {
        let drops = [chain("in", Some(false), vec![rule(Holds::Yes, Verdict::Drop)])];
        let at = Target { port: Some(9000), four: true, ..Target::default() };
        let check = judge(Check::of("firewall", ""), &drops, &at);
        assert_eq!((check.status, check.fix.as_str()), (Status::Failure, "a"));
        let check = judge(Check::of("firewall", ""), &drops, &Target::default());
        assert_eq!((check.status, check.fix.as_str()), (Status::Info, ""));
        assert_eq!(judge(Check::of("firewall", ""), &[], &at).status, Status::Ok);
    }
}
