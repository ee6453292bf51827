//! The backends there are. A new one is a variant here, an arm in each function, and a module beside this one; no other
//! code compares backends by name.

use std::io;
use std::sync::Arc;

use crate::backend::mmsg::calls;
use crate::backend::mmsg::calls::MESSAGES_MAX;
use crate::backend::mmsg::receiving::Mmsg;
use crate::backend::mmsg::sending::MmsgSender;
use crate::backend::rx::Rx;
use crate::backend::sockets::Sockets;
use crate::backend::tx::Tx;
use crate::backend::uring::ring::Ring;
use crate::backend::uring::setup::RingSize;
use crate::backend::uring::{probe, recv_header, slots};
use crate::socket::endpoint::Endpoint;
use crate::sync::waker::Waker;
use crate::wire::cmsg::Asked;

/// A way to take frames from sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// io_uring: multishot recvmsg with provided buffers, sendmsg.
    IoUring,
    /// recvmmsg(2) and sendmmsg(2), with epoll(7).
    Recvmmsg,
}

ringest_base::names!(BackendKind {
    "io_uring" => IoUring;
    "recvmmsg" => Recvmmsg
});

/// The properties of a backend on this host, found by the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whether a sleep can gather datagrams.
    pub gathers: bool,
    /// The features that matter, as a reason to show.
    pub features: &'static str,
}

/// The memory of a backend's slots, for the plan's bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsBill {
    /// The slots of one receiver, in words: number and kind.
    pub holder: String,
    /// Bytes of one receiver's slots.
    pub bytes: usize,
}

/// A step of setting up a backend, and the kernel's error.
pub type BuildError = (&'static str, io::Error);

/// The code that runs on a backend. Each backend is a type of its own, so that no call on the data path is dynamic; this
/// is called with whichever was built.
pub trait RunOn<S> {
    /// The result of the run.
    type Output;

    /// Runs on a backend that receives and sends, or handles the error of its set-up.
    fn run<B: Rx + Tx + Sockets<Socket = S>>(self, built: Result<B, BuildError>) -> Self::Output;
}

/// As [`RunOn`], for a backend that only sends.
pub trait SendOn<S> {
    /// The result of the run.
    type Output;

    /// Runs on a backend that sends, or handles the error of its set-up.
    fn run<B: Tx + Sockets<Socket = S>>(self, built: Result<B, BuildError>) -> Self::Output;
}

impl BackendKind {
    /// Returns the name of the way a load is sent, as its report shows it.
    #[must_use]
    pub const fn send_name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Recvmmsg => "sendmmsg",
        }
    }

    /// Tries the backend on this host. Call it on a thread that ends soon, see [`probe::io_uring`].
    ///
    /// # Errors
    /// One sentence: the step that was refused, and what would mend it.
    pub fn probe(self) -> Result<Probed, String> {
        match self {
            Self::IoUring => probe::io_uring().map(|found| Probed {
                gathers: found.min_wait,
                features: if found.min_wait {
                    "multishot recvmsg, min_wait"
                } else {
                    "multishot recvmsg; no min_wait before Linux 6.12, so wake-ups are not coalesced"
                },
            }),
            Self::Recvmmsg => Ok(Probed { gathers: false, features: "recvmmsg, epoll" }),
        }
    }

    /// Returns the memory that `slots` slots take, for sockets that ask for these control messages.
    #[must_use]
    pub fn slots_bill(self, slots: u16, asked: Asked) -> SlotsBill {
        match self {
            Self::IoUring => SlotsBill {
                holder: format!("{slots} slots of 64 KiB"),
                bytes: slots::footprint_bytes(slots.into(), recv_header::head_bytes(asked)),
            },
            Self::Recvmmsg => {
                let messages = usize::from(slots).min(MESSAGES_MAX);
                let bytes = calls::footprint_bytes(messages);
                SlotsBill { holder: format!("{messages} messages of recvmmsg"), bytes }
            }
        }
    }

    /// Builds the backend and runs `on` with it. Call it on the thread that will use the backend. `waker`: wakes that
    /// thread from its sleep; `None`: no other thread ever does.
    pub fn build<S: Endpoint, R: RunOn<S>>(
        self,
        sockets: Vec<S>,
        waker: Option<Arc<Waker>>,
        size: RingSize,
        on: R,
    ) -> R::Output {
        match self {
            Self::IoUring => on.run(Ring::new(sockets, waker, size)),
            Self::Recvmmsg => on.run(Mmsg::new(sockets, waker, size.slots.into())),
        }
    }

    /// Builds a backend that only sends, and runs `on` with it. Call it on the thread that will use the backend.
    pub fn build_sender<S: Endpoint, R: SendOn<S>>(self, sockets: Vec<S>, on: R) -> R::Output {
        match self {
            Self::IoUring => on.run(Ring::send_only(sockets)),
            Self::Recvmmsg => on.run(Ok(MmsgSender::new(sockets))),
        }
    }
}
