//! The client's end of the control connection to a bench server.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::document::facts::HostFacts;
use crate::document::report::Setup;
use crate::wire::line::{Line, PATIENCE};
use crate::wire::message::{ReceiverOutcome, ReceiverSpec, Reply, Request, VERSION};
use ringest_base::text::figures;
use ringest_load::report::LoadError;

/// The reason why a bench ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// No server answers at the control port.
    #[error(
        "cannot reach a bench server at {address} (TCP): {source}; start `ringest bench server` there"
    )]
    Unreachable {
        /// The control address.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The server refused the request.
    #[error("the bench server refuses: {message}")]
    Refused {
        /// The server's message.
        message: String,
        /// Whether the request itself was invalid (exit code 2).
        usage: bool,
    },
    /// The server is gone, or the other end is not a bench server.
    #[error("the bench server does not answer as one: {0}")]
    Broken(String),
    /// The load could not be sent.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The parameters are invalid.
    #[error("{0}")]
    Usage(String),
    /// The counts of a trial did not balance, each time it was made.
    #[error(
        "no trial balanced at this step: {0}; is somebody else sending here, or is this host \
         overloaded?"
    )]
    Void(String),
    /// Even the lowest rate had losses.
    #[error(
        "no rate without loss was found, so there is none to take shares of; give one with --ndr, or \
         lower --min-rate"
    )]
    NoRate,
    /// The user stopped the bench.
    #[error("stopped before the end")]
    Stopped,
}

/// A connection to a server that has accepted the client.
#[derive(Debug)]
pub struct Link {
    line: Line,
    /// The host under test.
    pub host: HostFacts,
    /// The server's control port.
    pub address: SocketAddr,
    /// Whether both ends are the same host, with only its own network stack between them.
    pub loopback: bool,
}

/// The most characters of another host's text that are shown.
pub(crate) const TEXT_CHARS_MAX: usize = 400;
/// The longest time to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The longest time for a receiver to start or a trial to settle: above the server's own limit.
const WORK_PATIENCE: Duration = Duration::from_secs(60);

impl Link {
    /// Connects to the first of `addresses` that answers, and sends hello.
    ///
    /// # Errors
    /// No server answers, the server refuses, or `stopped` returned true.
    pub fn connect(
        addresses: &[SocketAddr],
        token: Option<String>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Self, BenchError> {
        let (stream, address) = dial(addresses)?;
        let unreachable = |source| BenchError::Unreachable { address, source };
        // A connection within one host has the same address at both ends.
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

    /// Asks the server to start a receiver. Returns its address and setup. Datagrams go to the address of
    /// the control connection; only the port is the server's choice.
    ///
    /// # Errors
    /// The server failed or refused.
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

    /// Tells the server that the warm-up of `sent` datagrams is over.
    ///
    /// # Errors
    /// The server failed or refused.
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

    /// Tells the server that the load has been sent, and returns the receiver's counts.
    ///
    /// # Errors
    /// The server failed or refused.
    pub fn finish(
        &mut self,
        finish: &Request,
        stopped: &dyn Fn() -> bool,
    ) -> Result<ReceiverOutcome, BenchError> {
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
    // A server that refused may have closed already; its reason can still be read.
    let said = line.say(request);
    let broken = |error: &io::Error| match error.kind() {
        io::ErrorKind::Interrupted => BenchError::Stopped,
        io::ErrorKind::TimedOut => BenchError::Broken(format!("nothing came within {patience:?}")),
        _ => BenchError::Broken(figures::cut(&error.to_string(), TEXT_CHARS_MAX)),
    };
    match line.hear(patience, stopped) {
        Ok(Some(Reply::Error { message, usage })) => {
            Err(BenchError::Refused { message: figures::cut(&message, TEXT_CHARS_MAX), usage })
        }
        Ok(Some(reply)) => Ok(reply),
        // ^C on a terminal also reaches a server that is our child.
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
