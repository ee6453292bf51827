//! A stream of NATS JetStream, as `--sink` names it.

use std::fmt;
use std::str::FromStr;

use crate::target::host::is_host;

/// The port of a server whose URL has none.
const PORT: u16 = 4222;

/// The variables that the message about a password names.
const USER: &str = "RINGEST_NATS_USER";
const PASSWORD: &str = "RINGEST_NATS_PASSWORD";
const TOKEN: &str = "RINGEST_NATS_TOKEN";

/// A stream and a subject of NATS JetStream: `nats:URL/STREAM/SUBJECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsTarget {
    /// Whether servers are reached over TLS only.
    pub tls: bool,
    /// `HOST:PORT` each.
    pub servers: Vec<String>,
    /// The stream.
    pub stream: String,
    /// The subject to publish to.
    pub subject: String,
}

impl FromStr for NatsTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected nats:URL/STREAM/SUBJECT, such as nats:nats://one:4222,two:4222/LOGS/logs.syslog \
             or nats:tls://one/LOGS/logs.syslog"
                .to_owned()
        };
        // `nats://…` is short for `nats:nats://…`.
        let is_url = text.starts_with("nats://");
        let url = if is_url { Some(text) } else { text.strip_prefix("nats:") };
        let url = url.ok_or_else(expected)?;
        if url.contains('@') {
            return Err(format!(
                "a name or a password here shows in the list of processes: put them into {USER} and \
                 {PASSWORD}, or a token into {TOKEN}"
            ));
        }
        let (tls, rest) = match (url.strip_prefix("nats://"), url.strip_prefix("tls://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => (false, url),
        };
        let mut parts = rest.splitn(3, '/');
        let (Some(servers), Some(stream), Some(subject)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(expected());
        };
        let servers: Option<Vec<_>> = servers.split(',').map(server).collect();
        let word = |text: &str| {
            !text.is_empty()
                && text.len() <= 255
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
        };
        if !word(stream) || stream.contains(['.', '\\']) {
            return Err("a stream's name has no spaces, dots, '*', '>' or slashes".to_owned());
        }
        if !subject.split('.').all(word) {
            return Err("a subject to publish to is words with dots between, without '*' and '>'"
                .to_owned());
        }
        Ok(Self {
            tls,
            servers: servers.ok_or_else(expected)?,
            stream: stream.to_owned(),
            subject: subject.to_owned(),
        })
    }
}

/// Returns `HOST`, `HOST:PORT` or `[IP6]:PORT` as `HOST:PORT`, or `None` if it is none of them.
fn server(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port.parse::<u16>().ok()?),
        _ => (text, PORT),
    };
    (port > 0 && is_host(host)).then(|| format!("{host}:{port}"))
}

impl fmt::Display for NatsTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        let servers = self.servers.join(",");
        write!(out, "nats:{scheme}://{servers}/{}/{}", self.stream, self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_servers_a_stream_and_a_subject() {
        let target: NatsTarget = "nats:127.0.0.1:4222/LOGS/logs.syslog".parse().unwrap();
        assert_eq!(target.to_string(), "nats:nats://127.0.0.1:4222/LOGS/logs.syslog");
        let target: NatsTarget = "nats:tls://one,two:5,[::1]:6/S/s".parse().unwrap();
        assert_eq!(target.to_string(), "nats:tls://one:4222,two:5,[::1]:6/S/s");
        let short: NatsTarget = "nats://one/S/s".parse().unwrap();
        assert_eq!(short.to_string(), "nats:nats://one:4222/S/s");
        let again: NatsTarget = target.to_string().parse().unwrap();
        assert_eq!(again, target);
        for text in [
            "nats:",
            "nats:one",
            "nats:one/S",
            "nats:one/S/",
            "nats:one//s",
            "nats:/S/s",
            "nats:one:0/S/s",
            "nats:one:x/S/s",
            "nats:one/S.T/s",
            "nats:one/S/a.*",
            "nats:one/S/>",
            "nats:one/S/a..b",
            "nats:one/S/a b",
            "nats:http://one/S/s",
            "kafka:one/S/s",
        ] {
            assert!(text.parse::<NatsTarget>().is_err(), "{text}");
        }
        for text in ["nats:me:p@ss@one/S/s", "nats:me:p/ss@one/S/s", "nats:me/p@ss/s"] {
            let refused = text.parse::<NatsTarget>().unwrap_err();
            assert!(refused.contains(USER) && !refused.contains("ss@"), "{refused}");
        }
    }
}
