//! Checks of huge pages: the slots are one large mapping, of which small datagrams touch a few cache lines each.

use crate::check::{Check, Status, bytes};
use crate::files::Files;
use crate::parse;

pub(crate) fn checks(files: &Files) -> Vec<Check> {
    vec![transparent(files), reserved(files)]
}

fn transparent(files: &Files) -> Check {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let check = Check::of("hugepages", path);
    let text = match files.read(path) {
        Ok(text) => text,
        Err(why) if why == "not there" && files.exists("/sys/kernel/mm") => {
            return check.says(
                Status::Info,
                "not in this kernel",
                "Slots lie in small pages, which costs some TLB misses.",
            );
        }
        Err(why) => return check.unknown(&why),
    };
    match parse::chosen(&text) {
        Some(mode @ ("always" | "madvise")) => {
            check.says(Status::Ok, mode, "Slots get huge pages, which spares the TLB.")
        }
        Some(mode) => check
            .says(Status::Info, mode, "Slots lie in small pages, which costs some TLB misses.")
            .mended_by(&format!("echo madvise > {path}")),
        None => check.unknown(&format!("not in the form expected: {}", text.trim())),
    }
}

/// Checks memory set aside for hugetlb: it is missing elsewhere, and ringest does not use it.
fn reserved(files: &Files) -> Check {
    let check = Check::of("hugetlb", "/proc/meminfo");
    let text = match files.read("/proc/meminfo") {
        Ok(text) => text,
        Err(why) => return check.unknown(&why),
    };
    let read = |name: &str| parse::meminfo_bytes(&text, name);
    match (read("HugePages_Total"), read("HugePages_Free"), read("Hugepagesize")) {
        (Some(0), ..) | (None, ..) => check.says(
            Status::Ok,
            "none set aside",
            "No memory is kept for programs that ask for hugetlb pages.",
        ),
        (Some(total), Some(free), Some(size)) => check.says(
            Status::Info,
            &format!("{total} pages of {}, {free} free", bytes(size)),
            "Set aside for programs that ask for it; ringest does not, so what is free is missing \
             elsewhere.",
        ),
        _ => check.unknown("not in the form expected"),
    }
}
