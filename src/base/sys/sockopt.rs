//! setsockopt(2) and getsockopt(2) by number, for options that no crate wraps.
#![expect(unsafe_code, reason = "both calls take untyped pointers")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockFilter;

/// A socket option: its level and its number there.
pub type Name = (libc::c_int, libc::c_int);

/// Sets an option to the bytes given, which must be what the option's man page calls its value.
///
/// # Errors
/// The kernel refused the option.
pub fn set(socket: BorrowedFd<'_>, (level, name): Name, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads at most `len` bytes from `value`, which lives through the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option whose value is an `int`.
///
/// # Errors
/// The kernel refused the option.
pub fn set_int(socket: BorrowedFd<'_>, name: Name, value: i32) -> io::Result<()> {
    set(socket, name, &value.to_ne_bytes())
}

/// Reads an option of `N` bytes. What the kernel does not fill stays 0.
///
/// # Errors
/// The kernel refused the option.
pub fn get<const N: usize>(socket: BorrowedFd<'_>, (level, name): Name) -> io::Result<[u8; N]> {
    let mut value = [0; N];
    let mut len = libc::socklen_t::try_from(N).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which lives through the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Reads an option whose value is an `int`.
///
/// # Errors
/// The kernel refused the option.
pub fn get_int(socket: BorrowedFd<'_>, name: Name) -> io::Result<i32> {
    get(socket, name).map(i32::from_ne_bytes)
}

/// Lets a classic BPF program choose the socket of the SO_REUSEPORT group that `socket` is in
/// (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5): it returns the index of one, in the order they were bound.
///
/// # Errors
/// setsockopt(2) failed: EINVAL if the program is invalid or the socket is in no group.
pub fn attach_reuseport_cbpf(socket: BorrowedFd<'_>, program: &[SockFilter]) -> io::Result<()> {
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel only reads through it (and SockFilter is a transparent `struct sock_filter`).
        filter: program.as_ptr().cast_mut().cast(),
    };
    let len = libc::socklen_t::try_from(size_of_val(&fprog)).map_err(io::Error::other)?;
    // SAFETY: the kernel copies `fprog` and the `len` instructions it points to; both live through
    // the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const fprog).cast(),
            len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_set_is_read_and_what_cannot_be_is_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ttl = (libc::IPPROTO_IP, libc::IP_TTL);
        set_int(socket.as_fd(), ttl, 7).unwrap();
        assert_eq!(get_int(socket.as_fd(), ttl).unwrap(), 7);
        assert!(set_int(socket.as_fd(), ttl, 256).is_err());
        assert!(set(socket.as_fd(), ttl, &[]).is_err());
        let unknown = (libc::SOL_SOCKET, 0x7fff);
        let errno = get_int(socket.as_fd(), unknown).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::ENOPROTOOPT));
    }
}
