//! Reads a stream's answer to a message. All of it is the broker's input: it is bounded, and escaped before
//! it is displayed.

use serde::Deserialize;

/// JetStream error codes: the stream's last message is not the expected one ("wrong last msg ID: …", "wrong
/// last sequence: 7").
const OUT_OF_TURN: [u32; 3] = [10_070, 10_071, 10_164];

/// JetStream error codes: the message or its header is too large for the stream.
const TOO_LARGE: [u32; 2] = [10_054, 10_097];

/// Characters of a broker's text that are displayed.
const TEXT_CHARS_MAX: usize = 200;

/// The result of one attempt to store a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Stored with this sequence: now or, for a duplicate, earlier.
    Stored { sequence: u64 },
    /// Not stored: the stream's last message is not the expected one. Holds the last sequence, if the
    /// answer has it.
    OutOfTurn { last: Option<u64> },
    /// Not stored, and never will be.
    TooLarge(String),
    /// Not stored, or unknown: must be sent again.
    Failed(String),
}

/// JetStream's PubAck, or its error.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

/// An error of JetStream.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub(crate) err_code: u32,
    #[serde(default)]
    description: String,
}

impl ApiError {
    /// Returns the error's text, escaped and bounded for display.
    pub(crate) fn text(&self) -> String {
        format!("{} (JetStream error {})", shown(&self.description), self.err_code)
    }
}

/// Reads an answer to a message for `stream`, whoever sent it.
pub(crate) fn read(bytes: &[u8], stream: &str) -> Answer {
    let Ok(document) = serde_json::from_slice::<Document>(bytes) else {
        return Answer::Failed(
            "something that is no stream answered: is the subject JetStream's alone?".to_owned(),
        );
    };
    match document {
        Document { error: Some(error), .. } => refused(&error),
        Document { stream: other, .. } if other != stream => {
            Answer::Failed(format!("stream {} answered, not {stream}", shown(&other)))
        }
        // NATS 2.10 answers like this to a message that it refused a moment ago and has not stored.
        Document { seq: 0, .. } => Answer::Failed(
            "the broker calls it a duplicate and does not have it; that ends with its duplicate window"
                .to_owned(),
        ),
        Document { seq: sequence, .. } => Answer::Stored { sequence },
    }
}

fn refused(error: &ApiError) -> Answer {
    if OUT_OF_TURN.contains(&error.err_code) {
        let last = error.description.strip_prefix("wrong last sequence: ");
        Answer::OutOfTurn { last: last.and_then(|number| number.parse().ok()) }
    } else if TOO_LARGE.contains(&error.err_code) {
        Answer::TooLarge(error.text())
    } else {
        Answer::Failed(error.text())
    }
}

/// Returns a broker's text, escaped and bounded for display.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each line as a nats-server sent it, 2.9.10 to 2.15.1.
    #[test]
    fn what_servers_answer_is_understood() {
        let stored = |sequence| Answer::Stored { sequence };
        for (bytes, answer) in [
            (r#"{"stream":"S","seq":5}"#, stored(5)),
            (r#"{"stream":"S", "seq":4,"duplicate": true}"#, stored(4)),
            (r#"{"stream":"S","domain":"hub","seq":9}"#, stored(9)),
            (
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"S","seq":0}"#,
                Answer::OutOfTurn { last: Some(7) },
            ),
            (
                r#"{"error":{"code":400,"err_code":10070,"description":"wrong last msg ID: 7"},"stream":"S","seq":0}"#,
                Answer::OutOfTurn { last: None },
            ),
            (
                r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"S","seq":0}"#,
                Answer::OutOfTurn { last: None },
            ),
            (
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"S","seq":0}"#,
                Answer::TooLarge(
                    "message size exceeds maximum allowed (JetStream error 10054)".to_owned(),
                ),
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#,
                Answer::Failed("maximum messages exceeded (JetStream error 10077)".to_owned()),
            ),
        ] {
            assert_eq!(read(bytes.as_bytes(), "S"), answer, "{bytes}");
        }
    }

    #[test]
    fn what_is_no_acknowledgement_of_this_stream_is_none() {
        for (bytes, why) in [
            (r#"{"stream":"S","seq":0,"duplicate":true}"#, "does not have it"),
            (r#"{"stream":"S"}"#, "does not have it"),
            (r#"{"stream":"T","seq":3}"#, "stream T answered, not S"),
            ("{}", "answered, not S"),
            ("", "no stream answered"),
            ("+OK", "no stream answered"),
            ("[]", "no stream answered"),
        ] {
            match read(bytes.as_bytes(), "S") {
                Answer::Failed(text) => assert!(text.contains(why), "{bytes}: {text}"),
                other => panic!("{bytes}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_show_a_control(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let error = serde_json::json!({"error": {"err_code": 1, "description": text}, "stream": text});
            for bytes in [bytes, error.to_string().into_bytes()] {
                if let Answer::Failed(text) = read(&bytes, "S") {
                    prop_assert!(!text.chars().any(char::is_control));
                    prop_assert!(text.chars().count() < 10 * TEXT_CHARS_MAX + 100);
                }
            }
        }
    }
}
