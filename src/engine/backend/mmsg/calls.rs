//! recvmmsg(2) and sendmmsg(2), and the memory that the former writes into.
#![expect(unsafe_code, reason = "recvmmsg(2) and sendmmsg(2) fill memory through raw pointers")]

use std::io;
use std::os::fd::RawFd;

use crate::backend::outgoing::{Outgoing, empty_header};
use crate::batch::arena::Frame;
use crate::wire::cmsg;
use crate::wire::cmsg::Asked;
use crate::wire::limits::FRAME_BYTES_MAX;
use crate::wire::sockaddr;
use crate::wire::sockaddr::{NAME_ROOM, NAME_ROOM_BYTES};

/// Messages of one recvmmsg(2). Too low and the system call dominates; beyond 64 nothing is gained, and each message
/// takes a slot of 64 KiB.
pub const MESSAGES_MAX: usize = 64;

/// Control room of every message, bytes: for all that a listener can ask for.
const CONTROL_BYTES: usize =
    cmsg::receive_room_bytes(Asked { gro: true, pktinfo: true, timestamps: true, headers: true });

/// Returns the memory that `messages` messages take, bytes.
#[must_use]
pub fn footprint_bytes(messages: usize) -> usize {
    messages * (SLOT_BYTES + size_of::<libc::mmsghdr>() + size_of::<libc::iovec>())
        + messages * (NAME_ROOM_BYTES + CONTROL_BYTES)
}

/// Bytes from one slot to the next: an odd number of cache lines, as in the ring.
const SLOT_BYTES: usize = (FRAME_BYTES_MAX.div_ceil(64) | 1) * 64;

/// The memory that recvmmsg(2) writes into. The headers point into the vectors beside them, which never grow. (Not
/// boxes: moving a box ends the validity of pointers into it.)
pub(super) struct Incoming {
    headers: Vec<libc::mmsghdr>,
    _iovecs: Vec<libc::iovec>,
    names: Vec<[u8; NAME_ROOM_BYTES]>,
    controls: Vec<[u8; CONTROL_BYTES]>,
    slots: Vec<u8>,
    /// Messages of the last call.
    filled: usize,
    /// Messages of it that are consumed.
    next: usize,
}

impl Incoming {
    /// Takes memory for `messages` messages, and touches every page of it.
    pub(super) fn new(messages: usize) -> Self {
        let mut slots = vec![0u8; messages * SLOT_BYTES];
        for page in slots.chunks_mut(4096) {
            page[0] = std::hint::black_box(1);
        }
        let mut names = vec![[0; NAME_ROOM_BYTES]; messages];
        let mut controls = vec![[0; CONTROL_BYTES]; messages];
        let mut iovecs: Vec<_> = slots
            .chunks_exact_mut(SLOT_BYTES)
            .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT_BYTES })
            .collect();
        let headers = (0..messages)
            .map(|index| {
                let mut header = empty_header();
                header.msg_name = names[index].as_mut_ptr().cast();
                header.msg_iov = &raw mut iovecs[index];
                header.msg_iovlen = 1;
                header.msg_control = controls[index].as_mut_ptr().cast();
                libc::mmsghdr { msg_hdr: header, msg_len: 0 }
            })
            .collect();
        // All count as filled and consumed, so that the first call gives each its room.
        Self { headers, _iovecs: iovecs, names, controls, slots, filled: messages, next: messages }
    }

    /// Calls recvmmsg(2) once, without waiting; returns how many messages came. All messages of the last call must be
    /// consumed.
    ///
    /// # Errors
    /// recvmmsg(2) failed; EAGAIN: the socket is empty.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        // The kernel wrote the lengths of the last call's names and controls here: only those
        // messages need their room restored.
        for header in &mut self.headers[..self.filled] {
            header.msg_hdr.msg_namelen = NAME_ROOM;
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        self.filled = 0;
        self.next = 0;
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(libc::c_uint::MAX);
        // SAFETY: `count` headers, each pointing to a name, a control area and a slot of the
        // lengths it states, all owned by self and not otherwise borrowed.
        let received = unsafe {
            libc::recvmmsg(
                socket,
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    /// Returns the oldest message that is not consumed, as a frame of `listener`.
    pub(super) fn peek(&self, listener: usize) -> Option<Frame<'_>> {
        self.has_more().then(|| self.frame(self.next, listener))
    }

    /// Returns whether a message is not consumed yet.
    pub(super) fn has_more(&self) -> bool {
        self.next < self.filled
    }

    /// Consumes the oldest message.
    pub(super) fn consume(&mut self) {
        self.next += 1;
    }

    /// Returns how many messages fit.
    pub(super) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Returns how many messages wait to be consumed.
    pub(super) fn waiting(&self) -> usize {
        self.filled - self.next
    }

    fn frame(&self, index: usize, listener: usize) -> Frame<'_> {
        let header = &self.headers[index];
        let name_len = (header.msg_hdr.msg_namelen as usize).min(NAME_ROOM_BYTES);
        let control_len = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        let control = cmsg::parse(&self.controls[index][..control_len]);
        let len = (header.msg_len as usize).min(SLOT_BYTES);
        let peer = sockaddr::decode(&self.names[index][..name_len]);
        let payload = &self.slots[index * SLOT_BYTES..][..len];
        Frame::datagram(peer.unwrap_or_else(sockaddr::unspecified), payload)
            .at_listener(listener)
            .in_segments(control.segment_bytes)
            .with_headers(control.headers)
            .with_kernel_unix_ns(control.kernel_unix_ns)
            .with_truncated(header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0)
    }
}

/// Calls sendmmsg(2) once, without waiting, for the prepared sends from `start` on that leave through the same socket.
/// Returns how many messages the kernel took.
///
/// # Errors
/// The first message was refused.
pub(super) fn send_run(fd: RawFd, outgoing: &mut Outgoing, start: usize) -> io::Result<usize> {
    let run = outgoing.run(start);
    let count = libc::c_uint::try_from(run.len()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: `count` headers whose names, controls and payloads live through the call: `prepare`
    // borrowed the batch that the caller still holds.
    let sent = unsafe { libc::sendmmsg(fd, run.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
