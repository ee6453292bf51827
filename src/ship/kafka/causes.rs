//! Explains librdkafka's errors to an operator, and tells which of them are the fault of a record.

use rdkafka::error::RDKafkaErrorCode as Code;

use ringest_base::text::escape;

/// Characters of an error text that are kept: some texts come from the broker.
const TEXT_MAX: usize = 400;

/// Returns whether the broker refuses a record for its content, so that it would refuse it again. A broker
/// refuses a whole batch, so the error is reported for every record in it.
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

/// Returns whether the error is about size, which smaller batches may avoid.
pub(crate) fn is_size(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize
    )
}

/// Explains why a record failed.
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

/// Explains why the client as a whole is in trouble. `reason` is librdkafka's text.
pub(crate) fn of_client(code: Code, reason: &str, topic: &str) -> String {
    let reason = printable(reason);
    match code {
        Code::AllBrokersDown => format!("no broker can be reached ({reason})"),
        Code::BrokerTransportFailure => {
            // If one side speaks TLS and the other does not, the connection fails in one of these states.
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

/// Returns the description of an error without its code.
fn said(code: Code) -> String {
    let text = code.to_string();
    match text.split_once(" (") {
        Some((_, description)) => description.trim_end_matches(')').to_owned(),
        None => text,
    }
}

/// Returns foreign text escaped for a terminal, and cut to [`TEXT_MAX`] characters.
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
