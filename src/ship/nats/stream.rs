//! Reads a stream's configuration, once a connection: whether it takes our subject, and how large messages
//! may be.

use serde::Deserialize;

use crate::nats::answer::{ApiError, shown};
use crate::nats::window::Order;

const STREAM_NOT_FOUND: u32 = 10_059;

/// JetStream error codes: JetStream is disabled on the server, or for the account.
const JETSTREAM_OFF: [u32; 2] = [10_076, 10_039];

/// The parts of JetStream's answer to `$JS.API.STREAM.INFO.…` that are used.
#[derive(Debug, Deserialize)]
struct Document {
    error: Option<ApiError>,
    config: Option<Config>,
    state: Option<State>,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    max_msg_size: i64,
    #[serde(default)]
    num_replicas: u64,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    sealed: bool,
}

#[derive(Debug, Deserialize)]
struct State {
    last_seq: u64,
}

/// Properties of a stream that takes our subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// How the order is kept: by ID, or by sequence if nothing prevents that.
    pub(crate) order: Order,
    /// Largest size of headers and payload together, bytes; `None` for no limit.
    pub(crate) message_bytes_max: Option<usize>,
}

/// Reads the configuration of `stream`.
///
/// # Errors
/// Why nothing can be stored there under `subject`, and what to do.
pub(crate) fn read(bytes: &[u8], stream: &str, subject: &str) -> Result<Facts, String> {
    let unclear =
        |what: &str| format!("the broker's answer about stream {stream} is not clear: {what}");
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| unclear(&error.to_string()))?;
    if let Some(error) = document.error {
        return Err(if error.err_code == STREAM_NOT_FOUND {
            format!(
                "stream {stream} does not exist: create it (nats stream add {stream} --subjects \
                 '{subject}')"
            )
        } else if JETSTREAM_OFF.contains(&error.err_code) {
            format!(
                "{}: enable JetStream on the server (nats-server -js) or for this account",
                error.text()
            )
        } else {
            format!("stream {stream} cannot be asked about: {}", error.text())
        });
    }
    let (Some(config), Some(state)) = (document.config, document.state) else {
        return Err(unclear("no configuration in it"));
    };
    if !config.subjects.iter().any(|pattern| takes(pattern, subject)) {
        let subjects: Vec<_> = config.subjects.iter().take(10).map(|one| shown(one)).collect();
        return Err(format!(
            "stream {stream} does not take subject {subject}, only {}: add the subject (nats stream \
             edit {stream} --subjects …), or name another",
            if subjects.is_empty() {
                "what it copies from others".to_owned()
            } else {
                subjects.join(", ")
            }
        ));
    }
    if config.no_ack {
        return Err(format!(
            "stream {stream} acknowledges nothing (no_ack), so nobody would know what it has: edit \
             it, or name another"
        ));
    }
    if config.sealed {
        return Err(format!("stream {stream} is sealed and takes no more: name another"));
    }
    Ok(Facts {
        order: if config.num_replicas > 1 { Order::Sequence(state.last_seq) } else { Order::Id },
        message_bytes_max: usize::try_from(config.max_msg_size).ok().filter(|bytes| *bytes > 0),
    })
}

/// Returns whether a pattern, in which `*` is one token and `>` all that follow, matches `subject`.
fn takes(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(token)) if expected == token => {}
            _ => return false,
        }
    }
}

/// Returns whether replicated streams of this server version remember a message's ID before they refuse the
/// message: see [`window`](crate::nats::window).
pub(crate) fn notes_what_it_refuses(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(2)), Some(Some(10 | 11))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(config: &str) -> Result<Facts, String> {
        let text = format!(
            r#"{{"type":"io.nats","config":{config},"state":{{"messages":2,"last_seq":9}}}}"#
        );
        read(text.as_bytes(), "LOGS", "logs.syslog")
    }

    #[test]
    fn a_stream_that_takes_the_subject_is_good() {
        let facts =
            info(r#"{"name":"LOGS","subjects":["a","logs.*"],"max_msg_size":-1,"num_replicas":3}"#);
        let expected = Facts { order: Order::Sequence(9), message_bytes_max: None };
        assert_eq!(facts, Ok(expected));
        let facts = info(r#"{"subjects":["logs.>"],"max_msg_size":1024,"num_replicas":1}"#);
        assert_eq!(facts, Ok(Facts { order: Order::Id, message_bytes_max: Some(1024) }));
    }

    #[test]
    fn others_are_refused_with_the_next_move() {
        let error = |code: u32, text: &str| {
            let text =
                format!(r#"{{"error":{{"code":404,"err_code":{code},"description":"{text}"}}}}"#);
            read(text.as_bytes(), "LOGS", "logs.syslog").unwrap_err()
        };
        for (said, expected) in [
            (error(10_059, "stream not found"), "nats stream add LOGS --subjects 'logs.syslog'"),
            (error(10_039, "JetStream not enabled for account"), "nats-server -js"),
            (error(10_008, "\\u001b[2Jno leader"), "\\u{1b}[2Jno leader (JetStream error 10008)"),
            (info(r#"{"subjects":["x.y","logs"]}"#).unwrap_err(), "only x.y, logs: add"),
            (info("{}").unwrap_err(), "only what it copies from others"),
            (info(r#"{"subjects":["logs.>"],"no_ack":true}"#).unwrap_err(), "acknowledges nothing"),
            (info(r#"{"subjects":["logs.>"],"sealed":true}"#).unwrap_err(), "is sealed"),
            (read(b"{}", "LOGS", "a").unwrap_err(), "not clear"),
            (read(b"", "LOGS", "a").unwrap_err(), "not clear"),
        ] {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn wildcards_take_what_they_should() {
        for (pattern, subject, does) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("*.b", "a.b", true),
            (">", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a", "a.b", false),
            ("A.b", "a.b", false),
        ] {
            assert_eq!(takes(pattern, subject), does, "{pattern} {subject}");
        }
    }

    #[test]
    fn two_versions_note_what_they_refuse() {
        for (version, does) in [
            ("2.9.10", false),
            ("2.10.26", true),
            ("2.11.0-RC.1", true),
            ("2.12.8", false),
            ("2.15.1", false),
            ("3.10.0", false),
            ("", false),
        ] {
            assert_eq!(notes_what_it_refuses(version), does, "{version}");
        }
    }
}
