//! Losses since boot, from the kernel's own counters. The counters only grow: a loss shown here has happened, but may
//! not go on.

use crate::buffers::PAGE_BYTES;
use crate::check;
use crate::check::{Check, Status, share};
use crate::files::Files;
use crate::parse;
use crate::parse::Table;
use crate::wanted::Wanted;
use ringest_base::text::figures::count;

pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    let mut checks = softnet(files);
    checks.extend(udp(files, wanted));
    checks
}

/// Frames per squeezed round below which a warning is given.
const SQUEEZE_FRAMES: u64 = 10_000;

fn softnet(files: &Files) -> Vec<Check> {
    let source = "/proc/net/softnet_stat";
    let [drops, squeezes, flow] = ["softnet_dropped", "softnet_squeezed", "softnet_flow_limited"]
        .map(|id| Check::of(id, source));
    let softnet = files.read(source).and_then(|text| {
        parse::softnet(&text).ok_or_else(|| "not in the form expected".to_owned())
    });
    let sum = match softnet {
        Ok(sum) => sum,
        Err(why) => return vec![drops.unknown(&why), squeezes.unknown(&why), flow.unknown(&why)],
    };
    let of = |part: u64| {
        format!(
            "{} of {} frames ({})",
            count(part),
            count(sum.processed.saturating_add(part)),
            share(part, sum.processed.saturating_add(part))
        )
    };
    let drops = match sum.dropped {
        0 => drops.says(
            Status::Ok,
            "none",
            "No frame was lost between network card and stack for want of room.",
        ),
        lost => {
            let check = drops.says(
                Status::Warning,
                &of(lost),
                "Frames lost since boot because a core's backlog was full: no socket counts them.",
            );
            raise_once(files, check, ("netdev_max_backlog", "net.core.netdev_max_backlog"), 10_000)
        }
    };
    let squeezes = match sum.squeezed {
        0 => squeezes.says(Status::Ok, "none", "No round of a softirq ended with frames left."),
        ended => {
            let status =
                if ended > sum.processed / SQUEEZE_FRAMES { Status::Warning } else { Status::Info };
            let found = format!("{} rounds over {} frames", count(ended), count(sum.processed));
            let check = squeezes.says(
                status,
                &found,
                "Rounds that ended with frames left on the card, by budget or by time: nothing is \
                 lost by itself, but the card's ring fills meanwhile.",
            );
            raise_once(files, check, ("netdev_budget", "net.core.netdev_budget"), 600)
        }
    };
    let flow = match sum.flow_limited {
        0 => flow.says(
            Status::Ok,
            "none",
            "No frame was refused because one flow filled half of a backlog.",
        ),
        lost => flow
            .says(
                Status::Warning,
                &of(lost),
                "Frames refused since boot because one sender filled half of a core's backlog \
                 (flow limit).",
            )
            .mended_by_sysctl("net.core.flow_limit_cpu_bitmap", "0"),
    };
    vec![drops, squeezes, flow]
}

/// Sets the fix: raise a setting that is below `enough`. A setting that is not may have been raised after the loss; then
/// the command shows whether the loss goes on.
fn raise_once(
    files: &Files,
    check: Check,
    (name, key): (&str, &'static str),
    enough: u64,
) -> Check {
    match files.number(&format!("/proc/sys/net/core/{name}")) {
        Ok(now) if now >= enough => check.mended_by("watch -d cat /proc/net/softnet_stat"),
        _ => check.mended_by_sysctl(key, &enough.to_string()),
    }
}

/// Checks UDP's counters, IPv4 and IPv6 together: the two files count the same under different names.
fn udp(files: &Files, wanted: &Wanted) -> Vec<Check> {
    let source = "/proc/net/snmp, /proc/net/snmp6";
    let four = files.read("/proc/net/snmp").map(|text| parse::snmp(&text, "Udp"));
    let six =
        files.read("/proc/net/snmp6").map_or_else(|_| Table::new(), |text| parse::snmp6(&text));
    let ids = ["udp_rcvbuf_errors", "udp_mem_errors", "udp_csum_errors", "udp_no_ports"];
    let four = match four {
        Ok(Some(four)) => four,
        Ok(None) => {
            return ids
                .map(|id| Check::of(id, source).unknown("no lines Udp in /proc/net/snmp"))
                .into();
        }
        Err(why) => return ids.map(|id| Check::of(id, source).unknown(&why)).into(),
    };
    let sum = |name: &str| -> Option<u64> {
        let six = six.get(&format!("Udp6{name}"));
        Some(four.get(name)?.saturating_add(six.copied().unwrap_or(0)))
    };
    let arrived = [sum("InDatagrams"), sum("InErrors"), sum("NoPorts")]
        .into_iter()
        .flatten()
        .fold(0_u64, u64::saturating_add);
    let figure = |lost: u64| {
        format!("{} of {} datagrams ({})", count(lost), count(arrived), share(lost, arrived))
    };
    let judge = |id: &str, name: &str, none: &str, some: &str| {
        let check = Check::of(id, source);
        match sum(name) {
            None => check.unknown(&format!("this kernel does not count {name}")),
            Some(0) => check.says(Status::Ok, "none", none),
            Some(lost) => check.says(Status::Warning, &figure(lost), some),
        }
    };
    vec![
        rcvbuf_fix(
            files,
            wanted,
            judge(
                "udp_rcvbuf_errors",
                "RcvbufErrors",
                "No socket's receive buffer was full since boot.",
                "Datagrams lost since boot because a socket's receive buffer was full: its program \
                 was behind, or its buffer small.",
            ),
        ),
        mem_fix(
            files,
            judge(
                "udp_mem_errors",
                "MemErrors",
                "UDP's memory (udp_mem) sufficed since boot.",
                "Datagrams lost since boot because all UDP sockets together held udp_mem.",
            ),
        ),
        csum_fix(judge(
            "udp_csum_errors",
            "InCsumErrors",
            "No datagram came with a wrong checksum since boot.",
            "Datagrams lost since boot because their checksum was wrong: damaged on the way, or by \
             a card or driver. The command shows whether it goes on.",
        )),
        no_ports(judge(
            "udp_no_ports",
            "NoPorts",
            "Every datagram found a socket on its port since boot.",
            "Datagrams for ports on which nobody listened, since boot. The command shows where \
             somebody does.",
        )),
    ]
}

fn rcvbuf_fix(files: &Files, wanted: &Wanted, check: Check) -> Check {
    if check.status != Status::Warning {
        return check;
    }
    // In a network namespace of its own the setting is not shown, and cannot be made either.
    let most = files.number("/proc/sys/net/core/rmem_max").unwrap_or(u64::MAX);
    let asked = u64::try_from(wanted.rcvbuf_bytes).unwrap_or(u64::MAX);
    if most < asked {
        return check.mended_by_sysctl("net.core.rmem_max", &asked.to_string());
    }
    // A receiver gets the buffer it asks for, so it must ask for more.
    let more = check::MORE_RCVBUF_MIB.max((asked >> 20).saturating_mul(2));
    if more > RCVBUF_MOST_MIB {
        return check.mended_by("nstat -a UdpRcvbufErrors Udp6RcvbufErrors");
    }
    let listen = format!("{} --rcvbuf {more}M", wanted.listen_command());
    // The setting by itself would change nothing, so it is not one for a file of settings.
    match more << 20 {
        bytes if most < bytes => {
            check.mended_by(&format!("sysctl -w net.core.rmem_max={bytes} && {listen}"))
        }
        _ => check.mended_by(&listen),
    }
}

/// Largest buffer advised, MiB. A larger one holds datagrams that are seconds old.
const RCVBUF_MOST_MIB: u64 = 512;

fn mem_fix(files: &Files, check: Check) -> Check {
    if check.status != Status::Warning {
        return check;
    }
    let text = files.read("/proc/sys/net/ipv4/udp_mem").unwrap_or_default();
    let memory = files.read("/proc/meminfo").unwrap_or_default();
    let quarter = parse::meminfo_bytes(&memory, "MemTotal").unwrap_or(0) / 4 / PAGE_BYTES;
    match parse::numbers(&text).as_slice() {
        // More than a quarter of all memory is no room for datagrams but a reader that is behind.
        &[low, pressure, most] if most < quarter => {
            let twice = [low, pressure, most].map(|pages| pages.saturating_mul(2).to_string());
            check.mended_by_sysctl("net.ipv4.udp_mem", &twice.join(" "))
        }
        _ => check.mended_by("nstat -a UdpMemErrors Udp6MemErrors"),
    }
}

fn csum_fix(check: Check) -> Check {
    match check.status {
        Status::Warning => check.mended_by("nstat -a UdpInCsumErrors Udp6InCsumErrors"),
        _ => check,
    }
}

/// Makes the warning an info: scanners and late answers cause some on every host.
fn no_ports(check: Check) -> Check {
    match check.status {
        Status::Warning => Check { status: Status::Info, ..check }.mended_by("ss -uln"),
        _ => check,
    }
}
