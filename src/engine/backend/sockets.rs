//! The sockets of a backend, one for each listener.

use std::io;

use crate::socket::listener::Listener;

/// A backend's sockets.
pub trait Sockets {
    /// Their type: [`Listener`], or [`Connected`](crate::socket::connected::Connected) for a load.
    type Socket;

    /// Returns the sockets, in the order of their listeners.
    fn sockets(&mut self) -> &mut [Self::Socket];
}

/// The calls of a receiver to its sockets.
pub trait ListenSockets {
    /// Refuses every further datagram at a listener; see [`Listener::refuse_all`].
    ///
    /// # Errors
    /// Attaching the filter failed.
    fn refuse_all(&mut self, listener: usize) -> io::Result<()>;

    /// Returns how many buffers the kernel dropped at all sockets since the last call.
    ///
    /// # Errors
    /// Reading SO_MEMINFO failed.
    fn new_kernel_drops(&mut self) -> io::Result<u64>;
}

impl<B: Sockets<Socket = Listener>> ListenSockets for B {
    fn refuse_all(&mut self, listener: usize) -> io::Result<()> {
        self.sockets()[listener].refuse_all()
    }

    fn new_kernel_drops(&mut self) -> io::Result<u64> {
        self.sockets().iter_mut().map(Listener::new_kernel_drops).sum()
    }
}
