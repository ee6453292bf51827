//! The memory accounts of a socket (SO_MEMINFO, Linux 4.12): buffers dropped, room to send.

use std::io;
use std::os::fd::BorrowedFd;

use ringest_base::sys::sockopt;

const MEMINFO: sockopt::Name = (libc::SOL_SOCKET, libc::SO_MEMINFO);
/// Words of SO_MEMINFO, linux/sock_diag.h.
const SK_MEMINFO_WMEM_ALLOC: usize = 2;
const SK_MEMINFO_SNDBUF: usize = 3;
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

fn meminfo(socket: BorrowedFd<'_>) -> io::Result<[u32; SK_MEMINFO_VARS]> {
    let bytes: [u8; 4 * SK_MEMINFO_VARS] = sockopt::get(socket, MEMINFO)?;
    let mut words = [0; SK_MEMINFO_VARS];
    for (word, raw) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_ne_bytes(*raw);
    }
    Ok(words)
}

/// Returns how many buffers the kernel has dropped at the socket since it was opened, modulo 2^32.
///
/// # Errors
/// getsockopt(SO_MEMINFO) failed.
pub(crate) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(meminfo(socket)?[SK_MEMINFO_DROPS])
}

/// Returns how much of the send buffer is free, bytes as the kernel counts them: a datagram takes more than its payload,
/// until the device has sent it. While something is free, a send is never refused with EAGAIN.
///
/// # Errors
/// getsockopt(SO_MEMINFO) failed.
pub(crate) fn send_room_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let words = meminfo(socket)?;
    let free = words[SK_MEMINFO_SNDBUF].saturating_sub(words[SK_MEMINFO_WMEM_ALLOC]);
    Ok(usize::try_from(free).unwrap_or(usize::MAX))
}
