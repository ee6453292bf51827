//! Counting what reaches a socket, before its receive buffer can refuse it.
//!
//! The kernel's own drop counter counts buffers, and with UDP_GRO one buffer may be a train of many
//! datagrams. A socket filter (BPF_PROG_TYPE_SOCKET_FILTER, attached with SO_ATTACH_BPF, Linux 3.19)
//! sees every buffer before the receive buffer is checked (`udp_queue_rcv_one_skb`), with its
//! length and `gso_size` (readable since Linux 5.7), so it can add up datagrams exactly:
//! `gso_size ? ceil((len - 8) / gso_size) : 1`, where 8 is the UDP header. `gso_segs` is not used:
//! it may be 0 for frames from untrusted senders.
#![expect(unsafe_code, reason = "bpf(2) and SO_ATTACH_BPF have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Why counting arrivals is not possible here, with the kernel's error.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error}")]
pub struct ArrivalsError {
    /// What was tried.
    pub step: &'static str,
    /// What the kernel said; EPERM without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN).
    #[source]
    pub error: io::Error,
}

impl ArrivalsError {
    /// What would mend it.
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
    /// Loads the map and both programs.
    ///
    /// # Errors
    /// The kernel refused: no CAP_BPF, no bpf(2), or the verifier does not know `gso_size`.
    pub fn load() -> Result<Self, ArrivalsError> {
        if cfg!(target_endian = "big") {
            let error = io::Error::from(io::ErrorKind::Unsupported);
            return Err(ArrivalsError { step: "big-endian host", error });
        }
        let map = create_map().map_err(|error| ArrivalsError { step: "bpf map", error })?;
        let program = load_program(&program(map.as_raw_fd()))
            .map_err(|error| ArrivalsError { step: "bpf program", error })?;
        Ok(Self { map, program })
    }

    /// Accept and count everything from now on. Attach before bind(2), so nothing slips by.
    ///
    /// # Errors
    /// setsockopt(2) failed.
    pub fn attach(&self, socket: &impl AsRawFd) -> io::Result<()> {
        attach(socket.as_raw_fd(), self.program.as_raw_fd())
    }

    /// Datagrams that reached the socket.
    ///
    /// # Errors
    /// bpf(2) failed, which it does not for a map that is open.
    pub fn arrived(&self) -> io::Result<u64> {
        lookup(self.map.as_raw_fd(), 0)
    }
}

// bpf(2) commands and types, linux/bpf.h.
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_MAP_TYPE_ARRAY: u64 = 2;
const BPF_PROG_TYPE_SOCKET_FILTER: u64 = 1;

/// The `bpf_attr` union as 64-bit words, zero-filled: the kernel refuses what it does not know
/// unless it is zero (bpf(2)).
type Attr = [u64; 16];

/// Two 32-bit fields in one word, first field at the lower address (little-endian hosts only, as
/// the instruction encoding below; [`Arrivals::load`] refuses elsewhere).
const fn pair(first: u64, second: u64) -> u64 {
    first | second << 32
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: attr is a live, writable block of the size given; the pointers in it were made by the
    // callers below from memory that lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: bpf(2) has just returned this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create_map() -> io::Result<OwnedFd> {
    let mut attr: Attr = [0; 16];
    attr[0] = pair(BPF_MAP_TYPE_ARRAY, 4); // map_type, key_size
    attr[1] = pair(8, 1); // value_size, max_entries
    owned(bpf(BPF_MAP_CREATE, &mut attr)?)
}

fn load_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"MIT";
    let mut attr: Attr = [0; 16];
    attr[0] = pair(BPF_PROG_TYPE_SOCKET_FILTER, instructions.len() as u64);
    attr[1] = instructions.as_ptr().expose_provenance() as u64;
    attr[2] = license.as_ptr().expose_provenance() as u64;
    // The verifier gives up with EAGAIN if a signal, or io_uring's task work, is pending.
    let mut tries = 0;
    loop {
        match bpf(BPF_PROG_LOAD, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < 100 => tries += 1,
            loaded => return owned(loaded?),
        }
    }
}

fn lookup(map: RawFd, index: u32) -> io::Result<u64> {
    let key = index;
    let mut value = 0u64;
    let mut attr: Attr = [0; 16];
    attr[0] = pair(u64::from(map.cast_unsigned()), 0);
    attr[1] = (&raw const key).expose_provenance() as u64;
    attr[2] = (&raw mut value).expose_provenance() as u64;
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

fn attach(socket: RawFd, program: RawFd) -> io::Result<()> {
    // SAFETY: the option takes a pointer to an int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const program).cast(),
            4, // bytes of an int
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// Offsets in struct __sk_buff, linux/bpf.h.
const SKB_LEN: i16 = 0;
const SKB_GSO_SIZE: i16 = 176;

/// One eBPF instruction: opcode, destination, source, jump or memory offset, constant.
const fn op(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

/// The counting program. r6 = length, r7 = gso_size, r8 = datagrams.
fn program(map: RawFd) -> Vec<u64> {
    const LDX_W: u8 = 0x61;
    const ST_W: u8 = 0x62;
    const MOV_IMM: u8 = 0xb7;
    const MOV32_IMM: u8 = 0xb4;
    const MOV_REG: u8 = 0xbf;
    const ADD_IMM: u8 = 0x07;
    const ADD_REG: u8 = 0x0f;
    const DIV_REG: u8 = 0x3f;
    const JEQ_IMM: u8 = 0x15;
    const JLE_IMM: u8 = 0xb5;
    const LD_IMM64: u8 = 0x18;
    const PSEUDO_MAP_FD: u8 = 1;
    const ATOMIC_ADD_DW: u8 = 0xdb;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const MAP_LOOKUP_ELEM: i32 = 1;
    const KEEP_ALL: i32 = -1;
    vec![
        op(LDX_W, 6, 1, SKB_LEN, 0),
        op(LDX_W, 7, 1, SKB_GSO_SIZE, 0),
        op(MOV_IMM, 8, 0, 0, 1),
        op(JEQ_IMM, 7, 0, 5, 0),  // no train: one datagram
        op(JLE_IMM, 6, 0, 4, 8),  // no payload: one datagram
        op(ADD_IMM, 6, 0, 0, -9), // less the UDP header, less one to round up
        op(ADD_REG, 6, 7, 0, 0),
        op(DIV_REG, 6, 7, 0, 0),
        op(MOV_REG, 8, 6, 0, 0),
        op(ST_W, 10, 0, -4, 0),
        op(MOV_REG, 2, 10, 0, 0),
        op(ADD_IMM, 2, 0, 0, -4),
        op(LD_IMM64, 1, PSEUDO_MAP_FD, 0, map),
        0,
        op(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
        op(JEQ_IMM, 0, 0, 1, 0),
        op(ATOMIC_ADD_DW, 0, 8, 0, 0),
        op(MOV32_IMM, 0, 0, 0, KEEP_ALL),
        op(EXIT, 0, 0, 0, 0),
    ]
}
