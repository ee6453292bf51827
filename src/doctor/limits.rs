//! Checks of this process's limits, /proc/self/limits.

use crate::check::{Check, Status, bytes, counted};
use crate::files::Files;
use crate::wanted::Wanted;
use crate::{kernel, parse};

/// Locked memory of one receiver's ring, its queues and its buffer ring at the default size. Too low:
/// io_uring_setup(2) fails with ENOMEM without a warning here. Too high: the fix asks for more than is used.
const RING_BYTES: u64 = 256 << 10;
/// Descriptors of one receiver (socket, ring, wake-up, filter) and those of the program itself.
const RECEIVER_FILES: u64 = 6;
const PROGRAM_FILES: u64 = 64;

const SOURCE: &str = "/proc/self/limits";

pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    let (memlock, nofile) = (Check::of("memlock", SOURCE), Check::of("nofile", SOURCE));
    match files.read(SOURCE) {
        Ok(limits) => {
            let status = files.read("/proc/self/status").unwrap_or_default();
            let exempt = parse::capabilities(&status).is_some_and(|c| c & kernel::IPC_LOCK != 0);
            let receivers = wanted.receiver_cores.len();
            vec![
                judge_memlock(memlock, &limits, exempt, receivers),
                judge_nofile(nofile, &limits, receivers),
            ]
        }
        Err(why) => vec![memlock.unknown(&why), nofile.unknown(&why)],
    }
}

/// Checks the limit of locked memory. Rings count against it up to Linux 5.11, and again from 6.14 on (tried on 6.18: with a limit of 0
/// and without CAP_IPC_LOCK io_uring_setup(2) gives ENOMEM).
fn judge_memlock(check: Check, limits: &str, exempt: bool, receivers: usize) -> Check {
    let Some((soft, hard)) = parse::limit(limits, "Max locked memory") else {
        return check.unknown("no line Max locked memory");
    };
    let needed = (receivers as u64).saturating_mul(RING_BYTES);
    let Some(soft) = soft else {
        return check.says(Status::Ok, "unlimited", "Rings may lock as much memory as they need.");
    };
    let found = bytes(soft);
    if soft >= needed {
        return check.says(
            Status::Ok,
            &found,
            &format!("Enough for the rings of {}.", counted(receivers, "receiver")),
        );
    }
    if exempt {
        let meaning = "Too low for a ring, but this process may pass it (CAP_IPC_LOCK); a service \
                       without that right may not.";
        return check.says(Status::Ok, &found, meaning);
    }
    let meaning = format!(
        "Too low for the rings of {} ({}): io_uring is refused with ENOMEM and recvmmsg(2) stands \
         in. In a unit of systemd: LimitMEMLOCK=infinity.",
        counted(receivers, "receiver"),
        bytes(needed)
    );
    let check = check.says(Status::Warning, &found, &meaning);
    let raised = needed.div_ceil(1024).max(8192);
    match hard {
        Some(hard) if hard < needed => check.mended_by("prlimit --pid $$ --memlock=unlimited"),
        Some(hard) => check.mended_by(&format!("ulimit -l {}", raised.min(hard / 1024))),
        None => check.mended_by(&format!("ulimit -l {raised}")),
    }
}

fn judge_nofile(check: Check, limits: &str, receivers: usize) -> Check {
    let Some((soft, hard)) = parse::limit(limits, "Max open files") else {
        return check.unknown("no line Max open files");
    };
    let needed = PROGRAM_FILES + (receivers as u64).saturating_mul(RECEIVER_FILES);
    let (Some(soft), true) = (soft, soft.is_none_or(|soft| soft < needed)) else {
        let found =
            soft.map_or_else(|| "unlimited".to_owned(), |soft| format!("{soft} descriptors"));
        return check.says(
            Status::Ok,
            &found,
            &format!("Enough for {}.", counted(receivers, "receiver")),
        );
    };
    let found = format!("{soft} descriptors");
    let meaning = format!(
        "Too few for {}, their rings and sockets (about {needed}): a start may fail with EMFILE. \
         In a unit of systemd: LimitNOFILE=65536.",
        counted(receivers, "receiver")
    );
    let check = check.says(Status::Warning, &found, &meaning);
    match hard {
        Some(hard) if hard < needed => check.mended_by("prlimit --pid $$ --nofile=65536:65536"),
        Some(hard) => check.mended_by(&format!("ulimit -n {}", hard.min(65_536))),
        None => check.mended_by("ulimit -n 65536"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max open files            32                   4096                 files     
Max locked memory         65536                unlimited            bytes     
";

    #[test]
    fn low_limits_are_found_and_each_fix_stays_below_the_hard_limit() {
        let check = || Check::of("x", SOURCE);
        let memlock = judge_memlock(check(), LIMITS, false, 2);
        assert_eq!((memlock.status, memlock.fix.as_str()), (Status::Warning, "ulimit -l 8192"));
        assert_eq!(judge_memlock(check(), LIMITS, true, 2).status, Status::Ok);
        let nofile = judge_nofile(check(), LIMITS, 2);
        assert_eq!((nofile.status, nofile.fix.as_str()), (Status::Warning, "ulimit -n 4096"));
        let hard = LIMITS.replace("4096", "32  ").replace("unlimited", "65536    ");
        assert!(judge_nofile(check(), &hard, 2).fix.starts_with("prlimit"));
        assert!(judge_memlock(check(), &hard, false, 2).fix.starts_with("prlimit"));
        let roomy = LIMITS.replace("32  ", "1024").replace("65536", "unlimited");
        assert_eq!(judge_nofile(check(), &roomy, 2).status, Status::Ok);
        assert_eq!(judge_memlock(check(), &roomy, false, 2).found, "unlimited");
        for text in ["", "Max open files", "Max open files x y\nMax locked memory 1"] {
            assert_eq!(judge_nofile(check(), text, 1).status, Status::Unknown);
            assert_eq!(judge_memlock(check(), text, false, 1).status, Status::Unknown);
        }
    }
}
