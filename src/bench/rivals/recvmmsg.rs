//! The batched rivals: up to 64 datagrams or trains a recvmmsg(2).
#![expect(unsafe_code, reason = "recvmmsg(2) fills memory through raw pointers")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::rivals::counter::{CONTROL_BYTES, Counter, NAME_BYTES, NAME_LEN, RivalCounts, SlotSpec};
use ringest_engine::backend::outgoing::empty_header;

/// Messages a call. More gain nothing: 64 and 256 measured the same.
const MESSAGES: usize = 64;

/// The memory that recvmmsg(2) writes to. The headers point into the other boxes, which never move.
struct Incoming {
    headers: Box<[libc::mmsghdr]>,
    _iovecs: Box<[libc::iovec]>,
    _names: Box<[[u8; NAME_BYTES]]>,
    controls: Box<[[u8; CONTROL_BYTES]]>,
    control_bytes: usize,
    slots: Box<[u8]>,
    slot_bytes: usize,
    /// Messages of the last call, whose lengths the kernel has overwritten.
    filled: usize,
}

impl Incoming {
    fn new(slots: SlotSpec) -> Self {
        let slot_bytes = slots.bytes;
        let gro = slots.gro;
        let control_bytes = if gro { CONTROL_BYTES } else { 0 };
        let mut slots = vec![1_u8; MESSAGES * slot_bytes].into_boxed_slice();
        let mut names: Box<[_]> = vec![[0_u8; NAME_BYTES]; MESSAGES].into();
        let mut controls: Box<[_]> = vec![[0_u8; CONTROL_BYTES]; MESSAGES].into();
        let mut iovecs: Box<[_]> = slots
            .chunks_exact_mut(slot_bytes)
            .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot_bytes })
            .collect();
        let headers = (0..MESSAGES)
            .map(|index| {
                let mut header = empty_header();
                header.msg_name = names[index].as_mut_ptr().cast();
                header.msg_iov = &raw mut iovecs[index];
                header.msg_iovlen = 1;
                header.msg_control = controls[index].as_mut_ptr().cast();
                libc::mmsghdr { msg_hdr: header, msg_len: 0 }
            })
            .collect();
        Self {
            headers,
            _iovecs: iovecs,
            _names: names,
            controls,
            control_bytes,
            slots,
            slot_bytes,
            filled: MESSAGES, // so that the first call sets every length
        }
    }

    /// Calls recvmmsg(2) once. Returns the number of messages.
    fn receive(&mut self, socket: &OwnedFd, flags: libc::c_int) -> io::Result<usize> {
        for header in &mut self.headers[..self.filled] {
            header.msg_hdr.msg_namelen = NAME_LEN;
            header.msg_hdr.msg_controllen = self.control_bytes;
        }
        self.filled = 0;
        let (headers, none) = (self.headers.as_mut_ptr(), std::ptr::null_mut());
        let count = libc::c_uint::try_from(MESSAGES).unwrap_or(libc::c_uint::MAX);
        // SAFETY: `count` headers, each pointing to a name, a slot and a control area of the
        // lengths it states, all owned by self and not otherwise borrowed.
        let received = unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, count, flags, none) };
        self.filled = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    /// Hands the messages of the last call to the counter. Returns `true` at the end.
    #[inline]
    fn deliver(&self, counter: &mut Counter) -> bool {
        for (index, header) in self.headers[..self.filled].iter().enumerate() {
            let len = header.msg_len as usize;
            if counter.is_over(len) {
                return true;
            }
            let payload = &self.slots[index * self.slot_bytes..][..len];
            let control_len = header.msg_hdr.msg_controllen.min(self.control_bytes);
            counter.take(payload, &self.controls[index][..control_len]);
        }
        counter.publish();
        false
    }
}

/// Receives until the rival is stopped, blocking in recvmmsg(2).
pub(crate) fn run(
    socket: &OwnedFd,
    slots: SlotSpec,
    mut counter: Counter,
) -> io::Result<RivalCounts> {
    let mut incoming = Incoming::new(slots);
    loop {
        match incoming.receive(socket, libc::MSG_WAITFORONE) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if incoming.deliver(&mut counter) {
            return Ok(counter.tally);
        }
    }
}

/// Receives until the rival is stopped, sleeping in epoll_wait(2).
pub(crate) fn run_epoll(
    socket: &OwnedFd,
    slots: SlotSpec,
    mut counter: Counter,
) -> io::Result<RivalCounts> {
    let mut incoming = Incoming::new(slots);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let mut events = [EpollEvent::empty()];
    loop {
        match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if empty(socket, &mut incoming, &mut counter)? == Found::End {
            return Ok(counter.tally);
        }
    }
}

/// Length of a nap. Longer: the receive buffer overflows. Shorter: wake-ups cost something; within this
/// time a hundred trains and more gather.
const NAP: Duration = Duration::from_micros(500);

/// Receives until the rival is stopped, asleep for [`NAP`] whenever the socket is empty.
pub(crate) fn run_nap(
    socket: &OwnedFd,
    slots: SlotSpec,
    mut counter: Counter,
) -> io::Result<RivalCounts> {
    let mut incoming = Incoming::new(slots);
    while empty(socket, &mut incoming, &mut counter)? != Found::End {
        std::thread::sleep(NAP);
    }
    Ok(counter.tally)
}

/// The state of a non-blocking socket after reading it to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Some,
    End,
}

/// Reads a non-blocking socket to its end. A round that is not full has emptied it, which saves the call
/// that would return EAGAIN. Level-triggered epoll reports anything that is left.
fn empty(socket: &OwnedFd, incoming: &mut Incoming, counter: &mut Counter) -> io::Result<Found> {
    loop {
        let count = match incoming.receive(socket, libc::MSG_DONTWAIT) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if counter.is_over(count) || incoming.deliver(counter) {
            return Ok(Found::End);
        }
        if count < MESSAGES {
            return Ok(Found::Some);
        }
    }
}
