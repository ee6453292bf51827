//! Steering: the choice of the receiver whose socket gets a datagram. The kernel makes it within a SO_REUSEPORT group, and
//! a program can take its place.
//!
//! | | by | order of one peer | locality |
//! |---|---|---|---|
//! | hash | addresses and ports | kept | none: any core |
//! | cpu | the CPU that took it from the NIC | kept while the NIC keeps it | the receiver's core |
//! | incoming-cpu | the same, as a hint | as with cpu | the receiver's core |
//! | round-robin | its number | given up | none |

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::bpf::classic::by_cpu;
use crate::bpf::program;
use crate::bpf::program::{ADD_FETCH, ATOMIC_ADD_DW, EXIT, JEQ_IMM, MOD_IMM, MOV_IMM, MOV_REG, op};
use ringest_base::sys::sockopt;

/// The choice of the receiver whose socket gets a datagram. On loopback the CPU is the sender's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steer {
    /// The kernel's own way: a hash of addresses and ports. One peer's datagrams go to one receiver.
    #[default]
    Hash,
    /// The receiver that is pinned to the CPU the datagram came in on; from other CPUs by their
    /// number. A classic BPF program (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5).
    Cpu,
    /// The same, as a hint on each socket (SO_INCOMING_CPU; in groups since Linux 6.2); from other
    /// CPUs by the hash.
    IncomingCpu,
    /// One after the other: the order of a peer's datagrams is given up, for one hot sender and many
    /// receivers. A train goes to one receiver. An eBPF program (SO_ATTACH_REUSEPORT_EBPF, Linux 4.5;
    /// counting takes 5.12).
    RoundRobin,
}

ringest_base::names!(Steer {
    "hash" => Hash;
    "cpu" => Cpu;
    "incoming-cpu" => IncomingCpu;
    "round-robin" => RoundRobin
});

impl Steer {
    /// Returns whether a program must be in place before the first datagram is accepted.
    pub(crate) fn needs_program(self) -> bool {
        matches!(self, Self::Cpu | Self::RoundRobin)
    }
}

/// Returns a program that counts, and chooses the socket by the count modulo their number.
fn round_robin(map: BorrowedFd<'_>, sockets: i32) -> Vec<u64> {
    let take = [
        op(JEQ_IMM, 0, 0, 4, 0),
        op(MOV_IMM, 1, 0, 0, 1),
        op(ATOMIC_ADD_DW, 0, 1, 0, ADD_FETCH),
        op(MOD_IMM, 1, 0, 0, sockets),
        op(MOV_REG, 0, 1, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ];
    [&program::look_up(map)[..], &take[..]].concat()
}

/// Puts the program of `steer` in place for the group that `socket` is in; `cores` are the
/// receivers', in the order their sockets were bound. Without one, nothing.
///
/// # Errors
/// The step that failed and what the kernel said: EPERM without CAP_BPF (round robin).
pub(crate) fn attach(
    steer: Steer,
    socket: BorrowedFd<'_>,
    cores: &[usize],
) -> Result<(), (&'static str, io::Error)> {
    match steer {
        Steer::Hash | Steer::IncomingCpu => Ok(()),
        Steer::Cpu => sockopt::attach_reuseport_cbpf(socket, &by_cpu(cores))
            .map_err(|error| ("SO_ATTACH_REUSEPORT_CBPF", error)),
        Steer::RoundRobin => {
            let sockets = i32::try_from(cores.len()).unwrap_or(i32::MAX);
            let map = program::counter().map_err(|error| ("bpf map", error))?;
            let program = program::load(&round_robin(map.as_fd(), sockets))
                .map_err(|error| ("bpf program", error))?;
            // Once attached the socket holds the program, and the program its map.
            program::attach(socket, libc::SO_ATTACH_REUSEPORT_EBPF, program.as_fd())
                .map_err(|error| ("SO_ATTACH_REUSEPORT_EBPF", error))
        }
    }
}
