//! Sizes of socket buffers and of the queues before them: how many datagrams wait for a receiver that is behind.

use crate::check::{Check, Status, bytes};
use crate::files::Files;
use crate::wanted::Wanted;
use crate::{kernel, parse};

/// Frames that may wait for a core which is handed more than it can take. The kernel's default of 1000
/// is 1 ms at a million a second; more than this only adds delay.
const BACKLOG_FRAMES: u64 = 10_000;
/// Frames a core takes in one round of its softirq. At the default of 300 a round ends every few
/// hundred µs under load; much more starves the threads on that core.
const BUDGET_FRAMES: u64 = 600;
/// Receive buffer of a socket that asks for none, bytes: the kernel's default holds about 277 small datagrams.
const RMEM_DEFAULT_BYTES: u64 = 208 << 10;
/// Send buffer of a socket that asks for none, bytes.
const WMEM_BYTES: u64 = 208 << 10;
pub(crate) const PAGE_BYTES: u64 = 4096;

pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    vec![
        rmem_max(files, wanted),
        rmem_default(files),
        wmem_max(files),
        udp_mem(files, wanted),
        backlog(files),
        budget(files),
        busy_poll(files),
    ]
}

/// Returns the net.core sysctl of that name, or why it cannot be read. Some are visible only in the first network
/// namespace.
fn core(files: &Files, name: &str) -> (Check, Result<u64, String>) {
    let path = format!("/proc/sys/net/core/{name}");
    let value = files.number(&path).map_err(|why| match files.exists("/proc/sys/net/core") {
        true if why == "not there" => "not shown in this network namespace".to_owned(),
        _ => why,
    });
    (Check::of(name, path), value)
}

fn rmem_max(files: &Files, wanted: &Wanted) -> Check {
    let (check, value) = core(files, "rmem_max");
    let asked = wanted.rcvbuf_bytes as u64;
    let value = match value {
        Ok(value) => value,
        Err(why) => return check.unknown(&why),
    };
    if value >= asked {
        let meaning = format!("A receiver gets the {} it asks for.", bytes(asked));
        return check.says(Status::Ok, &bytes(value), &meaning);
    }
    let status = files.read("/proc/self/status").unwrap_or_default();
    let may_pass = parse::capabilities(&status).is_some_and(|c| c & kernel::NET_ADMIN != 0);
    let small = format!(
        "A receiver asks for {} of buffer per socket and gets {}, about {} small datagrams",
        bytes(asked),
        bytes(value),
        value.saturating_mul(2) / 768
    );
    let check = if may_pass {
        let meaning =
            format!("{small}, unless it has CAP_NET_ADMIN: this process has, a service may not.");
        check.says(Status::Info, &bytes(value), &meaning)
    } else {
        let meaning = format!("{small}: a pause of the receiver loses the rest.");
        check.says(Status::Warning, &bytes(value), &meaning)
    };
    check.mended_by_sysctl("net.core.rmem_max", &asked.to_string())
}

fn rmem_default(files: &Files) -> Check {
    let (check, value) = core(files, "rmem_default");
    match value {
        Err(why) => check.unknown(&why),
        Ok(value) if value < RMEM_DEFAULT_BYTES => check
            .says(
                Status::Warning,
                &bytes(value),
                "Below the kernel's own default: programs that ask for no buffer lose datagrams in \
                 the shortest burst.",
            )
            .mended_by_sysctl("net.core.rmem_default", &(RMEM_DEFAULT_BYTES).to_string()),
        Ok(value) => check.says(
            Status::Ok,
            &bytes(value),
            "For sockets that ask for no buffer; ringest always asks.",
        ),
    }
}

fn wmem_max(files: &Files) -> Check {
    let (check, value) = core(files, "wmem_max");
    match value {
        Err(why) => check.unknown(&why),
        Ok(value) if value < WMEM_BYTES => check
            .says(
                Status::Warning,
                &bytes(value),
                "Below the kernel's own default: replies wait for room in the send buffer early.",
            )
            .mended_by_sysctl("net.core.wmem_max", &WMEM_BYTES.to_string()),
        Ok(value) => check.says(
            Status::Ok,
            &bytes(value),
            "Send buffers may be this large; replies that find no room are retried, then counted.",
        ),
    }
}

/// Checks net.ipv4.udp_mem, in pages, which all UDP sockets of the host share: above its third number datagrams are
/// dropped whatever room a socket has (udp(7)).
fn udp_mem(files: &Files, wanted: &Wanted) -> Check {
    let path = "/proc/sys/net/ipv4/udp_mem";
    let check = Check::of("udp_mem", format!("{path}, /proc/meminfo, /proc/net/sockstat"));
    let text = match files.read(path) {
        Ok(text) => text,
        Err(why) if why == "not there" && files.exists("/proc/sys/net/ipv4") => {
            return check.unknown("not shown in this network namespace");
        }
        Err(why) => return check.unknown(&why),
    };
    let &[_, pressure, most] = parse::numbers(&text).as_slice() else {
        return check.unknown(&format!("not three numbers: {}", text.trim()));
    };
    let limit = most.saturating_mul(PAGE_BYTES);
    let sockstat = files.read("/proc/net/sockstat").unwrap_or_default();
    let used = parse::sockstat_udp_pages(&sockstat).unwrap_or(0).saturating_mul(PAGE_BYTES);
    let memory = files.read("/proc/meminfo").ok();
    let memory = memory.as_deref().and_then(|text| parse::meminfo_bytes(text, "MemTotal"));
    let of = memory.map_or_else(String::new, |memory| format!(" of {} memory", bytes(memory)));
    let found = format!("at most {}{of}, {} in use", bytes(limit), bytes(used));
    // A socket may hold twice what it asked for (socket(7)).
    let sockets = wanted.receiver_cores.len().max(1) as u64;
    let needed = (wanted.rcvbuf_bytes as u64).saturating_mul(2).saturating_mul(sockets);
    let raise = |check: Check| {
        // Half of it again for everything else; the lower two as the kernel keeps their proportion.
        let pages = (needed + needed / 2).div_ceil(PAGE_BYTES).max(most.saturating_mul(2));
        let value = format!("{} {} {pages}", pages / 2, pages / 4 * 3);
        check.mended_by_sysctl("net.ipv4.udp_mem", &value)
    };
    if limit < needed {
        let meaning = format!(
            "The buffers of {} may hold {} and all UDP sockets together may not: datagrams are \
             dropped (UdpMemErrors) while a socket has room.",
            crate::check::counted(wanted.receiver_cores.len(), "receiver"),
            bytes(needed)
        );
        return raise(check.says(Status::Warning, &found, &meaning));
    }
    if used >= pressure.saturating_mul(PAGE_BYTES) && used > 0 {
        return raise(check.says(
            Status::Warning,
            &found,
            "UDP buffers are close to what all sockets together may hold; beyond it datagrams are \
             dropped (UdpMemErrors).",
        ));
    }
    check.says(Status::Ok, &found, "All UDP sockets of the host together may hold this much.")
}

fn backlog(files: &Files) -> Check {
    let (check, value) = core(files, "netdev_max_backlog");
    let meaning = "Frames that wait here for a core which RPS, loopback or a veth hands them to";
    match value {
        Err(why) => check.unknown(&why),
        Ok(value) if value < BACKLOG_FRAMES => {
            let lost = softnet(files).is_some_and(|softnet| softnet.dropped > 0);
            let status = if lost { Status::Warning } else { Status::Info };
            check
                .says(
                    status,
                    &format!("{value} frames"),
                    &format!("{meaning}; a burst beyond it is lost before any socket sees it."),
                )
                .mended_by_sysctl("net.core.netdev_max_backlog", &BACKLOG_FRAMES.to_string())
        }
        Ok(value) => check.says(Status::Ok, &format!("{value} frames"), &format!("{meaning}.")),
    }
}

fn softnet(files: &Files) -> Option<parse::Softnet> {
    parse::softnet(&files.read("/proc/net/softnet_stat").ok()?)
}

fn budget(files: &Files) -> Check {
    let (check, value) = core(files, "netdev_budget");
    let usecs = files.number("/proc/sys/net/core/netdev_budget_usecs");
    let value = match value {
        Ok(value) => value,
        Err(why) => return check.unknown(&why),
    };
    let found = match usecs {
        Ok(usecs) => format!("{value} frames, {usecs} µs"),
        Err(_) => format!("{value} frames"),
    };
    // Only a host that runs out of it needs more.
    let squeezed = softnet(files).is_some_and(|softnet| softnet.squeezed > 0);
    if squeezed && value < BUDGET_FRAMES {
        return check
            .says(
                Status::Info,
                &found,
                "A core takes this many frames in one round, and rounds have ended early here (see \
                 softnet_squeezed).",
            )
            .mended_by_sysctl("net.core.netdev_budget", &BUDGET_FRAMES.to_string());
    }
    check.says(Status::Ok, &found, "A core takes this many frames in one round of its softirq.")
}

fn busy_poll(files: &Files) -> Check {
    let (check, value) = core(files, "busy_poll");
    match value {
        Err(why) => check.unknown(&why),
        Ok(0) => check.says(
            Status::Ok,
            "off",
            "poll(2) does not spin on the network card: idle costs nothing.",
        ),
        Ok(us) => check.says(
            Status::Info,
            &format!("{us} µs"),
            "Every poll(2) spins on the network card this long: less delay, more CPU.",
        ),
    }
}
