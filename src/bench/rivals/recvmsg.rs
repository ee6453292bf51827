//! The simplest rival: one recvmsg(2) a datagram, or a train with UDP_GRO.
#![expect(unsafe_code, reason = "recvmsg(2) fills memory through raw pointers")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::rivals::counter::{CONTROL_BYTES, Counter, NAME_BYTES, NAME_LEN, RivalCounts, SlotSpec};
use ringest_engine::backend::outgoing::empty_header;

/// Receives until the rival is stopped.
pub(crate) fn run(
    socket: &OwnedFd,
    slots: SlotSpec,
    mut counter: Counter,
) -> io::Result<RivalCounts> {
    let mut slot = vec![1_u8; slots.bytes].into_boxed_slice();
    let mut name = [0_u8; NAME_BYTES];
    let mut control = [0_u8; CONTROL_BYTES];
    let control_bytes = if slots.gro { CONTROL_BYTES } else { 0 };
    loop {
        let mut iovec = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let mut header = empty_header();
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = NAME_LEN;
        header.msg_iov = &raw mut iovec;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control_bytes;
        // SAFETY: the header points to a name, one slot and a control area of the lengths it
        // states; all live through the call and nothing else refers to them.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
        let Ok(len) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        };
        if counter.is_over(len) {
            return Ok(counter.tally);
        }
        counter.take(&slot[..len], &control[..header.msg_controllen.min(control_bytes)]);
        counter.publish();
    }
}
