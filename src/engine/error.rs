//! One variant per step that can fail, each with the operator's next move.

use std::io;
use std::net::SocketAddr;

use crate::socket::error::{OpenCause, OpenError, OptionError};

/// Result of the crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Reason why an engine could not be set up, or why it failed. Every text says what failed, why, and the next move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense on its own or beside another.
    #[error("{setting} = {value}: {reason}")]
    Setting {
        /// The setting, as the builder and the command line name it.
        setting: &'static str,
        /// Value that was refused.
        value: String,
        /// Reason why it was refused, and the values that are accepted.
        reason: String,
    },
    /// Another socket holds the port.
    #[error(
        "cannot listen on {address}: the port is taken by another socket; \
         see which with `ss -ulnp 'sport = :{}'`, or choose another port", address.port()
    )]
    PortTaken {
        /// The listen address.
        address: SocketAddr,
    },
    /// The port is below `net.ipv4.ip_unprivileged_port_start` and the right is missing.
    #[error(
        "cannot listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; \
         `setcap cap_net_bind_service+ep` on the program, run it as root, \
         or choose a port from 1024 up"
    )]
    PortPrivileged {
        /// The listen address.
        address: SocketAddr,
    },
    /// No interface of this host has the address.
    #[error(
        "cannot listen on {address}: this host does not have that address; \
         `ip addr` lists those it has, 0.0.0.0 or * listens on all of them"
    )]
    AddressNotLocal {
        /// The listen address.
        address: SocketAddr,
    },
    /// The kernel has no IPv6, or it is switched off.
    #[error(
        "cannot listen on {address}: IPv6 is not available here \
         (see /proc/sys/net/ipv6/conf/all/disable_ipv6{}); listen on an IPv4 address or on *:{}",
        if address.ip().is_loopback() { " and conf/lo/disable_ipv6" } else { "" },
        address.port()
    )]
    NoIpv6 {
        /// The listen address.
        address: SocketAddr,
    },
    /// A link-local address or group without its interface.
    #[error(
        "cannot listen on {address}: the address is one of a link and needs its interface, as in \
         [{}%eth0]:{}", address.ip(), address.port()
    )]
    ScopeMissing {
        /// The listen address.
        address: SocketAddr,
    },
    /// Some other socket call failed.
    #[error("cannot listen on {address}: {step} failed: {source}")]
    Socket {
        /// The listen address.
        address: SocketAddr,
        /// The call or option.
        step: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// A socket option was refused.
    #[error("cannot listen on {address}: {source}")]
    Option {
        /// The listen address.
        address: SocketAddr,
        /// Which option, what it was to be, and what it takes.
        source: OptionError,
    },
    /// The choice of receivers could not be put in place.
    #[error(
        "cannot steer datagrams to the receivers of {address}: {step} failed: {source}{}",
        steer_hint(source)
    )]
    Steer {
        /// The listen address.
        address: SocketAddr,
        /// The call.
        step: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// io_uring was asked for by name and cannot be had.
    #[error("io_uring cannot be used: {reason}; `--backend recvmmsg` runs without it")]
    IoUringRefused {
        /// Which step failed and what mends it.
        reason: String,
    },
    /// A ring, map or descriptor could not be set up although the probe succeeded.
    #[error("receiver {receiver}: {step} failed: {source}{}", memory_hint(source))]
    Receiver {
        /// Index of the receiver.
        receiver: usize,
        /// Step that failed.
        step: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// Counting arrivals was asked for and cannot be had.
    #[error(
        "arrivals cannot be counted: {source}{}; `--arrivals auto` goes on without", source.hint()
    )]
    Arrivals {
        /// Which step failed and what the kernel said.
        #[from]
        source: crate::bpf::arrivals::ArrivalsError,
    },
    /// A thread could not be started.
    #[error(transparent)]
    Thread(#[from] ringest_base::sys::threads::ThreadError),
    /// A handler panicked; the engine was stopped.
    #[error(
        "the handler of worker {worker} panicked: {message}; its batch of {datagrams} datagrams \
         was not handled and the engine was stopped"
    )]
    HandlerPanicked {
        /// Index of the worker.
        worker: usize,
        /// The panic's message.
        message: String,
        /// Datagrams in the batch it was given.
        datagrams: u64,
    },
    /// A thread of the engine panicked outside any handler: a bug in the engine, never in its use.
    #[error("a thread of the engine panicked: {message}; this is a bug in ringest")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A batch was not returned to its pool: a bug in the engine, never in its use.
    #[error("{missing} batches did not come home after the stop; this is a bug in ringest")]
    BatchesMissing {
        /// How many.
        missing: usize,
    },
}

impl Error {
    /// Returns the error for a setting that cannot be. `name` is the setting's name as the builder and the
    /// command line spell it; `reason` says why the value is refused, and which values are accepted.
    pub fn setting(
        name: &'static str,
        value: impl std::fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Self::Setting { setting: name, value: value.to_string(), reason: reason.into() }
    }

    /// Whether the caller asked for something that cannot be (exit code 2), rather than the host
    /// refusing something that could (exit code 1).
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Setting { .. })
    }
}

impl From<OpenError> for Error {
    fn from(OpenError { address, cause }: OpenError) -> Self {
        match cause {
            OpenCause::PortTaken => Self::PortTaken { address },
            OpenCause::PortPrivileged => Self::PortPrivileged { address },
            OpenCause::AddressNotLocal => Self::AddressNotLocal { address },
            OpenCause::NoIpv6 => Self::NoIpv6 { address },
            OpenCause::ScopeMissing => Self::ScopeMissing { address },
            OpenCause::Option(source) => Self::Option { address, source },
            OpenCause::Call { step, source } => Self::Socket { address, step, source },
        }
    }
}

/// Loading an eBPF program takes a capability; round robin is the only way that needs one.
fn steer_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "; round robin takes CAP_BPF (or root), `--steer hash` nothing"
        }
        _ => "; `--steer hash` leaves the choice to the kernel",
    }
}

/// ENOMEM from io_uring_setup(2) or io_uring_register(2) means RLIMIT_MEMLOCK on kernels that count
/// rings against it.
fn memory_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => "; raise `ulimit -l` (RLIMIT_MEMLOCK), or lower --slots",
        Some(libc::EMFILE | libc::ENFILE) => "; raise `ulimit -n`",
        _ => "",
    }
}
