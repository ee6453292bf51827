//! The client's end of the conversation with a bench server.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::document::facts::HostFacts;
use crate::document::report::Setup;
use crate::wire::line::{Line, PATIENCE};
use crate::wire::message::{Outcome, ReceiverSpec, Reply, Request, VERSION};
use ringest_load::report::LoadError;

/// Why a bench cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// Nobody answers at the control port.
    #[error(
        "cannot reach a bench server at {address} (TCP): {source}; start `ringest bench server` there"
    )]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server said no.
    #[error("the bench server refuses: {message}")]
    Refused {
        /// What it said.
        message: String,
        /// What was asked for cannot be.
        usage: bool,
    },
    /// The server is gone, or is none.
    #[error("the bench server does not answer as one: {0}")]
    Broken(String),
    /// The load could not be sent.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Trial after trial did not balance.
    #[error(
        "no trial balanced at this step: {0}; is somebody else sending here, or is this host \
         overloaded?"
    )]
    Void(String),
    /// Not even the lowest rate came through whole.
    #[error(
        "no rate without loss was found, so there is none to take shares of; give one with --ndr, or \
         lower --min-rate"
    )]
    NoRate,
    /// Somebody asked for the end.
    #[error("stopped before the end")]
    Stopped,
}

/// A conversation with a server that has let us in.
#[derive(Debug)]
pub struct Link {
    line: Line,
    /// The host under test.
    pub host: HostFacts,
    /// The server's control port.
    pub address: SocketAddr,
    /// Both ends are one host, and nothing but its own stack is between them.
    pub loopback: bool,
}

/// How long connecting may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a receiver may take to start, or a trial to settle: the server's own bound and some.
const WORK_PATIENCE: Duration = Duration::from_secs(60);

impl Link {
    /// Connects to the first of `addresses` that answers, and says hello.
    ///
    /// # Errors
    /// Nobody is there, the server refuses, or `stopped` said so.
    pub fn connect(
        addresses: &[SocketAddr],
        token: Option<String>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Self, BenchError> {
        let (stream, address) = dial(addresses)?;
        let unreachable = |source| BenchError::Unreachable { address, source };
        // A socket of the same host has the address it talks to.
        let local = stream.local_addr().map_err(unreachable)?.ip();
        let same_stack = local == address.ip() || address.ip().to_canonical().is_loopback();
        let mut line = Line::new(stream).map_err(unreachable)?;
        let host =
            match ask(&mut line, &Request::Hello { version: VERSION, token }, PATIENCE, stopped)? {
                Reply::Welcome { version: VERSION, host } => host,
                Reply::Welcome { version, .. } => {
                    let message =
                        format!("it speaks version {version}, this client version {VERSION}");
                    return Err(BenchError::Refused { message, usage: false });
                }
                other => return Err(unexpected(&other)),
            };
        let same_kernel = host.boot_id == HostFacts::boot_id_here();
        if same_stack && !same_kernel {
            return Err(BenchError::Usage(format!(
                "{address} leads to another host (a tunnel?), and datagrams would not go through it; \
                 give the address that they can reach"
            )));
        }
        Ok(Self { line, host, address, loopback: same_stack && same_kernel })
    }

    /// Has a receiver started. Datagrams go to the host we talk to, whatever it says: only the port is
    /// its own choice.
    ///
    /// # Errors
    /// The server cannot.
    pub fn prepare(
        &mut self,
        receiver: ReceiverSpec,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, Setup), BenchError> {
        match ask(&mut self.line, &Request::Prepare { receiver }, WORK_PATIENCE, stopped)? {
            Reply::Ready { address, setup } => {
                let mut target = self.address;
                target.set_port(address.port());
                Ok((target, setup))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The warm-up of `sent` datagrams is through.
    ///
    /// # Errors
    /// The server cannot.
    pub fn mark(
        &mut self,
        sent: u64,
        settle_ms: u64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), BenchError> {
        match ask(&mut self.line, &Request::Mark { sent, settle_ms }, WORK_PATIENCE, stopped)? {
            Reply::Marked => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The load has been sent, as `finish` says; returns the receiving half.
    ///
    /// # Errors
    /// The server cannot.
    pub fn finish(
        &mut self,
        finish: &Request,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Outcome, BenchError> {
        match ask(&mut self.line, finish, WORK_PATIENCE, stopped)? {
            Reply::Outcome { outcome } => Ok(*outcome),
            other => Err(unexpected(&other)),
        }
    }
}

fn dial(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), BenchError> {
    let mut failure = BenchError::Usage("there is no address to connect to".to_owned());
    for &address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => return Ok((stream, address)),
            Err(source) => failure = BenchError::Unreachable { address, source },
        }
    }
    Err(failure)
}

fn ask(
    line: &mut Line,
    request: &Request,
    patience: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<Reply, BenchError> {
    // A server that has refused may have closed before this was written; its reason is still to be read.
    let said = line.say(request);
    let broken = |error: &io::Error| match error.kind() {
        io::ErrorKind::Interrupted => BenchError::Stopped,
        io::ErrorKind::TimedOut => BenchError::Broken(format!("nothing came within {patience:?}")),
        _ => BenchError::Broken(printable(&error.to_string())),
    };
    match line.hear(patience, stopped) {
        Ok(Some(Reply::Error { message, usage })) => {
            Err(BenchError::Refused { message: printable(&message), usage })
        }
        Ok(Some(reply)) => Ok(reply),
        // ^C on a terminal reaches a child of ours as well.
        Ok(None) if stopped() => Err(BenchError::Stopped),
        Ok(None) => Err(BenchError::Broken("it hung up".to_owned())),
        Err(error) => Err(broken(said.as_ref().err().unwrap_or(&error))),
    }
}

fn unexpected(reply: &Reply) -> BenchError {
    let kind = format!("{reply:?}");
    let kind = kind.split([' ', '{']).next().unwrap_or_default().to_owned();
    BenchError::Broken(format!("it answered with {kind}, which was not asked for"))
}

/// What a stranger said, cut, and without anything that a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { '?' } else { c }).collect()
}
