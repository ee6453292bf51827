//! Checks of the kernel version and of each io_uring feature, by trying it.

use std::net::UdpSocket;

use nix::sys::socket::{setsockopt, sockopt};

use crate::check::{Check, Status};
use crate::files::Files;
use crate::parse;
use ringest_base::sys::threads::run_on_own_thread;
use ringest_engine::backend::uring::tryout;
use ringest_engine::backend::uring::tryout::Tried;

/// `CAP_NET_ADMIN` in the mask of capabilities(7).
pub(crate) const NET_ADMIN: u64 = 1 << 12;
/// `CAP_IPC_LOCK`.
pub(crate) const IPC_LOCK: u64 = 1 << 14;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

/// Fix for a container of Docker. The message names the way for a unit of systemd.
const UNCONFINED: &str = "docker run --security-opt seccomp=unconfined --network host IMAGE";

pub(crate) fn checks(files: &Files) -> Vec<Check> {
    let tried = run_on_own_thread("ringest-probe", tryout::features).unwrap_or_default();
    let mut checks = read_checks(files);
    checks.push(seccomp(files, &tried));
    checks.extend(tried.iter().map(feature));
    checks.push(udp_gro());
    checks
}

/// Returns the checks that only read files.
pub(crate) fn read_checks(files: &Files) -> Vec<Check> {
    vec![kernel(files), disabled(files), capabilities(files)]
}

fn kernel(files: &Files) -> Check {
    let check = Check::of("kernel", "/proc/sys/kernel/osrelease");
    let text = match files.read("/proc/sys/kernel/osrelease") {
        Ok(text) => text,
        Err(why) => return check.unknown(&why),
    };
    let found = format!("Linux {}", text.trim());
    match parse::release(&text) {
        None => check.unknown(&found),
        Some(release) if release < (6, 1) => check
            .says(Status::Warning, &found,
            "Before Linux 6.1 io_uring lacks what a receiver needs: recvmmsg(2) stands in, at a \
             higher cost per datagram.")
            .mended_by(upgrade(files)),
        Some(release) if release < (6, 12) => check.says(Status::Info, &found,
            "io_uring works; from Linux 6.12 on it also gathers wake-ups (min_wait), which halves \
             the cost per datagram at moderate rates."),
        Some(_) => check.says(Status::Ok, &found,
            "Everything used here is in this kernel, unless it was built without."),
    }
}

/// Returns the command that gets a newer kernel on this distribution (os-release(5)); empty if it is not known.
fn upgrade(files: &Files) -> &'static str {
    let about = files.read("/etc/os-release").unwrap_or_default();
    let id = about.lines().find_map(|line| line.strip_prefix("ID="));
    match id.map(|id| id.trim_matches('"')) {
        Some("debian") => "apt-get install linux-image-$(dpkg --print-architecture)",
        Some("ubuntu") => "apt-get install linux-generic",
        Some("fedora" | "rhel" | "centos" | "rocky" | "almalinux") => "dnf upgrade kernel",
        _ => "",
    }
}

/// Checks kernel.io_uring_disabled (Linux 6.6).
fn disabled(files: &Files) -> Check {
    const KEY: &str = "kernel.io_uring_disabled";
    let path = "/proc/sys/kernel/io_uring_disabled";
    let check = Check::of("io_uring_disabled", path);
    match files.number(path) {
        Ok(0) => check.says(Status::Ok, "0", "Every process may use io_uring."),
        Ok(1) => check
            .says(
                Status::Warning,
                "1",
                "Only processes in kernel.io_uring_group, or with CAP_SYS_ADMIN, may use io_uring; \
                 recvmmsg(2) stands in for others.",
            )
            .mended_by_sysctl(KEY, "0"),
        Ok(value) => check
            .says(
                Status::Warning,
                &value.to_string(),
                "No process may make a ring: recvmmsg(2) stands in, at a higher cost per datagram.",
            )
            .mended_by_sysctl(KEY, "0"),
        Err(why) if why == "not there" => {
            check.says(Status::Ok, "not there", "This kernel has no such switch (Linux 6.6).")
        }
        Err(why) => check.unknown(&why),
    }
}

/// Checks whether a seccomp filter refuses io_uring. A filter that allows it does no harm.
fn seccomp(files: &Files, tried: &[Tried]) -> Check {
    let check = Check::of("seccomp", "/proc/self/status, io_uring_setup(2)");
    let status = match files.read("/proc/self/status") {
        Ok(status) => status,
        Err(why) => return check.unknown(&why),
    };
    let filters = parse::field(&status, "Seccomp_filters").unwrap_or("some");
    // These two trials make all calls of io_uring: setup, register and enter.
    let refused = tried.iter().find(|tried| {
        ["ring", "registered_files"].contains(&tried.feature)
            && tried.outcome.as_ref().is_err_and(|why| {
                why.contains("os error 1)")
                    || why.contains("os error 38)")
                    || why.contains("os error 13)")
            })
    });
    match (parse::field(&status, "Seccomp"), refused) {
        (Some("0"), _) => {
            check.says(Status::Ok, "no filter", "No system call is refused by a filter.")
        }
        (Some("2"), None) => check.says(
            Status::Ok,
            &format!("{filters} filter, io_uring allowed"),
            "A filter is there, and lets io_uring through.",
        ),
        (Some("2"), Some(tried)) => {
            let why = tried.outcome.as_ref().err().map_or("", String::as_str);
            let found = format!("{filters} filter, io_uring refused: {why}");
            check
                .says(
                    Status::Warning,
                    &found,
                    "A seccomp filter refuses io_uring, as container runtimes do by default: \
                     recvmmsg(2) stands in. Allow io_uring_setup, io_uring_enter and \
                     io_uring_register: in a profile of the container, or in a unit of systemd by \
                     SystemCallFilter=.",
                )
                .mended_by(UNCONFINED)
        }
        (Some(mode), _) => check.says(
            Status::Info,
            &format!("mode {mode}"),
            "Only read, write and exit are allowed.",
        ),
        (None, _) => check.unknown("no line Seccomp in /proc/self/status"),
    }
}

/// Returns the effect of a missing feature, in a sentence.
fn without(feature: &str) -> &'static str {
    match feature {
        "no_sqarray" => {
            "Without it the submission queue takes one more indirection; nothing is lost."
        }
        "min_wait" => {
            "Without it wake-ups are not gathered: up to twice the CPU per datagram at moderate \
             rates."
        }
        "napi" => {
            "Without it a ring cannot poll the network card by itself; receiving works as usual."
        }
        _ => "Without it receivers use recvmmsg(2), at a higher cost per datagram.",
    }
}

fn feature(tried: &Tried) -> Check {
    let id = format!("io_uring.{}", tried.feature);
    let check = Check::of(id, "tried on a ring of its own");
    match &tried.outcome {
        Ok(()) => check.says(
            Status::Ok,
            "works",
            &format!("This host has it ({} or later).", tried.since),
        ),
        Err(why) => {
            let status = match tried.feature {
                "no_sqarray" | "napi" => Status::Info,
                _ => Status::Warning,
            };
            let found = format!("refused: {why}");
            let check = check.says(status, &found, without(tried.feature));
            if why.contains("os error 12)") {
                return check.mended_by("ulimit -l unlimited");
            }
            check
        }
    }
}

/// Checks UDP_GRO and UDP_SEGMENT, by setting them.
fn udp_gro() -> Check {
    let check = Check::of("udp_gro", "setsockopt(2) UDP_GRO, UDP_SEGMENT");
    let socket = match UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")) {
        Ok(socket) => socket,
        Err(error) => return check.unknown(&format!("no socket to try it on: {error}")),
    };
    let receive = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    let send = setsockopt(&socket, sockopt::UdpGsoSegment, &1000);
    match (receive, send) {
        (Ok(()), Ok(())) => check.says(
            Status::Ok,
            "works",
            "Datagrams of one flow can come and leave many at a time (Linux 5.0).",
        ),
        (Err(error), _) | (_, Err(error)) => check.says(
            Status::Warning,
            &format!("refused: {error}"),
            "Without it every datagram goes through the stack alone (Linux 5.0 has it).",
        ),
    }
}

/// Checks the capabilities for large buffers and for counting arrivals.
fn capabilities(files: &Files) -> Check {
    let check = Check::of("capabilities", "/proc/self/status");
    let status = match files.read("/proc/self/status") {
        Ok(status) => status,
        Err(why) => return check.unknown(&why),
    };
    let Some(held) = parse::capabilities(&status) else { return check.unknown("no line CapEff") };
    let admin = held & (NET_ADMIN | SYS_ADMIN) == NET_ADMIN | SYS_ADMIN || held & NET_ADMIN != 0;
    let bpf = held & (BPF | SYS_ADMIN) != 0;
    match (admin, bpf) {
        (true, true) => check.says(
            Status::Ok,
            "CAP_NET_ADMIN, CAP_BPF",
            "Receive buffers may pass rmem_max, and arrivals can be counted exactly.",
        ),
        _ => {
            let missing: Vec<&str> = [(admin, "CAP_NET_ADMIN"), (bpf, "CAP_BPF")]
                .iter()
                .filter(|(held, _)| !held)
                .map(|(_, name)| *name)
                .collect();
            check
                .says(Status::Info, &format!("without {}", missing.join(" and ")),
            "Without CAP_NET_ADMIN receive buffers end at rmem_max; without CAP_BPF arrivals are \
             not counted by a socket filter, so kernel drops may be counted in buffers.")
                .mended_by("setcap cap_net_admin,cap_bpf,cap_net_bind_service+ep \"$(command -v \
                            ringest)\"")
        }
    }
}
