//! The tally of a run of `ringest send`: counts for each peer, the summary, JSON and the exit code.

use std::net::SocketAddr;
use std::time::Duration;

use ringest_client::{PeerError, PeerErrorKind};
use serde::{Serialize, Serializer};

use crate::cli::failure::Failure;
use crate::cli::show::paint::count;

/// The counts of a run.
#[derive(Debug)]
pub(crate) struct SendTally {
    peers: Vec<PeerTally>,
    /// Datagrams that were not tried, because no datagram can carry their message.
    unsendable: u64,
    /// Errors that came back for sent datagrams.
    came_back: u64,
    /// Replies that did not come in time.
    missing: u64,
}

#[derive(Debug)]
struct PeerTally {
    peer: SocketAddr,
    sent: u64,
    failed: u64,
    replies: u64,
    errors: Vec<Counted>,
}

/// The errors of one kind.
#[derive(Clone, Debug, Serialize)]
struct Counted {
    #[serde(serialize_with = "by_name")]
    kind: PeerErrorKind,
    count: u64,
    path_mtu: Option<u32>,
}

fn by_name<S: Serializer>(kind: &PeerErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// The JSON object of `--json`. Its keys and their order are a contract with scripts.
#[derive(Serialize)]
struct SendResult<'a> {
    version: u32,
    sent: u64,
    failed: u64,
    replies: u64,
    peers: Vec<SentToPeer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unattributed: Option<u64>,
}

#[derive(Serialize)]
struct SentToPeer<'a> {
    peer: SocketAddr,
    sent: u64,
    errors: &'a [Counted],
}

impl SendTally {
    pub(crate) fn new(peers: &[SocketAddr]) -> Self {
        let empty = |peer: &SocketAddr| PeerTally {
            peer: *peer,
            sent: 0,
            failed: 0,
            replies: 0,
            errors: Vec::new(),
        };
        Self { peers: peers.iter().map(empty).collect(), unsendable: 0, came_back: 0, missing: 0 }
    }

    pub(crate) fn sent(&mut self, index: usize) {
        self.peers[index].sent += 1;
    }

    pub(crate) fn replied(&mut self, index: usize) {
        self.peers[index].replies += 1;
    }

    pub(crate) fn missed(&mut self, replies: u64) {
        self.missing += replies;
    }

    /// Counts a datagram that this host refused. Returns whether it is the first error of its kind for the peer.
    pub(crate) fn failed(&mut self, index: usize, error: &PeerError) -> bool {
        self.peers[index].failed += 1;
        self.count(index, error)
    }

    /// Counts an error of a datagram that was sent. Returns whether it is the first error of its kind for the peer.
    pub(crate) fn heard(&mut self, index: usize, error: &PeerError) -> bool {
        self.came_back += error.count;
        self.count(index, error)
    }

    fn count(&mut self, index: usize, error: &PeerError) -> bool {
        let errors = &mut self.peers[index].errors;
        let Some(counted) = errors.iter_mut().find(|counted| counted.kind == error.kind) else {
            let PeerError { kind, count, path_mtu, .. } = *error;
            errors.push(Counted { kind, count, path_mtu });
            return true;
        };
        counted.count += error.count;
        counted.path_mtu = [counted.path_mtu, error.path_mtu].into_iter().flatten().min();
        false
    }

    /// Counts a message that no datagram can carry, as one datagram for each peer.
    pub(crate) fn unsendable(&mut self, is_too_long: bool) {
        self.unsendable += u64::try_from(self.peers.len()).unwrap_or(u64::MAX);
        if !is_too_long {
            return;
        }
        for peer in &mut self.peers {
            let kind = PeerErrorKind::MessageTooLong;
            match peer.errors.iter_mut().find(|counted| counted.kind == kind) {
                Some(counted) => counted.count += 1,
                None => peer.errors.push(Counted { kind, count: 1, path_mtu: None }),
            }
        }
    }

    pub(crate) fn total_sent(&self) -> u64 {
        self.peers.iter().map(|peer| peer.sent).sum()
    }

    pub(crate) fn total_failed(&self) -> u64 {
        self.unsendable + self.peers.iter().map(|peer| peer.failed).sum::<u64>()
    }

    pub(crate) fn total_replies(&self) -> u64 {
        self.peers.iter().map(|peer| peer.replies).sum()
    }

    fn result(&self, unattributed: u64) -> SendResult<'_> {
        SendResult {
            version: 1,
            sent: self.total_sent(),
            failed: self.total_failed(),
            replies: self.total_replies(),
            peers: self
                .peers
                .iter()
                .map(|peer| SentToPeer { peer: peer.peer, sent: peer.sent, errors: &peer.errors })
                .collect(),
            unattributed: (unattributed > 0).then_some(unattributed),
        }
    }

    pub(crate) fn print_json(&self, unattributed: u64) -> Result<(), Failure> {
        crate::cli::show::json::print_line(&self.result(unattributed))
    }

    /// Returns the summary: a line, and a line for each peer if there are several.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("sent {}", datagrams(self.total_sent()));
        match &self.peers[..] {
            [peer] => {
                text += &format!(" to {}", peer.peer);
                text.extend(peer.rest().iter().map(|part| format!(", {part}")));
            }
            peers => {
                text += &format!(" to {} peers", peers.len());
                let width = peers.iter().map(|peer| peer.peer.to_string().len()).max();
                let width = width.unwrap_or(0);
                for peer in peers {
                    let (name, sent) = (peer.peer.to_string(), count(peer.sent));
                    text += &format!("\n  {name:width$}  sent {sent}");
                    text.extend(peer.rest().iter().map(|part| format!("  {part}")));
                }
            }
        }
        text + "\n"
    }

    /// Returns the failure that gives the exit code: 1 if a datagram was refused or an error came back, 3 if only replies
    /// are missing.
    pub(crate) fn judge(&self, unattributed: u64, timeout: Duration) -> Result<(), Failure> {
        let (sent, failed) = (self.total_sent(), self.total_failed());
        let mut parts = Vec::new();
        if failed > 0 {
            let of = datagrams(sent + failed);
            let verb = if failed == 1 { "was" } else { "were" };
            parts.push(format!("{} of {of} {verb} not sent", count(failed)));
        }
        let heard = self.came_back + unattributed;
        // A firewall may refuse a datagram here and send an ICMP error too. If nothing was sent, it is reported already.
        if heard > 0 && sent > 0 {
            let s = if heard == 1 { "error" } else { "errors" };
            parts.push(format!(
                "{} {s} came back, so not everything sent was received",
                count(heard)
            ));
        }
        if !parts.is_empty() {
            return Err(Failure::Failed(parts.join("; ")));
        }
        if self.missing > 0 {
            let (missing, came) = (self.missing, self.total_replies());
            let wanted = count(missing + came);
            let s = if missing + came == 1 { "reply" } else { "replies" };
            let within = humantime::format_duration(timeout);
            return Err(Failure::NothingCame(format!(
                "{} of {wanted} {s} did not come within {within}",
                count(missing)
            )));
        }
        Ok(())
    }
}

impl PeerTally {
    /// Returns the parts of the summary beside the number of sent datagrams.
    fn rest(&self) -> Vec<String> {
        let mut parts = Vec::new();
        if self.replies > 0 {
            let s = if self.replies == 1 { "reply" } else { "replies" };
            parts.push(format!("{} {s}", count(self.replies)));
        }
        for counted in &self.errors {
            let mut part = format!("{} {}", counted.kind.as_str().replace('_', " "), counted.count);
            if let Some(mtu) = counted.path_mtu {
                part += &format!(" (path MTU {mtu})");
            }
            parts.push(part);
        }
        parts
    }
}

pub(crate) fn datagrams(number: u64) -> String {
    format!("{} datagram{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringest_client::Origin;

    fn error(peer: &str, kind: PeerErrorKind, path_mtu: Option<u32>) -> PeerError {
        let origin = Origin::Local { errno: 0 };
        PeerError { peer: peer.parse().unwrap(), kind, count: 1, path_mtu, origin }
    }

    fn tally() -> SendTally {
        SendTally::new(&["192.0.2.1:9".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()])
    }

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn code(tally: &SendTally, unattributed: u64) -> (u8, String) {
        match tally.judge(unattributed, TIMEOUT) {
            Ok(()) => (0, String::new()),
            Err(failure) => (failure.code(), failure.to_string()),
        }
    }

    /// The contract, word for word.
    #[test]
    fn keys_and_their_order_are_the_contract() {
        let mut tally = tally();
        tally.sent(0);
        tally.sent(1);
        tally.replied(0);
        let too_long = PeerErrorKind::MessageTooLong;
        assert!(tally.failed(1, &error("[2001:db8::1]:9", too_long, Some(1400))));
        assert!(!tally.failed(1, &error("[2001:db8::1]:9", too_long, Some(1280))));
        assert!(tally.heard(1, &error("[2001:db8::1]:9", PeerErrorKind::ConnectionRefused, None)));
        assert_eq!(
            serde_json::to_string(&tally.result(0)).unwrap(),
            concat!(
                r#"{"version":1,"sent":2,"failed":2,"replies":1,"peers":["#,
                r#"{"peer":"192.0.2.1:9","sent":1,"errors":[]},"#,
                r#"{"peer":"[2001:db8::1]:9","sent":1,"errors":["#,
                r#"{"kind":"message_too_long","count":2,"path_mtu":1280},"#,
                r#"{"kind":"connection_refused","count":1,"path_mtu":null}]}]}"#,
            )
        );
        assert!(serde_json::to_string(&tally.result(3)).unwrap().contains(r#""unattributed":3"#));
        assert_eq!(
            tally.render(),
            "sent 2 datagrams to 2 peers\n  192.0.2.1:9      sent 1  1 reply\n  \
             [2001:db8::1]:9  sent 1  message too long 2 (path MTU 1280)  connection refused 1\n"
        );
    }

    #[test]
    fn errors_count_before_missing_replies_and_nothing_to_send_is_a_success() {
        let mut tally = tally();
        assert_eq!(code(&tally, 0).0, 0);
        tally.sent(0);
        tally.replied(0);
        tally.missed(1);
        let (three, text) = code(&tally, 0);
        assert_eq!((three, text.as_str()), (3, "1 of 2 replies did not come within 1s"));
        assert_eq!(code(&tally, 1).0, 1);
        tally.heard(0, &error("192.0.2.1:9", PeerErrorKind::ConnectionRefused, None));
        let (one, text) = code(&tally, 0);
        assert!(one == 1 && text.contains("1 error came back"), "{text}");
        tally.unsendable(true);
        tally.unsendable(false);
        let (one, text) = code(&tally, 0);
        assert!(one == 1 && text.starts_with("4 of 5 datagrams were not sent; 1 error"), "{text}");
    }
}
