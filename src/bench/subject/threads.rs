//! CPU time and context switches of threads of this process, read by another thread.

use std::fs::read_to_string;

use nix::time::{ClockId, clock_gettime};

use crate::document::trial::Switches;

/// CPU time and context switches of threads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) switches: Switches,
}

impl Usage {
    /// Reads the usage of one thread by its kernel id; 0 for a thread that has ended.
    pub(crate) fn of(thread: i32) -> Self {
        let status = format!("/proc/self/task/{thread}/status");
        let status = read_to_string(status).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let switches = Switches {
            voluntary: field("voluntary_ctxt_switches:"),
            involuntary: field("nonvoluntary_ctxt_switches:"),
        };
        Self { cpu_ns: cpu_ns(thread), switches }
    }

    /// Returns the sum.
    pub(crate) fn sum(all: &[Self]) -> Self {
        all.iter().fold(Self::default(), |sum, one| Self {
            cpu_ns: sum.cpu_ns + one.cpu_ns,
            switches: Switches {
                voluntary: sum.switches.voluntary + one.switches.voluntary,
                involuntary: sum.switches.involuntary + one.switches.involuntary,
            },
        })
    }

    /// Returns the usage since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let (now, then) = (&self.switches, &before.switches);
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            switches: Switches {
                voluntary: now.voluntary.saturating_sub(then.voluntary),
                involuntary: now.involuntary.saturating_sub(then.involuntary),
            },
        }
    }
}

/// Reads the CPU time of one thread, ns (clock_gettime(2); the clock of any thread of the process can be read).
fn cpu_ns(thread: i32) -> u64 {
    // MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) in linux/posix-timers_types.h.
    let clock = ClockId::from_raw(!thread << 3 | 0b110);
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_uses_time() {
        let me = nix::unistd::gettid().as_raw();
        let before = Usage::of(me);
        while Usage::of(me).since(&before).cpu_ns < 1_000_000 {}
        std::thread::yield_now();
        // Above any pid_max, and below what a clock id can hold.
        assert_eq!(Usage::of(0x0fff_ffff), Usage::default(), "nobody");
    }
}
