//! Errors of sockets: a socket that could not be opened, an option that was refused. They name the step and keep
//! the kernel's error; [`crate::error::Error`] adds the operator's next move.

use std::io;
use std::net::SocketAddr;

/// A socket that could not be opened on its address.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct OpenError {
    /// The listen address.
    pub address: SocketAddr,
    /// Why.
    pub cause: OpenCause,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenCause {
    /// Another socket holds the port (EADDRINUSE).
    #[error("the port is taken")]
    PortTaken,
    /// The port is below `net.ipv4.ip_unprivileged_port_start` and CAP_NET_BIND_SERVICE is missing.
    #[error("the port needs CAP_NET_BIND_SERVICE")]
    PortPrivileged,
    /// No interface of this host has the address.
    #[error("no interface has the address")]
    AddressNotLocal,
    /// The kernel has no IPv6, or it is switched off.
    #[error("IPv6 is not available")]
    NoIpv6,
    /// A link-local address without its interface.
    #[error("the address needs its interface")]
    ScopeMissing,
    /// A socket option was refused.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Another call failed.
    #[error("{step}: {source}")]
    Call {
        /// The system call or the option.
        step: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

impl OpenCause {
    /// Returns a function that makes the error of `step` from the kernel's.
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Call { step, source: source.into() }
    }
}

/// A socket option that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{option} = {asked}: {source}{}", self.hint())]
pub struct OptionError {
    /// The option, as its man page calls it.
    pub option: &'static str,
    /// The value asked for.
    pub asked: String,
    /// The error of setsockopt(2).
    pub source: io::Error,
    /// The capability that the option needs; empty if none.
    wants: &'static str,
}

impl OptionError {
    pub(crate) fn new(
        option: &'static str,
        asked: &dyn ToString,
        wants: &'static str,
        source: io::Error,
    ) -> Self {
        Self { option, asked: asked.to_string(), source, wants }
    }

    fn hint(&self) -> String {
        match self.source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) if !self.wants.is_empty() => {
                format!("; it takes {} (`setcap`, or root)", self.wants)
            }
            Some(libc::ENODEV | libc::EADDRNOTAVAIL) => {
                "; no such interface, or it has no address; `ip link` lists them".to_owned()
            }
            Some(libc::ENOPROTOOPT) => "; this kernel does not know it".to_owned(),
            _ => String::new(),
        }
    }
}
