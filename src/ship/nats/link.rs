//! One connection to a server, on its own runtime. Dropping the runtime drops everything of the connection:
//! its socket, and data not yet written.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use async_nats::{
    ConnectError, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, Subject,
};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::timeout;

use crate::carrier::Verdict;
use crate::nats::answer::shown;
use crate::nats::spec::{Login, NatsSpec};
use crate::nats::stream;
use crate::nats::stream::Facts;
use crate::nats::window::{Order, SENT_MAX, Window};
use crate::nats::wire::{PendingMessage, Wire};

/// How long a server may take to send its greeting.
const GREETED_WITHIN: Duration = Duration::from_secs(5);

/// How long a stream may take to answer. Without a leader it does not answer, so asking again soon is
/// better.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Size limit of a credentials file, which has a few KiB.
const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;

/// A runtime that is dropped without waiting for blocking work, such as a name lookup.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl OwnRuntime {
    fn new() -> io::Result<Self> {
        // Name lookups and reading certificates run on the runtime's blocking thread.
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .thread_name("ringest-nats")
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        // All work is bounded by time, so cooperative yielding is not needed.
        self.0.as_ref().map(|runtime| runtime.block_on(unconstrained(future)))
    }
}

/// An open connection to a server whose stream takes our subject.
pub(crate) struct Link {
    wire: Wire,
    pub(crate) facts: Facts,
    // Last field, so that the tasks on it are dropped before it.
    runtime: OwnRuntime,
}

impl Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Link").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Link {
    /// See [`Wire::drive`].
    pub(crate) fn drive(
        &mut self,
        window: &mut Window<PendingMessage>,
        until: Instant,
        verdicts: &mut Vec<(u64, Verdict)>,
    ) -> Option<String> {
        self.runtime.run(self.wire.drive(window, until, verdicts))?
    }
}

/// A connection that is being set up.
pub(crate) struct Connecting {
    task: JoinHandle<Result<(Wire, Facts), String>>,
    runtime: OwnRuntime,
}

impl Debug for Connecting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connecting").finish_non_exhaustive()
    }
}

/// The result of polling a connection that is being set up.
#[derive(Debug)]
pub(crate) enum ConnectProgress {
    /// Still being set up.
    Pending(Connecting),
    /// The connection is open.
    Up(Box<Link>),
    /// It failed, and why.
    Failed(String),
}

impl Connecting {
    /// Begins to connect.
    pub(crate) fn start(spec: &Arc<NatsSpec>) -> io::Result<Self> {
        let runtime = OwnRuntime::new()?;
        let (spec, begin) = (Arc::clone(spec), runtime.0.as_ref());
        let task = begin.map(|runtime| runtime.spawn(async move { connect(&spec).await }));
        let task = task.ok_or_else(|| io::Error::other("no runtime"))?;
        Ok(Self { task, runtime })
    }

    /// Continues to connect, for at most `bound`.
    pub(crate) fn poll(mut self, bound: Duration) -> ConnectProgress {
        match self.runtime.run(async { timeout(bound, &mut self.task).await }) {
            None | Some(Err(_)) => ConnectProgress::Pending(self),
            Some(Ok(Err(error))) => {
                ConnectProgress::Failed(format!("connecting ended early: {error}"))
            }
            Some(Ok(Ok(Err(reason)))) => ConnectProgress::Failed(reason),
            Some(Ok(Ok(Ok((wire, facts))))) => {
                ConnectProgress::Up(Box::new(Link { wire, facts, runtime: self.runtime }))
            }
        }
    }
}

/// Connects, and reads the stream's configuration.
async fn connect(spec: &NatsSpec) -> Result<(Wire, Facts), String> {
    let place = spec.servers.join(",");
    let (events_in, events) = channel();
    let options = options(spec, events_in).map_err(|reason| format!("{place}: {reason}"))?;
    let client = options
        .connect(spec.servers.as_slice())
        .await
        .map_err(|error| format!("cannot connect to {place}: {}", explain(spec, &error)))?;
    let ask = format!("$JS.API.STREAM.INFO.{}", spec.stream);
    let answer = client.request(ask.clone(), Bytes::new()).await;
    let message = answer.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => format!(
            "{place} has no JetStream: enable it on the server (nats-server -js) or for this account"
        ),
        RequestErrorKind::TimedOut => format!(
            "stream {} does not answer: it has no leader now, or this user may not publish to {ask}",
            spec.stream
        ),
        _ => format!("cannot ask about stream {}: {}", spec.stream, shown(&error.to_string())),
    })?;
    let mut facts = stream::read(&message.payload, &spec.stream, &spec.subject)?;
    let info = client.server_info();
    let is_by_peer = !spec.sole_writer || stream::notes_what_it_refuses(&info.version);
    if is_by_peer && matches!(facts.order, Order::Sequence(_)) {
        facts.order = Order::Peer;
    }
    let inbox = client.new_inbox();
    let answers = client.subscribe(format!("{inbox}.>")).await;
    let answers =
        answers.map_err(|error| format!("cannot subscribe: {}", shown(&error.to_string())))?;
    let most = facts.message_bytes_max.unwrap_or(usize::MAX).min(info.max_payload);
    let wire = Wire {
        client,
        answers,
        events,
        inbox,
        stream: spec.stream.clone(),
        subject: Subject::from(spec.subject.as_str()),
        message_bytes_max: most,
    };
    Ok((wire, facts))
}

/// Builds the client's options.
fn options(spec: &NatsSpec, events: Sender<Event>) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .name("ringest")
        .connection_timeout(GREETED_WITHIN)
        .request_timeout(Some(ANSWERED_WITHIN))
        // Room for all messages that may be under way, and for their answers.
        .client_capacity(2 * SENT_MAX)
        .subscription_capacity(4 * SENT_MAX)
        .require_tls(spec.tls)
        .event_callback(move |event| {
            // The receiver is gone once the connection was given up.
            let _ = events.send(event);
            async {}
        });
    if let Some(path) = &spec.root_certificates {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &spec.client_certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(match &spec.login {
        Login::Nobody => options,
        Login::Password { user, password } => {
            options.user_and_password(user.clone(), password.0.clone())
        }
        Login::Token(token) => options.token(token.0.clone()),
        Login::Credentials(path) => {
            // Read at every connection, because it may be renewed.
            let unread = |what: String| format!("credentials {}: {what}", path.display());
            let bytes = std::fs::metadata(path).map_err(|error| unread(error.to_string()))?.len();
            if bytes > CREDENTIALS_BYTES_MAX {
                return Err(unread("larger than any credentials".to_owned()));
            }
            let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
            // The client's error may quote parts of the file, so it is not displayed.
            options.credentials(&text).map_err(|_| {
                unread("no user JWT with its seed in it; see nsc generate creds".to_owned())
            })?
        }
    })
}

/// Explains why a connection failed, and what to do.
fn explain(spec: &NatsSpec, error: &ConnectError) -> String {
    let text = shown(&error.to_string());
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            let tried = match &spec.login {
                Login::Nobody => {
                    "no user was given: see --nats-creds, RINGEST_NATS_USER, RINGEST_NATS_TOKEN"
                }
                Login::Password { .. } => "the user or the password is wrong",
                Login::Token(_) => "the token is wrong",
                Login::Credentials(_) => "the credentials are wrong or no longer valid",
            };
            format!("{text}: {tried}")
        }
        _ if spec.tls && text.contains("InvalidContentType") => {
            format!(
                "{text}: the server speaks no TLS there; use nats://, or enable TLS on the server"
            )
        }
        ConnectErrorKind::Tls => format!("{text}; see --nats-ca, --nats-cert and --nats-key"),
        _ => text,
    }
}
