//! librdkafka's errors in words an operator can act on, and which of them a record is to blame for.

use rdkafka::error::RDKafkaErrorCode as Code;

use ringest_base::text::escape;

/// Characters of an error's text that are kept: some come from the broker.
const TEXT_MAX: usize = 400;

/// Whether the broker refuses what was sent for what it is: it would the next time, too. A broker
/// refuses a batch as a whole, so that one record's fault is told of all that came with it.
pub(crate) fn is_refusal(code: Code) -> bool {
    is_size(code)
        || matches!(
            code,
            Code::InvalidRecord
                | Code::InvalidDifferentRecord
                | Code::InvalidTimestamp
                | Code::PolicyViolation
                | Code::UnsupportedForMessageFormat
        )
}

/// Whether it is refused for its size, which smaller batches may mend.
pub(crate) fn is_size(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize
    )
}

/// Why a record failed.
pub(crate) fn of_record(code: Code, topic: &str) -> String {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => format!(
            "there is no topic {topic} at the broker: create it, or correct the name ({})",
            said(code)
        ),
        Code::TopicAuthorizationFailed => format!(
            "this user may not write to topic {topic}: grant it Write and Describe ({})",
            said(code)
        ),
        Code::ClusterAuthorizationFailed => format!(
            "this user may not write idempotently: grant it IdempotentWrite, or set \
             enable.idempotence=false ({})",
            said(code)
        ),
        code if is_refusal(code) => format!("the broker refuses it: {}", said(code)),
        code => format!("it was not delivered: {}", said(code)),
    }
}

/// Why the client as a whole is in trouble; `reason` is librdkafka's.
pub(crate) fn of_client(code: Code, reason: &str, topic: &str) -> String {
    let reason = printable(reason);
    match code {
        Code::AllBrokersDown => format!("no broker can be reached ({reason})"),
        Code::BrokerTransportFailure => {
            // Where one side speaks TLS and the other does not, it ends in one of these states.
            let in_state = |state| reason.contains(&format!("in state {state}"));
            let hint = match in_state("SSL_HANDSHAKE") || in_state("APIVERSION_QUERY") {
                true => "; see security.protocol in --kafka-config",
                false => "",
            };
            format!("a broker cannot be reached: {reason}{hint}")
        }
        Code::Resolve => format!("a broker's name is not found: {reason}"),
        Code::Authentication | Code::SaslAuthenticationFailed => format!(
            "the broker does not let this user in: {reason}; see RINGEST_KAFKA_USER, \
             RINGEST_KAFKA_PASSWORD, and sasl.mechanism and security.protocol in --kafka-config"
        ),
        Code::SSL => format!(
            "no TLS connection to the broker: {reason}; see security.protocol and ssl.ca.location in \
             --kafka-config"
        ),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => of_record(code, topic),
        code => format!("{reason} ({})", said(code)),
    }
}

/// The error's description alone.
fn said(code: Code) -> String {
    let text = code.to_string();
    match text.split_once(" (") {
        Some((_, description)) => description.trim_end_matches(')').to_owned(),
        None => text,
    }
}

/// Text from elsewhere, safe to print and of bounded length.
pub(crate) fn printable(text: &str) -> String {
    let mut bytes = Vec::new();
    let end = text.char_indices().nth(TEXT_MAX).map_or(text.len(), |(at, _)| at);
    escape::text(&mut bytes, text[..end].trim().as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_is_safe_to_print_and_bounded() {
        let text = of_client(Code::Authentication, &format!("\x1b[2J{}", "é".repeat(9000)), "t");
        assert!(!text.contains('\x1b') && text.contains("\\u{1b}[2Jé"), "{text}");
        assert!(text.chars().count() < 700, "{}", text.len());
    }

    #[test]
    fn a_refusal_is_the_records_fault_and_no_broken_connections() {
        for code in [Code::MessageSizeTooLarge, Code::InvalidRecord, Code::PolicyViolation] {
            assert!(is_refusal(code), "{code:?}");
        }
        for code in [
            Code::BrokerTransportFailure,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
            Code::PurgeQueue,
            Code::InvalidMessage,
            Code::MessageTimedOut,
        ] {
            assert!(!is_refusal(code), "{code:?}");
        }
        assert_eq!(
            of_record(Code::MessageSizeTooLarge, "t"),
            "the broker refuses it: Broker: Message size too large"
        );
        assert!(
            of_record(Code::UnknownTopic, "t").starts_with("there is no topic t at the broker")
        );
    }
}
