//! Counts the datagrams that reach a socket, before its receive buffer can refuse them.
//!
//! The kernel's own drop counter counts buffers, and with UDP_GRO one buffer may be a train of many
//! datagrams. A socket filter (BPF_PROG_TYPE_SOCKET_FILTER, attached with SO_ATTACH_BPF, Linux 3.19)
//! sees every buffer before the receive buffer is checked (`udp_queue_rcv_one_skb`), with its
//! length and `gso_size` (readable since Linux 5.7), so it can add up datagrams exactly:
//! `gso_size ? ceil((len - 8) / gso_size) : 1`, where 8 is the UDP header. `gso_segs` is not used:
//! it may be 0 for frames from untrusted senders.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::bpf::program;
use crate::bpf::program::{
    ADD_IMM, ADD_REG, ATOMIC_ADD_DW, DIV_REG, EXIT, JEQ_IMM, JLE_IMM, LDX_W, MOV_IMM, MOV_REG,
    MOV32_IMM, op,
};

/// Why arrivals cannot be counted on this host.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub struct ArrivalsError {
    /// The step that failed.
    pub step: &'static str,
    /// The kernel's error; EPERM without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN).
    #[source]
    pub error: io::Error,
}

impl ArrivalsError {
    /// Returns what would mend it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => {
                "; each socket takes 3 descriptors, raise `ulimit -n`"
            }
            _ => "; it takes CAP_BPF and CAP_NET_ADMIN (or root) and Linux 5.7",
        }
    }
}

/// Counts the datagrams that reach one socket.
#[derive(Debug)]
pub struct Arrivals {
    map: OwnedFd,
    program: OwnedFd,
}

impl Arrivals {
    /// Loads the map and the program.
    ///
    /// # Errors
    /// The kernel refused: no CAP_BPF, no bpf(2), or the verifier does not know `gso_size`.
    pub fn load() -> Result<Self, ArrivalsError> {
        let map = program::counter().map_err(|error| ArrivalsError { step: "bpf map", error })?;
        let program = program::load(&program(map.as_fd()))
            .map_err(|error| ArrivalsError { step: "bpf program", error })?;
        Ok(Self { map, program })
    }

    /// Counts and accepts every datagram from now on. Attach before bind(2), so that none is missed.
    ///
    /// # Errors
    /// setsockopt(2) failed.
    pub fn attach(&self, socket: &impl AsFd) -> io::Result<()> {
        program::attach(socket.as_fd(), libc::SO_ATTACH_BPF, self.program.as_fd())
    }

    /// Returns how many datagrams have reached the socket.
    ///
    /// # Errors
    /// bpf(2) failed, which it does not for a map that is open.
    pub fn arrived(&self) -> io::Result<u64> {
        program::read(self.map.as_fd())
    }
}

// Offsets in struct __sk_buff, linux/bpf.h.
const SKB_LEN: i16 = 0;
const SKB_GSO_SIZE: i16 = 176;

/// The counting program. r6 = length, r7 = gso_size, r8 = datagrams.
fn program(map: BorrowedFd<'_>) -> Vec<u64> {
    const KEEP_ALL: i32 = -1;
    let count = [
        op(LDX_W, 6, 1, SKB_LEN, 0),
        op(LDX_W, 7, 1, SKB_GSO_SIZE, 0),
        op(MOV_IMM, 8, 0, 0, 1),
        op(JEQ_IMM, 7, 0, 5, 0),  // no train: one datagram
        op(JLE_IMM, 6, 0, 4, 8),  // no payload: one datagram
        op(ADD_IMM, 6, 0, 0, -9), // less the UDP header, less one to round up
        op(ADD_REG, 6, 7, 0, 0),
        op(DIV_REG, 6, 7, 0, 0),
        op(MOV_REG, 8, 6, 0, 0),
    ];
    let add = [
        op(JEQ_IMM, 0, 0, 1, 0),
        op(ATOMIC_ADD_DW, 0, 8, 0, 0),
        op(MOV32_IMM, 0, 0, 0, KEEP_ALL),
        op(EXIT, 0, 0, 0, 0),
    ];
    [&count[..], &program::look_up(map)[..], &add[..]].concat()
}
