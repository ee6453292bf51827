//! The probe: tries io_uring on this host with a ring of our flags, a multishot recvmsg on a provided buffer, and one
//! datagram. Version numbers say nothing about seccomp, sysctls or backports.
//!
//! The datagram goes through a pair of Unix sockets: the same request, and no address, port or
//! loopback interface is needed.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;

use crate::backend::uring::ring;
use crate::backend::uring::setup::Features;

/// Tries io_uring. Call it on a thread that ends soon: the kernel takes a closed ring down later, and interrupts the
/// thread that made it for that (EINTR from its next slow call, EAGAIN from the bpf verifier).
///
/// # Errors
/// One sentence: the step that was refused, and what would mend it.
pub fn io_uring() -> Result<Features, String> {
    try_io_uring().map_err(|(step, error)| explain(step, &error))
}

fn try_io_uring() -> Result<Features, (&'static str, io::Error)> {
    let (ours, peer) = UnixDatagram::pair().map_err(|error| ("socketpair(2)", error))?;
    let features = ring::try_multishot(&ours, || peer.send(b"probe").map(drop))?;
    Ok(features)
}

/// Returns the likely cause of an error, from its errno and from /proc.
fn explain(step: &str, error: &io::Error) -> String {
    let cause = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match sysctl_disabled() {
            Some(2) => {
                "kernel.io_uring_disabled is 2; `sysctl kernel.io_uring_disabled=0` allows it"
            }
            Some(1) => {
                "kernel.io_uring_disabled is 1 and this process is not in \
                 kernel.io_uring_group; `sysctl kernel.io_uring_disabled=0` allows it"
            }
            _ if seccomp_active() => {
                "a seccomp filter refuses it, as container runtimes do by default; allow \
                 io_uring_setup, io_uring_enter and io_uring_register in the profile"
            }
            _ => "a security module refuses it",
        },
        Some(libc::ENOSYS) if seccomp_active() => {
            "a seccomp filter hides it, or the kernel has none; allow io_uring_setup, \
             io_uring_enter and io_uring_register in the profile"
        }
        Some(libc::ENOSYS) => "this kernel was built without io_uring",
        Some(libc::ENOMEM) => {
            "the locked-memory limit is too low (RLIMIT_MEMLOCK); raise it with `ulimit -l`"
        }
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "this kernel lacks what is needed; Linux 6.1 or later has it"
        }
        Some(libc::EMFILE | libc::ENFILE) => "no descriptor is left; raise `ulimit -n`",
        _ => "unexpected; please report it",
    };
    format!("{step}: {error}: {cause}")
}

fn sysctl_disabled() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn seccomp_active() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_cause() {
        let text = |errno| explain("io_uring_setup(2)", &io::Error::from_raw_os_error(errno));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
        assert!(text(libc::EINVAL).contains("Linux 6.1"));
        assert!(text(libc::EMFILE).contains("ulimit -n"));
        assert!(text(libc::ENOSYS).contains("io_uring"));
    }
}
