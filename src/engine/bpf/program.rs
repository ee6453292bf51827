//! bpf(2): a map of one counter, a program, and attaching it to a socket. Raw calls and raw instructions: no C compiler, no
//! ELF, no library.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use ringest_base::sys::sockopt;

// Commands and types, linux/bpf.h.
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_MAP_TYPE_ARRAY: u64 = 2;
const BPF_PROG_TYPE_SOCKET_FILTER: u64 = 1;

/// The `bpf_attr` union as 64-bit words, zero-filled: the kernel refuses what it does not know
/// unless it is zero (bpf(2)).
type Attr = [u64; 16];

/// Two 32-bit fields in one word, first field at the lower address (little-endian hosts only, as
/// the instruction encoding below; [`counter`] refuses elsewhere).
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

/// Creates a map of one 64-bit counter, 0 at first.
///
/// # Errors
/// The kernel refused: no CAP_BPF, no bpf(2); or this host is big-endian.
pub(crate) fn counter() -> io::Result<OwnedFd> {
    if cfg!(target_endian = "big") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not written for big-endian hosts"));
    }
    let mut attr: Attr = [0; 16];
    attr[0] = pair(BPF_MAP_TYPE_ARRAY, 4); // map_type, key_size
    attr[1] = pair(8, 1); // value_size, max_entries
    owned(bpf(BPF_MAP_CREATE, &mut attr)?)
}

/// Loads a program of the socket filter type.
///
/// # Errors
/// The kernel refused it.
pub(crate) fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
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

/// Reads the counter of a map.
///
/// # Errors
/// bpf(2) failed, which it does not for a map that is open.
pub(crate) fn read(map: BorrowedFd<'_>) -> io::Result<u64> {
    let key = 0u32;
    let mut value = 0u64;
    let mut attr: Attr = [0; 16];
    attr[0] = pair(u64::from(map.as_raw_fd().cast_unsigned()), 0);
    attr[1] = (&raw const key).expose_provenance() as u64;
    attr[2] = (&raw mut value).expose_provenance() as u64;
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Attaches a program to a socket: with `SO_ATTACH_BPF` as its filter, with `SO_ATTACH_REUSEPORT_EBPF` to choose among its
/// group.
///
/// # Errors
/// setsockopt(2) failed.
pub(crate) fn attach(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    sockopt::set_int(socket, (libc::SOL_SOCKET, option), program.as_raw_fd())
}

/// Encodes one eBPF instruction: opcode, destination, source, jump or memory offset, constant.
pub(crate) const fn op(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

// Opcodes, linux/bpf.h and linux/bpf_common.h.
pub(crate) const LDX_W: u8 = 0x61;
pub(crate) const MOV_IMM: u8 = 0xb7;
pub(crate) const MOV32_IMM: u8 = 0xb4;
pub(crate) const MOV_REG: u8 = 0xbf;
pub(crate) const ADD_IMM: u8 = 0x07;
pub(crate) const ADD_REG: u8 = 0x0f;
pub(crate) const DIV_REG: u8 = 0x3f;
pub(crate) const MOD_IMM: u8 = 0x97;
pub(crate) const JEQ_IMM: u8 = 0x15;
pub(crate) const JLE_IMM: u8 = 0xb5;
/// With [`ADD_FETCH`] as its constant (Linux 5.12) it also returns the old value, else it only adds.
pub(crate) const ATOMIC_ADD_DW: u8 = 0xdb;
pub(crate) const ADD_FETCH: i32 = 1;
pub(crate) const EXIT: u8 = 0x95;
const ST_W: u8 = 0x62;
const LD_IMM64: u8 = 0x18;
const PSEUDO_MAP_FD: u8 = 1;
const CALL: u8 = 0x85;
const MAP_LOOKUP_ELEM: i32 = 1;

/// Returns the instructions that leave the address of a map's counter in r0, or 0 if there is none. They use r1, r2 and the
/// first word of the stack.
pub(crate) fn look_up(map: BorrowedFd<'_>) -> [u64; 6] {
    [
        op(ST_W, 10, 0, -4, 0),
        op(MOV_REG, 2, 10, 0, 0),
        op(ADD_IMM, 2, 0, 0, -4),
        op(LD_IMM64, 1, PSEUDO_MAP_FD, 0, map.as_raw_fd()),
        0,
        op(CALL, 0, 0, 0, MAP_LOOKUP_ELEM),
    ]
}
