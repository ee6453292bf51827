//! The message headers of one round of sends, for SENDMSG on a ring and for sendmmsg(2) alike.
//!
//! A header points to its payload in the batch, and to its name, control and iovec here. All of these must stay in place
//! until the kernel has answered. Both backends await that before they return; the arrays are boxed and never grow.

use std::os::fd::{AsRawFd, RawFd};

use crate::backend::tx::{Cursor, SendOrder};
use crate::batch::arena::{Batch, Entry};
use crate::socket::endpoint::Endpoint;
use crate::wire::cmsg;
use crate::wire::sockaddr;
use crate::wire::sockaddr::NAME_ROOM_BYTES;

/// Sends per submission. Too low and the system call dominates; too high only spreads the headers
/// over more cache: at 64 the call is under 10 ns a send.
pub const SENDS_MAX: usize = 64;

/// A socket to send from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendSocket {
    pub(crate) fd: RawFd,
    pub(crate) is_v6: bool,
    /// The socket is connected: a send names no peer, and the kernel looks up no route.
    pub(crate) connected: bool,
}

impl SendSocket {
    pub(crate) fn of(socket: &impl Endpoint) -> Self {
        let fd = socket.as_fd().as_raw_fd();
        Self { fd, is_v6: socket.is_v6(), connected: socket.is_connected() }
    }
}

/// Headers for up to [`SENDS_MAX`] sends.
pub(crate) struct Outgoing {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[[u8; NAME_ROOM_BYTES]]>,
    controls: Box<[[u8; cmsg::SEND_ROOM_BYTES]]>,
    listeners: Box<[u16]>,
    used: usize,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        let header = libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 };
        let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![header; SENDS_MAX].into(),
            iovecs: vec![iovec; SENDS_MAX].into(),
            names: vec![[0; NAME_ROOM_BYTES]; SENDS_MAX].into(),
            controls: vec![[0; cmsg::SEND_ROOM_BYTES]; SENDS_MAX].into(),
            listeners: vec![0; SENDS_MAX].into(),
            used: 0,
        }
    }

    /// Prepares as many sends as fit, starting at `from`.
    pub(crate) fn prepare(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        sockets: &[SendSocket],
    ) {
        self.used = 0;
        let mut offset = from.offset;
        for entry in &batch.entries()[from.entry..] {
            let payload = &batch.payload(entry)[offset..];
            offset = 0;
            if order == SendOrder::Split {
                for piece in payload.chunks(usize::from(entry.segment_bytes).max(1)) {
                    if self.used < SENDS_MAX {
                        self.push(entry, piece, 0, sockets);
                    }
                }
                return;
            }
            if self.used == SENDS_MAX {
                return;
            }
            self.push(entry, payload, entry.segment_bytes, sockets);
        }
    }

    fn push(&mut self, entry: &Entry, payload: &[u8], segment_bytes: u16, sockets: &[SendSocket]) {
        let index = self.used;
        let SendSocket { is_v6, connected, .. } = sockets[usize::from(entry.listener)];
        let name_len =
            if connected { 0 } else { sockaddr::encode(entry.peer, is_v6, &mut self.names[index]) };
        // A train of one is a plain send: UDP_SEGMENT would only cost.
        let segment_bytes =
            if payload.len() > usize::from(segment_bytes) { segment_bytes } else { 0 };
        let control = &mut self.controls[index];
        let control_len = cmsg::write(control, segment_bytes, entry.headers.local(), is_v6);
        self.iovecs[index] = libc::iovec {
            // sendmsg(2) only reads through this pointer, although its type does not say so.
            iov_base: payload.as_ptr().cast_mut().cast(),
            iov_len: payload.len(),
        };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name =
            if connected { std::ptr::null_mut() } else { self.names[index].as_mut_ptr().cast() };
        header.msg_namelen = name_len;
        header.msg_iov = &raw mut self.iovecs[index];
        header.msg_iovlen = 1;
        header.msg_control =
            if control_len == 0 { std::ptr::null_mut() } else { control.as_mut_ptr().cast() };
        header.msg_controllen = control_len;
        self.listeners[index] = entry.listener;
        self.used += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn listener(&self, index: usize) -> usize {
        self.listeners[index].into()
    }

    pub(crate) fn header(&self, index: usize) -> *const libc::msghdr {
        &raw const self.headers[index].msg_hdr
    }

    /// Returns the headers from `start` on that leave through the same socket.
    pub(crate) fn run(&mut self, start: usize) -> &mut [libc::mmsghdr] {
        let listener = self.listeners[start];
        let len = self.listeners[start..self.used].iter().take_while(|&&l| l == listener).count();
        &mut self.headers[start..start + len]
    }
}

/// Returns a header without name, payload or control.
pub const fn empty_header() -> libc::msghdr {
    libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: std::ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}
