//! Counts the replies that are missing, and prints those that came. Their payload comes from the network, so control
//! characters are escaped.

use std::io::{self, Write};
use std::time::Duration;

use ringest_base::text::escape;
use ringest_base::text::json::Object;
use ringest_client::Reply;
use ringest_records::sink::lines::Format;

use crate::cli::failure::Failure;
use crate::cli::show::paint;

/// How many replies to the last message are missing, for each peer.
#[derive(Debug)]
pub(crate) struct Missing(Vec<u64>);

impl Missing {
    /// Expects `wanted` replies from each peer that was `asked`, and none from the others.
    pub(crate) fn new(wanted: u64, asked: &[bool]) -> Self {
        Self(asked.iter().map(|asked| if *asked { wanted } else { 0 }).collect())
    }

    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|missing| *missing > 0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, missing| total.saturating_add(*missing))
    }

    /// Counts a reply of a peer. More than expected do no harm.
    pub(crate) fn came(&mut self, index: usize) {
        self.0[index] = self.0[index].saturating_sub(1);
    }

    /// Expects no more replies from a peer: an error came back.
    pub(crate) fn give_up(&mut self, index: usize) {
        self.0[index] = 0;
    }
}

/// Prints replies: payloads on stdout, one line each, and facts about them on stderr.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    /// Payloads go to stderr, because stdout holds the JSON object.
    on_stderr: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(format: Option<Format>, on_stderr: bool, quiet: bool) -> Self {
        Self { format: format.unwrap_or(Format::Text), on_stderr, quiet }
    }

    /// Prints a reply. `round_trip` is the time since the last datagram was sent to that peer.
    pub(crate) fn print(&self, reply: &Reply, round_trip: Duration) -> Result<(), Failure> {
        let round_trip_ns = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        let bytes = reply.payload.len();
        let about =
            format!("{} replied in {}, {bytes} bytes", reply.peer, paint::nanos(round_trip_ns));
        let line = self.line(reply, round_trip_ns);
        if self.on_stderr {
            if !self.quiet {
                paint::say(&format!("{about}: {}", String::from_utf8_lossy(&line)));
            }
            return Ok(());
        }
        if !self.quiet {
            paint::say(&format!("{about}\n"));
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&line).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::stdout(&error))
    }

    fn line(&self, reply: &Reply, round_trip_ns: u64) -> Vec<u8> {
        let Reply { peer, payload, .. } = reply;
        let mut line = Vec::new();
        match self.format {
            Format::Text => escape::text(&mut line, payload),
            Format::Hex => escape::hex(&mut line, payload),
            Format::Json => {
                let mut object = Object::begin(&mut line);
                object.address("peer", *peer);
                object.number("round_trip_ns", round_trip_ns);
                object.payload(payload);
                object.end();
            }
        }
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn line(format: Format, payload: &[u8]) -> String {
        let peer = "192.0.2.1:9".parse().unwrap();
        let reply = Reply { peer, at: Instant::now(), payload: payload.to_vec() };
        String::from_utf8(Output::new(Some(format), false, true).line(&reply, 1500)).unwrap()
    }

    #[test]
    fn payloads_never_control_a_terminal() {
        assert_eq!(line(Format::Text, b"pong"), "pong\n");
        assert_eq!(line(Format::Text, b"\x1b[2J\n\xff"), "\\u{1b}[2J\\n\\xff\n");
        assert_eq!(line(Format::Hex, b"\x1b\xff"), "1bff\n");
        assert_eq!(
            line(Format::Json, b"a\x7f"),
            concat!(
                r#"{"peer":"192.0.2.1:9","round_trip_ns":1500,"length":2,"payload":"a\u007f"}"#,
                "\n"
            )
        );
        assert!(line(Format::Json, b"\xff").contains(r#""payload_hex":"ff""#));
    }

    #[test]
    fn replies_are_counted_for_each_peer() {
        let mut missing = Missing::new(2, &[true, false, true]);
        missing.came(0);
        missing.came(1);
        missing.give_up(2);
        assert_eq!((missing.any(), missing.total()), (true, 1));
        missing.came(0);
        missing.came(0);
        assert!(!missing.any());
        assert_eq!(Missing::new(u64::MAX, &[true, true]).total(), u64::MAX);
    }
}
