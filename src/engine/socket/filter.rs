//! A socket's filter slot. The kernel keeps one filter a socket (SO_ATTACH_FILTER and SO_ATTACH_BPF replace each other),
//! and several features want it: counting arrivals, refusing all datagrams while a socket group is not complete or
//! drains, later an access list. So one owner decides which program is in the slot.
//!
//! ```text
//!  shut?  ── yes ──► refuse all: a refused datagram has not arrived, so it is not counted
//!    └─ no ─► arrivals counted? ── yes ──► count, then accept
//!                  └─ no ──► empty slot: the kernel accepts all
//! ```
//! An access list joins here: its program refuses or goes on to the counting program.

use std::io;
use std::sync::Arc;

use socket2::Socket;

use crate::bpf::arrivals::Arrivals;
use crate::bpf::classic;

/// The program that a filter slot holds.
#[derive(Debug)]
enum Program<'a> {
    /// Accepts everything.
    Empty,
    /// Counts and accepts everything.
    Count(&'a Arrivals),
    /// Refuses everything.
    Refuse,
}

/// The owner of one socket's filter slot.
#[derive(Debug)]
pub(crate) struct Filter {
    arrivals: Option<Arc<Arrivals>>,
    shut: bool,
}

impl Filter {
    /// Returns the owner of a slot that is still empty. `arrivals`: count datagrams; `shut`: refuse all of them for now.
    pub(crate) fn new(arrivals: Option<Arc<Arrivals>>, shut: bool) -> Self {
        Self { arrivals, shut }
    }

    /// Puts the first program in place. Call it before bind(2), so that no datagram is received uncounted.
    ///
    /// # Errors
    /// The option that was refused, and the kernel's error.
    pub(crate) fn install(&self, socket: &Socket) -> Result<(), (&'static str, io::Error)> {
        match self.program() {
            Program::Empty => Ok(()),
            Program::Count(arrivals) => {
                arrivals.attach(socket).map_err(|error| ("SO_ATTACH_BPF", error))
            }
            Program::Refuse => socket
                .attach_filter(&classic::REFUSE_ALL)
                .map_err(|error| ("SO_ATTACH_FILTER", error)),
        }
    }

    /// Refuses everything from now on, or accepts again.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub(crate) fn set_shut(
        &mut self,
        socket: &Socket,
        shut: bool,
    ) -> Result<(), (&'static str, io::Error)> {
        self.shut = shut;
        if let Program::Empty = self.program() {
            return socket.detach_filter().map_err(|error| ("SO_DETACH_FILTER", error));
        }
        self.install(socket)
    }

    /// Decides what is in the slot: the one place that composes the features.
    fn program(&self) -> Program<'_> {
        match &self.arrivals {
            _ if self.shut => Program::Refuse,
            Some(arrivals) => Program::Count(arrivals),
            None => Program::Empty,
        }
    }
}
