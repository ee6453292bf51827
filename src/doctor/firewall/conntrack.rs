//! Checks of connection tracking: each new sender takes an entry of its table, and a full table drops datagrams.

use crate::check::{Check, Status, share};
use crate::files::Files;
use crate::parse;
use crate::wanted::Wanted;
use ringest_base::text::figures::count;

const DIR: &str = "/proc/sys/net/netfilter";
/// From this many percent on the table is called nearly full: senders come and go faster than the
/// 30 s an entry lives.
const FULL_PERCENT: u64 = 80;
/// Size of the table that the kernel chooses on a host with much memory; an entry takes about 320 bytes.
const TABLE_ENTRIES: u64 = 262_144;
const MAX: &str = "net.netfilter.nf_conntrack_max";

pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    vec![table(files), drops(files), udp(files, wanted)]
}

/// Returns whether the kernel has no connection tracking.
fn absent(files: &Files) -> bool {
    files.exists("/proc/sys/net") && !files.exists(DIR)
}

fn table(files: &Files) -> Check {
    let check = Check::of("conntrack_table", format!("{DIR}/nf_conntrack_count, nf_conntrack_max"));
    if absent(files) {
        return check.says(Status::Ok, "no connection tracking", "Nothing is tracked.");
    }
    let held = files.number(&format!("{DIR}/nf_conntrack_count"));
    let most = files.number(&format!("{DIR}/nf_conntrack_max"));
    let (held, most) = match (held, most) {
        (Ok(held), Ok(most)) => (held, most),
        (Err(why), _) | (_, Err(why)) => return check.unknown(&why),
    };
    let found = format!("{} of {} entries ({})", count(held), count(most), share(held, most));
    if most > 0 && held.saturating_mul(100) >= most.saturating_mul(FULL_PERCENT) {
        let more = most.saturating_mul(2).max(TABLE_ENTRIES);
        return check
            .says(
                Status::Warning,
                &found,
                "A full table drops the datagrams of every sender it does not know yet.",
            )
            .mended_by_sysctl(MAX, &more.to_string());
    }
    check.says(Status::Ok, &found, "There is room for senders to come.")
}

/// /proc/net/stat/nf_conntrack: a line a core since boot.
fn drops(files: &Files) -> Check {
    let source = "/proc/net/stat/nf_conntrack";
    let check = Check::of("conntrack_drops", source);
    let text = match files.read(source) {
        Ok(text) => text,
        Err(_) if absent(files) => {
            return check.says(Status::Ok, "no connection tracking", "Nothing is tracked.");
        }
        Err(why) => return check.unknown(&why),
    };
    let table = parse::hex_columns(&text);
    let (Some(full), Some(early)) = (table.get("drop"), table.get("early_drop")) else {
        return check.unknown("not in the form expected");
    };
    match (full, early) {
        (0, 0) => {
            check.says(Status::Ok, "none", "No datagram was lost to a full table since boot.")
        }
        (full, early) => {
            let most = files.number(&format!("{DIR}/nf_conntrack_max")).unwrap_or(0);
            let found = format!(
                "datagrams dropped: {}, entries pushed out: {}",
                count(*full),
                count(*early)
            );
            let meaning = "The table was full since boot: datagrams of new senders were lost.";
            let check = check.says(Status::Warning, &found, meaning);
            if most < TABLE_ENTRIES {
                return check.mended_by_sysctl(MAX, &TABLE_ENTRIES.to_string());
            }
            // Perhaps it was raised after the loss: the command shows whether it goes on.
            check.mended_by("watch -d cat /proc/net/stat/nf_conntrack")
        }
    }
}

/// Checks whether UDP is tracked, and whether senders to this port are.
fn udp(files: &Files, wanted: &Wanted) -> Check {
    let source = "/proc/net/nf_conntrack";
    let check = Check::of("conntrack_udp", source);
    let text = match files.read(source) {
        Ok(text) => text,
        Err(_) if absent(files) => {
            return check.says(Status::Ok, "no connection tracking", "Nothing is tracked.");
        }
        Err(why) => return check.unknown(&why),
    };
    let (udp, ours) = parse::conntrack_udp(&text, wanted.port());
    match (udp, ours, wanted.port()) {
        (0, ..) => {
            check.says(Status::Ok, "no UDP entries", "No sender of datagrams is tracked now.")
        }
        (_, 1.., Some(port)) => check
            .says(
                Status::Warning,
                &format!("senders to port {port} that are tracked: {}", count(ours)),
                "Each datagram is looked up in the table and each new sender takes an entry of it, \
                 which ingest has no use for.",
            )
            .mended_by(&format!(
                "nft 'add table inet ringest; add chain inet ringest untracked {{ type filter hook \
                 prerouting priority raw; }}; add rule inet ringest untracked udp dport {port} \
                 notrack'"
            )),
        (_, _, Some(port)) => check.says(
            Status::Ok,
            &format!("{} UDP entries, none to port {port}", count(udp)),
            "Of this port no sender is tracked now.",
        ),
        (_, _, None) => check.says(
            Status::Info,
            &format!("{} UDP entries", count(udp)),
            "UDP is tracked: each new sender takes an entry. Give the address to see whether those \
             to its port are.",
        ),
    }
}
