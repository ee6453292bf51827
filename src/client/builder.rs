//! The builder of a client.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::error::ClientError;
use crate::settings::Settings;
use ringest_engine::socket::options::SocketOptions;

/// Collects the settings of a client; [`open`](Self::open) makes it. Every setting but the peers has a default.
#[derive(Clone, Debug)]
pub struct Builder(Settings);

impl Default for Builder {
    fn default() -> Self {
        Self(Settings {
            peers: Vec::new(),
            bind: None,
            source_port: 0,
            options: SocketOptions::default(),
            broadcast: false,
            send_timeout: Duration::from_secs(1),
            interrupt: None,
        })
    }
}

impl Builder {
    /// Adds a peer to send to.
    #[must_use]
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.0.peers.push(peer);
        self
    }

    /// Adds several peers.
    #[must_use]
    pub fn peers(mut self, peers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.0.peers.extend(peers);
        self
    }

    /// Sets the local address to send from. Default: chosen by the route to the peer.
    #[must_use]
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.0.bind = Some(address);
        self
    }

    /// Sets the local port to send from. Default, or 0: the kernel chooses one.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.0.source_port = port;
        self
    }

    /// Sets options of the socket. Default: the kernel's.
    #[must_use]
    pub fn options(mut self, options: SocketOptions) -> Self {
        self.0.options = options;
        self
    }

    /// Sets whether broadcast addresses may be peers (SO_BROADCAST). Default: no.
    #[must_use]
    pub fn broadcast(mut self, allowed: bool) -> Self {
        self.0.broadcast = allowed;
        self
    }

    /// Sets how long a send waits while the send buffer or the queue of the interface is full. With zero it does not
    /// wait. Default: 1 s.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.0.send_timeout = timeout;
        self
    }

    /// Sets a descriptor that ends every wait with [`ClientError::Interrupted`] while it is readable, such as a
    /// signalfd. The client polls it and never reads it.
    #[must_use]
    pub fn interrupt(mut self, descriptor: OwnedFd) -> Self {
        self.0.interrupt = Some(Arc::new(descriptor));
        self
    }

    /// Opens the socket. Nothing is sent. A peer without a route is no error here: routes come and go, and each send
    /// reports whether there is one.
    ///
    /// # Errors
    /// A peer or the local address is impossible, or the host refused the socket or one of its options.
    pub fn open(&self) -> Result<Client, ClientError> {
        Ok(Client::new(self.0.clone(), self.0.open(None)?))
    }
}

impl Client {
    /// Opens a client of one peer.
    ///
    /// # Errors
    /// See [`Builder::open`].
    pub fn connect(peer: SocketAddr) -> Result<Self, ClientError> {
        Self::builder().peer(peer).open()
    }

    /// Opens a client of several peers.
    ///
    /// # Errors
    /// See [`Builder::open`].
    pub fn to(peers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, ClientError> {
        Self::builder().peers(peers).open()
    }

    /// Returns a builder with the default settings and no peers.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }
}
