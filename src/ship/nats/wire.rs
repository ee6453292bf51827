//! Sends messages and receives answers over an open connection.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use async_nats::connection::State;
use async_nats::{Client, Event, HeaderMap, PublishErrorKind, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::task;
use tokio::time::{Duration, timeout_at};

use crate::carrier::Verdict;
use crate::nats::answer;
use crate::nats::answer::{Answer, shown};
use crate::nats::window::{Expected, Outgoing, Window};
use ringest_base::text::rfc3339::Rfc3339;

/// Pause when the client's queue is full.
const WRITING: Duration = Duration::from_millis(1);

/// The part of a message that is kept until it is acknowledged.
#[derive(Debug)]
pub(crate) struct PendingMessage {
    pub(crate) peer: SocketAddr,
    pub(crate) listener: u16,
    pub(crate) received_unix_ns: u64,
    pub(crate) payload: Bytes,
}

/// An open connection, prepared for publishing. Answers arrive below the subject `inbox`, each at its own
/// subject.
pub(crate) struct Wire {
    pub(crate) client: Client,
    pub(crate) answers: Subscriber,
    pub(crate) events: Receiver<Event>,
    pub(crate) inbox: String,
    pub(crate) stream: String,
    pub(crate) subject: Subject,
    /// Largest size of headers and payload together, bytes.
    pub(crate) message_bytes_max: usize,
}

/// The result of sending a burst of messages.
enum Burst {
    /// All messages that may be sent were sent.
    Sent,
    /// The client's queue is full.
    Full,
}

impl Wire {
    /// Sends what may be sent, and waits for answers until there is a verdict or `until` has passed.
    /// Returns the reason if the connection can no longer be used.
    pub(crate) async fn drive(
        &mut self,
        window: &mut Window<PendingMessage>,
        until: Instant,
        verdicts: &mut Vec<(u64, Verdict)>,
    ) -> Option<String> {
        loop {
            let now = Instant::now();
            if let Some(reason) = self.broken() {
                return Some(reason);
            }
            let burst = match self.send(window, now, verdicts) {
                Ok(burst) => burst,
                Err(reason) => return Some(reason),
            };
            // Lets the client write and read.
            task::yield_now().await;
            while let Some(Some(answer)) = self.answers.next().now_or_never() {
                self.take(&answer, window, verdicts);
            }
            if let Some(ticket) = window.overdue(now) {
                let reason = format!("stream {} does not answer", self.stream);
                verdicts.push((ticket, Verdict::Again(reason)));
            }
            if !verdicts.is_empty() || now >= until {
                return None;
            }
            let until = match burst {
                Burst::Sent => until,
                Burst::Full => until.min(now + WRITING),
            };
            if let Ok(Some(answer)) = timeout_at(until.into(), self.answers.next()).await {
                self.take(&answer, window, verdicts);
            }
        }
    }

    /// Hands the client the messages that may be sent.
    fn send(
        &self,
        window: &mut Window<PendingMessage>,
        now: Instant,
        verdicts: &mut Vec<(u64, Verdict)>,
    ) -> Result<Burst, String> {
        while let Some(out) = window.send(now) {
            let ticket = out.ticket;
            let (headers, header_bytes) = headers(&out);
            let payload = out.message.payload.clone();
            let bytes = header_bytes + payload.len();
            if bytes > self.message_bytes_max {
                window.settle_unsendable(ticket);
                let reason = format!(
                    "{bytes} bytes with its headers, and stream {} takes {}",
                    self.stream, self.message_bytes_max
                );
                verdicts.push((ticket, Verdict::Rejected(reason)));
                continue;
            }
            let reply = Subject::from(format!("{}.{ticket}.{}", self.inbox, out.attempt));
            let (client, subject) = (&self.client, self.subject.clone());
            let published = client.publish_with_reply_and_headers(subject, reply, headers, payload);
            match published.now_or_never() {
                Some(Ok(())) => {}
                None => {
                    window.unsend(ticket);
                    return Ok(Burst::Full);
                }
                Some(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    window.settle_unsendable(ticket);
                    verdicts.push((ticket, Verdict::Rejected(shown(&error.to_string()))));
                }
                Some(Err(error)) => return Err(shown(&error.to_string())),
            }
        }
        Ok(Burst::Sent)
    }

    /// Handles an answer.
    fn take(
        &self,
        message: &async_nats::Message,
        window: &mut Window<PendingMessage>,
        verdicts: &mut Vec<(u64, Verdict)>,
    ) {
        let name =
            message.subject.get(self.inbox.len() + 1..).and_then(|name| name.split_once('.'));
        let Some((ticket, attempt)) = name else { return };
        let (Ok(ticket), Ok(attempt)) = (ticket.parse(), attempt.parse()) else { return };
        let answer = match message.status {
            None => answer::read(&message.payload, &self.stream),
            Some(StatusCode::NO_RESPONDERS) => Answer::Failed(format!(
                "no stream takes subject {} now: {} has no leader, or was removed",
                self.subject, self.stream
            )),
            Some(status) => Answer::Failed(format!("the server answers with status {status}")),
        };
        verdicts.extend(window.answered((ticket, attempt), answer, Instant::now()));
    }

    /// Returns the reason if an event made the connection unusable for messages under way.
    fn broken(&self) -> Option<String> {
        for event in self.events.try_iter() {
            match event {
                Event::Disconnected | Event::Closed => {
                    return Some("the connection was lost".to_owned());
                }
                Event::ServerError(error) => {
                    return Some(format!("the server says: {}", shown(&error.to_string())));
                }
                Event::ClientError(error) => return Some(shown(&error.to_string())),
                Event::SlowConsumer(_) => {
                    return Some("answers arrived faster than they were read".to_owned());
                }
                Event::Connected | Event::LameDuckMode | Event::Draining => {}
            }
        }
        let stands = self.client.connection_state() == State::Connected;
        (!stands).then(|| "the connection was lost".to_owned())
    }
}

/// Returns the headers of a message, and their size on the wire, bytes.
fn headers(out: &Outgoing<'_, PendingMessage>) -> (HeaderMap, usize) {
    // "NATS/1.0" and an empty line at the end.
    let (mut headers, mut bytes) = (HeaderMap::new(), 12);
    let mut add = |name: &'static str, value: String| {
        bytes += name.len() + value.len() + 4;
        headers.insert(name, value);
    };
    add("Nats-Msg-Id", out.id.to_string());
    add("Ringest-Peer", out.message.peer.to_string());
    add("Ringest-Time", Rfc3339(out.message.received_unix_ns).to_string());
    add("Ringest-Listener", out.message.listener.to_string());
    match out.expected {
        Expected::Nothing => {}
        Expected::Id(id) => add("Nats-Expected-Last-Msg-Id", id.to_string()),
        Expected::Sequence(last) => add("Nats-Expected-Last-Sequence", last.to_string()),
    }
    (headers, bytes)
}
