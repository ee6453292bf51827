//! Checks of an interface's losses and of their causes: drop counters, rings, the reverse path filter.

use crate::check::{Check, Status, share, word};
use crate::files::Files;
use crate::nic::interface::{Interface, sys};
use crate::parse;
use ringest_base::text::figures::count;

pub(crate) fn checks(files: &Files, interface: &Interface) -> Vec<Check> {
    let mut checks = vec![drops(files, interface)];
    checks.extend(ring(files, interface));
    checks
}

pub(crate) fn host_checks(files: &Files) -> Vec<Check> {
    vec![rp_filter(files)]
}

fn statistic(files: &Files, interface: &Interface, name: &str) -> u64 {
    files.number(&sys(&interface.name, &format!("statistics/{name}"))).unwrap_or(0)
}

/// Returns how many frames the card had no room for. They are lost before the kernel sees them.
fn missed(files: &Files, interface: &Interface) -> u64 {
    ["rx_missed_errors", "rx_fifo_errors", "rx_over_errors"]
        .iter()
        .map(|name| statistic(files, interface, name))
        .fold(0, u64::max) // drivers count one loss under several names
}

fn drops(files: &Files, interface: &Interface) -> Check {
    let name = &interface.name;
    let check = interface.check("rx_drops", sys(name, "statistics/rx_*"));
    let received = match files.number(&sys(name, "statistics/rx_packets")) {
        Ok(received) => received,
        Err(why) => return check.unknown(&why),
    };
    let (missed, dropped) = (missed(files, interface), statistic(files, interface, "rx_dropped"));
    let errors = statistic(files, interface, "rx_errors");
    let all = received.saturating_add(missed).saturating_add(dropped);
    let found = format!(
        "{} missed, {} dropped, {} damaged of {} frames ({})",
        count(missed),
        count(dropped),
        count(errors),
        count(all),
        share(missed.saturating_add(dropped), all)
    );
    let look = format!("ethtool -S {}", word(name));
    match (missed, dropped, errors) {
        (0, 0, 0) => check.says(
            Status::Ok,
            &format!("none of {} frames", count(all)),
            "The card lost nothing since it came up.",
        ),
        (0, 0, _) => check
            .says(
                Status::Warning,
                &found,
                "Frames came damaged: a cable, a plug or a duplex mismatch. The command tells \
                 more.",
            )
            .mended_by(&look),
        (0, ..) => check
            .says(
                Status::Info,
                &found,
                "Frames the kernel dropped as they came in: of protocols or VLANs nobody listens \
                 to, or for want of memory. The command tells more.",
            )
            .mended_by(&look),
        _ => {
            let check = check.says(
                Status::Warning,
                &found,
                "Frames lost because the card's ring was full: its core did not come by in time, \
                 and no socket counts them.",
            );
            let grow = interface.driver.rings.filter(|rings| rings.now < rings.most);
            check.mended_by(&grow.map_or(look, |rings| bigger(interface, rings.most)))
        }
    }
}

fn bigger(interface: &Interface, most: u32) -> String {
    format!("ethtool -G {} rx {most}", word(&interface.name))
}

/// A ring shorter than this is filled in well under a millisecond at a million frames a second.
const RING_FRAMES: u32 = 1024;

fn ring(files: &Files, interface: &Interface) -> Option<Check> {
    let rings = interface.driver.rings?;
    let check = interface.check("ring", "SIOCETHTOOL (ethtool -g)");
    let found = format!("{} of at most {} frames", rings.now, rings.most);
    if rings.now >= rings.most || rings.now >= RING_FRAMES && missed(files, interface) == 0 {
        return Some(check.says(
            Status::Ok,
            &found,
            "What the card holds until its core comes by.",
        ));
    }
    let status = if missed(files, interface) > 0 { interface.severity() } else { Status::Info };
    Some(
        check
            .says(
                status,
                &found,
                "The card could hold more until its core takes them; frames that do not fit are lost, \
                 and no UDP counter shows it.",
            )
            .mended_by(&bigger(interface, rings.most)),
    )
}

/// Checks the reverse path filter. A strict one drops datagrams whose sender would be answered by another interface
/// (ip-sysctl). The larger of `all` and the interface's own setting counts.
fn rp_filter(files: &Files) -> Check {
    let dir = "/proc/sys/net/ipv4/conf";
    let check = Check::of("rp_filter", format!("{dir}/*/rp_filter, /proc/net/netstat"));
    let all = match files.number(&format!("{dir}/all/rp_filter")) {
        Ok(all) => all,
        Err(why) => return check.unknown(&why),
    };
    let names = files.names(dir);
    let others = names.iter().filter(|name| !["all", "default", "lo"].contains(&name.as_str()));
    let strict: Vec<&str> = others
        .filter(|name| files.number(&format!("{dir}/{name}/rp_filter")).unwrap_or(0).max(all) == 1)
        .map(String::as_str)
        .collect();
    let netstat = files.read("/proc/net/netstat").unwrap_or_default();
    let table = parse::snmp(&netstat, "TcpExt").unwrap_or_default();
    let dropped = table.get("IPReversePathFilter").copied().unwrap_or(0);
    let of = format!("datagrams dropped since boot: {}", count(dropped));
    if strict.is_empty() {
        return check.says(
            Status::Ok,
            &format!("not strict, {of}"),
            "Datagrams are taken whichever way their sender would be answered.",
        );
    }
    let on = strict.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    let found = format!("strict on {on}, {of}");
    if dropped == 0 {
        return check.says(
            Status::Ok,
            &found,
            "Datagrams whose sender would be answered by another interface are dropped; none were.",
        );
    }
    check
        .says(
            Status::Warning,
            &found,
            "Datagrams were dropped because their sender would be answered by another interface: \
             senders behind asymmetric routes are never heard.",
        )
        .mended_by_sysctl("net.ipv4.conf.all.rp_filter", "2")
}
