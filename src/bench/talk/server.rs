//! The host under test: lets one client in at a time and does what it asks, trial by trial.
//!
//! ```text
//!  poll {stop, door, client, guests} ─► somebody new: a guest, until it has said hello
//!                                    ─► a good hello: the client, or busy
//!                                    ─► a request of the client: start, mark, finish
//!                                    ─► gone: its receiver ends with it
//! ```
//! Nothing that a stranger does holds anybody up: reads never wait, guests are few and have a deadline.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::document::facts::HostFacts;
use crate::subject::run::Receiver;
use crate::talk::link::TEXT_CHARS_MAX;
use crate::wire::line::{Heard, Line};
use crate::wire::message::{ReceiverSpec, Reply, Request, VERSION};
use ringest_base::text::figures;
use ringest_engine::control::bind::Bind;
use ringest_engine::control::builder::Builder;
use ringest_engine::error::Error;

/// The longest time for a new connection to send hello, or to read its refusal.
const GUEST_PATIENCE: Duration = Duration::from_secs(5);
/// The most new connections at a time; more are closed.
const GUESTS_MAX: usize = 32;

/// The reason why a server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Anyone who reaches the port could start receivers.
    #[error(
        "a bench server on {address} can be reached by others: give it --token WORD, which the client \
         must repeat (it crosses the network in the clear)"
    )]
    TokenMissing {
        /// The control address.
        address: SocketAddr,
    },
    /// The control port cannot be opened.
    #[error("cannot listen on {address} (TCP): {source}")]
    Listen {
        /// The control address.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The addresses or options are invalid.
    #[error(transparent)]
    Settings(#[from] Error),
    /// Waiting failed.
    #[error("the bench server cannot wait for clients: {0}")]
    Wait(io::Error),
}

/// An event of a server, for display.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client was accepted.
    Welcomed(SocketAddr),
    /// A client was refused, for this reason.
    Refused(SocketAddr, String),
    /// A receiver was started.
    Started(SocketAddr, String),
    /// The client disconnected.
    Gone(SocketAddr),
}

/// A server on its control ports.
#[derive(Debug)]
pub struct Server {
    doors: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    token: Option<String>,
    /// The options that all receivers share.
    template: Builder,
    warnings: Vec<String>,
}

/// A connection that has not sent hello yet, or was refused and is reading the reason.
struct Guest {
    line: Line,
    peer: SocketAddr,
    by: Instant,
    refused: bool,
}

/// The connection of the current client.
struct Session {
    line: Line,
    peer: SocketAddr,
    receiver: Option<Receiver>,
}

impl Server {
    /// Opens the control ports: TCP on the listen addresses of `template`. Receivers get its socket options.
    ///
    /// # Errors
    /// A port cannot be opened, or other hosts can reach it and there is no token.
    pub fn bind(template: Builder, token: Option<String>) -> Result<Self, ServerError> {
        let plan = template.plan()?;
        let wanted = plan.listen;
        let loopback = |bind: &&Bind| bind.address.ip().to_canonical().is_loopback();
        if let Some(&Bind { address, .. }) = wanted.iter().find(|bind| !loopback(bind))
            && token.as_deref().is_none_or(str::is_empty)
        {
            return Err(ServerError::TokenMissing { address });
        }
        let open = |&Bind { address, only_v6, .. }: &Bind| {
            door(address, only_v6).map_err(|source| ServerError::Listen { address, source })
        };
        let doors = wanted.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let bound = |(door, &Bind { address, .. }): (&TcpListener, &Bind)| {
            door.local_addr().map_err(|source| ServerError::Listen { address, source })
        };
        let addresses = doors.iter().zip(&wanted).map(bound).collect::<Result<_, _>>()?;
        let template = template.without_addresses();
        Ok(Self { doors, addresses, token, template, warnings: plan.warnings })
    }

    /// Returns warnings about this host and these settings.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the control addresses.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves clients, one after the other, until `stop` is readable.
    ///
    /// # Errors
    /// poll(2) failed. Errors of clients are sent to them and passed to `tell`.
    pub fn serve(
        &self,
        stop: BorrowedFd<'_>,
        mut tell: impl FnMut(Event),
    ) -> Result<(), ServerError> {
        let mut session: Option<Session> = None;
        let mut guests: Vec<Guest> = Vec::new();
        while !self.wait(stop, session.as_ref(), &guests)? {
            self.admit(&mut guests);
            self.greet(&mut guests, &mut session, &mut tell);
            if let Some(open) = &mut session
                && !self.attend(open, stop, &mut tell)
            {
                tell(Event::Gone(open.peer));
                session = None;
            }
        }
        Ok(())
    }

    /// Waits until there is something to do. Returns `true` if `stop` is readable.
    fn wait(
        &self,
        stop: BorrowedFd<'_>,
        session: Option<&Session>,
        guests: &[Guest],
    ) -> Result<bool, ServerError> {
        let lines = session.iter().map(|session| &session.line);
        let lines = lines.chain(guests.iter().map(|guest| &guest.line));
        let mut polled = vec![PollFd::new(stop, PollFlags::POLLIN)];
        polled.extend(self.doors.iter().map(|door| PollFd::new(door.as_fd(), PollFlags::POLLIN)));
        polled.extend(lines.map(|line| PollFd::new(line.socket().as_fd(), PollFlags::POLLIN)));
        let timeout = guests.iter().map(|guest| guest.by).min().map_or(PollTimeout::NONE, |by| {
            let left = by.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) => Ok(polled[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(ServerError::Wait(error.into())),
        }
    }

    /// Accepts new connections.
    fn admit(&self, guests: &mut Vec<Guest>) {
        // An error means that no one is waiting, that the client left again, or that descriptors ran out;
        // the next poll shows which.
        while let Some((stream, peer)) = self.doors.iter().find_map(|door| door.accept().ok()) {
            if guests.len() < GUESTS_MAX
                && let Ok(line) = Line::new(stream)
            {
                let by = Instant::now() + GUEST_PATIENCE;
                // A socket for both families shows IPv4 addresses as mapped.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                guests.push(Guest { line, peer, by, refused: false });
            }
        }
    }

    /// Reads from new connections. One with a valid hello becomes the client if there is none.
    fn greet(
        &self,
        guests: &mut Vec<Guest>,
        session: &mut Option<Session>,
        tell: &mut impl FnMut(Event),
    ) {
        for mut guest in std::mem::take(guests) {
            let late = Instant::now() >= guest.by;
            let verdict = match guest.line.hear_now::<Request>() {
                // A refused client may send more until it has read the reason and disconnects.
                Ok(Heard::Nothing | Heard::Said(_)) if guest.refused => {
                    guests.extend((!late).then_some(guest));
                    continue;
                }
                _ if guest.refused => continue,
                Ok(Heard::HungUp) => continue,
                Ok(Heard::Nothing) if !late => {
                    guests.push(guest);
                    continue;
                }
                Ok(Heard::Nothing) => Err("no hello came in time".to_owned()),
                Ok(Heard::Said(_)) if session.is_some() => Err(BUSY.to_owned()),
                Ok(Heard::Said(request)) => self.check(&request),
                Err(error) => {
                    let error = figures::cut(&error.to_string(), TEXT_CHARS_MAX);
                    Err(format!("not a request of ringest bench, version {VERSION}: {error}"))
                }
            };
            match verdict {
                Ok(()) => {
                    let welcome = Reply::Welcome { version: VERSION, host: HostFacts::read() };
                    if guest.line.say(&welcome).is_ok() {
                        tell(Event::Welcomed(guest.peer));
                        *session =
                            Some(Session { line: guest.line, peer: guest.peer, receiver: None });
                    }
                }
                Err(message) => {
                    tell(Event::Refused(guest.peer, message.clone()));
                    // Errors are ignored: the client is refused anyway. The connection stays open until the
                    // client has read this; closed with unread data it would be reset.
                    let _ = guest.line.say(&Reply::Error { message, usage: false });
                    let _ = guest.line.socket().shutdown(std::net::Shutdown::Write);
                    guest.refused = true;
                    guests.push(guest);
                }
            }
        }
    }

    /// Answers the client's requests. Returns `false` if it disconnected or is not a bench client.
    fn attend(
        &self,
        session: &mut Session,
        stop: BorrowedFd<'_>,
        tell: &mut impl FnMut(Event),
    ) -> bool {
        loop {
            let request = match session.line.hear_now::<Request>() {
                Ok(Heard::Nothing) => return true,
                Ok(Heard::Said(request)) => request,
                Ok(Heard::HungUp) => return false,
                Err(error) => {
                    let message = format!(
                        "not a request: {}",
                        figures::cut(&error.to_string(), TEXT_CHARS_MAX)
                    );
                    tell(Event::Refused(session.peer, message.clone()));
                    let _ = session.line.say(&Reply::Error { message, usage: false });
                    return false;
                }
            };
            let reply = self.answer(session, request, stop, tell);
            if session.line.say(&reply).is_err() {
                return false;
            }
        }
    }

    /// Checks a hello; `Err` holds the reason for a refusal.
    fn check(&self, request: &Request) -> Result<(), String> {
        let Request::Hello { version, token } = request else {
            return Err("the first thing said must be hello".to_owned());
        };
        if *version != VERSION {
            return Err(format!(
                "this server speaks version {VERSION}, the client version {version}; use the same \
                 ringest on both hosts"
            ));
        }
        match (&self.token, token) {
            (None, _) => Ok(()),
            (Some(wanted), Some(given)) if same(wanted, given) => Ok(()),
            (Some(_), None) => {
                Err("this server wants a token: give the client the same --token".to_owned())
            }
            (Some(_), Some(_)) => Err("the token is wrong".to_owned()),
        }
    }

    fn answer(
        &self,
        session: &mut Session,
        request: Request,
        stop: BorrowedFd<'_>,
        tell: &mut impl FnMut(Event),
    ) -> Reply {
        let quiet = |ms: u64| Duration::from_millis(ms.clamp(5, 10_000));
        let wrong = |message: &str| Reply::Error { message: message.to_owned(), usage: false };
        let failed =
            |error: &Error| Reply::Error { message: error.to_string(), usage: error.is_usage() };
        let client = session.line.socket();
        // A trial whose client is gone ends at once.
        let gone = || is_gone(stop, client.as_fd());
        match request {
            Request::Hello { .. } => wrong("hello was said before"),
            Request::Prepare { receiver } => {
                // The old receiver first: it may hold the port.
                session.receiver = None;
                match self.start(receiver, client) {
                    Ok(started) => {
                        let (address, setup) = (started.address(), started.setup());
                        tell(Event::Started(address, setup.backend.clone()));
                        session.receiver = Some(started);
                        Reply::Ready { address, setup }
                    }
                    Err(error) => failed(&error),
                }
            }
            Request::Mark { sent, settle_ms } => match &mut session.receiver {
                Some(receiver) => {
                    receiver.mark(sent, quiet(settle_ms), &gone);
                    Reply::Marked
                }
                None => wrong("mark: no receiver was prepared"),
            },
            Request::Finish { sent, issued_by_flow, failed: lost, settle_ms } => {
                let Some(receiver) = session.receiver.take() else {
                    return wrong("finish: no receiver was prepared");
                };
                match receiver.finish((sent, lost), &issued_by_flow, quiet(settle_ms), &gone) {
                    Ok(outcome) => Reply::Outcome { outcome: Box::new(outcome) },
                    Err(error) => failed(&error),
                }
            }
        }
    }

    /// Starts a receiver on the address at which this client reaches us. Uses the control port's number if
    /// it is free, so that a firewall needs only one rule.
    fn start(&self, spec: ReceiverSpec, client: &TcpStream) -> Result<Receiver, Error> {
        // With its scope, where it has one.
        let mut address = client.local_addr().unwrap_or(self.addresses[0]);
        if let Some(v4) = address.ip().to_canonical().is_ipv4().then(|| address.ip().to_canonical())
        {
            address.set_ip(v4);
        }
        match Receiver::start(spec.clone(), address, &self.template) {
            Err(Error::PortTaken { .. }) => {
                address.set_port(0);
                Receiver::start(spec, address, &self.template)
            }
            other => other,
        }
    }
}

/// Opens a control port. The receivers' socket options do not apply to it.
fn door(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Allows a restart right after a stop.
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

const BUSY: &str = "this server is busy with another client; try again when it has finished";

/// Returns whether `stop` is readable or the client disconnected.
fn is_gone(stop: BorrowedFd<'_>, client: BorrowedFd<'_>) -> bool {
    // POLLRDHUP (Linux 2.6.17), which nix does not define.
    let hung_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut polled = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(client, hung_up)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Compares two words in a time that does not depend on where they differ.
fn same(one: &str, other: &str) -> bool {
    let differs = one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && differs == 0
}
