//! Checks how the work of receiving is spread over cores: queues, RSS, RPS, XPS, interrupts.

use std::collections::BTreeSet;

use crate::check::{Check, Status, core_list, core_mask, counted, word};
use crate::files::Files;
use crate::nic::interface::{Interface, sys};
use crate::nic::interrupts;
use crate::wanted::Wanted;
use crate::{owners, parse};

pub(crate) fn checks(files: &Files, interface: &Interface, wanted: &Wanted) -> Vec<Check> {
    let mut checks = vec![queues(files, interface, wanted), rps(files, interface)];
    checks.extend(xps(files, interface));
    checks.extend(table(interface, wanted));
    checks.extend(hash(interface, wanted));
    checks.extend(interrupts::check(files, interface, wanted));
    checks
}

pub(crate) fn host_checks(files: &Files, interfaces: &[Interface], wanted: &Wanted) -> Vec<Check> {
    let check = Check::of("irqbalance", "/proc/*/comm");
    let receivers = wanted.receiver_cores.len();
    let has_irqs = interfaces.iter().any(|interface| interface.physical);
    vec![match owners::runs(files, "irqbalance") {
        None => {
            check.says(Status::Ok, "not running", "Interrupts stay on the cores they were given.")
        }
        Some(pid) if has_irqs => check
            .says(
                Status::Info,
                &format!("running (pid {pid})"),
                &format!(
                    "It moves the cards' interrupts between cores while {} pinned to their own.",
                    if receivers == 1 {
                        "a receiver is".to_owned()
                    } else {
                        format!("{receivers} receivers are")
                    }
                ),
            )
            .mended_by("systemctl stop irqbalance"),
        Some(pid) => check.says(
            Status::Ok,
            &format!("running (pid {pid})"),
            "There is no card whose interrupts it could move.",
        ),
    }]
}

fn receive_queues(files: &Files, interface: &Interface) -> Vec<String> {
    let mut queues = files.names(&sys(&interface.name, "queues"));
    queues.retain(|queue| queue.starts_with("rx-"));
    queues
}

/// Returns the cores that RPS passes a queue's frames to.
fn rps_cores(files: &Files, interface: &Interface, queue: &str) -> Result<Vec<usize>, String> {
    let text = files.read(&sys(&interface.name, &format!("queues/{queue}/rps_cpus")))?;
    parse::core_mask(&text).ok_or_else(|| format!("not a mask of cores: {}", text.trim()))
}

/// Checks for fewer queues than receivers: then the cores of those queues do all of the kernel's work, unless RPS
/// spreads it.
fn queues(files: &Files, interface: &Interface, wanted: &Wanted) -> Check {
    let name = &interface.name;
    let check = interface.check("queues", sys(name, "queues/rx-*/rps_cpus"));
    let queues = receive_queues(files, interface);
    let receivers = wanted.receiver_cores.len();
    if queues.is_empty() {
        return check.unknown("no receive queue is shown");
    }
    // The driver counts the queues in use; sysfs shows all that exist.
    let in_use = interface
        .driver
        .channels
        .map_or(queues.len(), |c| usize::try_from(c.now).unwrap_or(1).clamp(1, queues.len()));
    let spread: BTreeSet<usize> =
        queues.iter().filter_map(|q| rps_cores(files, interface, q).ok()).flatten().collect();
    let found = format!(
        "{in_use} for {}{}",
        counted(receivers, "receiver"),
        if spread.is_empty() {
            String::new()
        } else {
            format!(", RPS to cores {}", core_list(&spread.iter().copied().collect::<Vec<_>>()))
        }
    );
    if in_use >= receivers || spread.len() >= receivers {
        return check.says(
            Status::Ok,
            &found,
            "Each receiver's share comes in by a queue or a core of its own.",
        );
    }
    let check = check.says(
        interface.severity(),
        &found,
        "Fewer queues than receivers: a few cores do all of the kernel's work for every frame, \
         while the others wait.",
    );
    let wanted_queues = u32::try_from(receivers).unwrap_or(u32::MAX);
    match interface.driver.channels {
        Some(channels) if channels.most >= wanted_queues && channels.most > channels.now => {
            let kind = if channels.combined { "combined" } else { "rx" };
            check.mended_by(&format!("ethtool -L {} {kind} {receivers}", word(name)))
        }
        _ => {
            let mask = core_mask(&wanted.receiver_cores);
            let set = |queue: &String| {
                format!("echo {mask} > {}", word(&sys(name, &format!("queues/{queue}/rps_cpus"))))
            };
            check.mended_by(&queues.iter().map(set).collect::<Vec<_>>().join("; "))
        }
    }
}

fn rps(files: &Files, interface: &Interface) -> Check {
    let check = interface.check("rps", sys(&interface.name, "queues/rx-*/rps_cpus, rps_flow_cnt"));
    let queues = receive_queues(files, interface);
    let mut masks = BTreeSet::new();
    for queue in &queues {
        match rps_cores(files, interface, queue) {
            Ok(cores) => masks.insert(core_list(&cores)),
            Err(why) => return check.unknown(&why),
        };
    }
    let flows = queues.first().and_then(|queue| {
        files.number(&sys(&interface.name, &format!("queues/{queue}/rps_flow_cnt"))).ok()
    });
    let masks: Vec<&str> =
        masks.iter().map(|mask| if mask.is_empty() { "off" } else { mask }).collect();
    let rfs = flows
        .filter(|flows| *flows > 0)
        .map_or_else(String::new, |flows| format!(", RFS {flows} flows"));
    let found = if masks.is_empty() {
        "no queues".to_owned()
    } else {
        format!("{}{rfs}", masks.join(" / "))
    };
    check.says(
        Status::Ok,
        &found,
        "Cores that frames are handed to in software; off is right where every receiver has a \
         queue.",
    )
}

fn xps(files: &Files, interface: &Interface) -> Option<Check> {
    let name = &interface.name;
    let mut queues = files.names(&sys(name, "queues"));
    queues.retain(|queue| queue.starts_with("tx-"));
    if queues.len() < 2 {
        return None; // one queue has nothing to choose from, and the kernel refuses the question
    }
    let check = interface.check("xps", sys(name, "queues/tx-*/xps_cpus"));
    let masks: BTreeSet<String> = queues
        .iter()
        .filter_map(|queue| {
            parse::core_mask(&files.read(&sys(name, &format!("queues/{queue}/xps_cpus"))).ok()?)
        })
        .map(|cores| core_list(&cores))
        .collect();
    let set: Vec<&str> = masks.iter().map(String::as_str).filter(|mask| !mask.is_empty()).collect();
    let found = if set.is_empty() { "off".to_owned() } else { set.join(" / ") };
    Some(check.says(Status::Ok, &found, "Cores that send by each transmit queue: replies only."))
}

/// Checks the hash table of RSS: queues that are not in it get no frames.
fn table(interface: &Interface, wanted: &Wanted) -> Option<Check> {
    let table = interface.driver.table.as_ref()?;
    let used: BTreeSet<u32> = table.iter().copied().collect();
    let check = interface.check("rss", "SIOCETHTOOL (ethtool -x)");
    let found = format!("{} entries to {} queues", table.len(), used.len());
    let channels = interface.driver.channels.map_or(1, |channels| channels.now.max(1));
    let reached = u32::try_from(used.len()).unwrap_or(u32::MAX);
    let enough = used.len() >= wanted.receiver_cores.len() || reached >= channels;
    Some(match enough {
        true => check.says(
            Status::Ok,
            &found,
            "Frames are spread over the queues by a hash of their addresses.",
        ),
        false => check
            .says(
                interface.severity(),
                &found,
                "Some queues get no frame, so their cores do nothing while others lose.",
            )
            .mended_by(&format!("ethtool -X {} equal {channels}", word(&interface.name))),
    })
}

fn hash(interface: &Interface, wanted: &Wanted) -> Option<Check> {
    let check = interface.check("rss_hash", "SIOCETHTOOL (ethtool -n rx-flow-hash udp4)");
    let many =
        wanted.receiver_cores.len() > 1 && interface.driver.channels.is_none_or(|c| c.now > 1);
    Some(match interface.driver.hashes_ports? {
        true => check.says(
            Status::Ok,
            "addresses and ports",
            "Flows of one sender are spread over the queues.",
        ),
        false if many => check
            .says(
                Status::Info,
                "addresses only",
                "All flows between two hosts come by one queue: a few big senders fill it while \
                 the others are empty.",
            )
            .mended_by(&format!("ethtool -N {} rx-flow-hash udp4 sdfn", word(&interface.name))),
        false => check.says(
            Status::Ok,
            "addresses only",
            "With one queue or one receiver nothing is to be spread.",
        ),
    })
}
