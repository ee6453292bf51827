//! Which records: what `cat`, `tail`, `export` and `replay` have in common.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use ringest::journal::merge::{Trouble, What};
use ringest::journal::select::Selection;
use ringest::sink::rfc3339::Rfc3339;

use crate::cli::failure::Failure;
use crate::cli::paint::{self, count};

/// Which records.
#[derive(Args, Clone, Debug)]
pub(super) struct SelectArgs {
    /// Only what was received since then: RFC 3339, or so long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Which records")]
    since: Option<u64>,
    /// Only what was received before then
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Which records")]
    until: Option<u64>,
    /// Only what this address, or address and port, sent
    #[arg(long, value_name = "IP[:PORT]", value_parser = peer, help_heading = "Which records")]
    peer: Option<(IpAddr, Option<u16>)>,
    /// Only records that hold these bytes
    #[arg(long, value_name = "TEXT", help_heading = "Which records")]
    grep: Option<String>,
}

impl SelectArgs {
    /// # Errors
    /// No record can be wanted.
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Failure::Usage(format!(
                "no time is both: --since is {} and --until {}; --since is the earlier one",
                Rfc3339(since),
                Rfc3339(until)
            )));
        }
        let selection = Selection {
            since_unix_ns: self.since,
            until_unix_ns: self.until,
            peer: self.peer.map(|(ip, port)| (ip.to_canonical(), port)),
            holds: None,
        };
        Ok(match &self.grep {
            Some(text) => selection.holding(text.as_bytes()),
            None => selection,
        })
    }
}

/// A time, ns since 1970.
fn time(text: &str) -> Result<u64, String> {
    let expected = "expected a time such as 2026-11-22T10:00:00Z, or how long ago, such as 10m";
    let at = match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    };
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
    ns.ok_or_else(|| expected.to_owned())
}

fn peer(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = match bare {
        Some(text) => text.parse().map(IpAddr::V6).ok(),
        None => text.parse().ok(),
    };
    ip.map(|ip| (ip, None)).ok_or_else(|| "expected IP, IP:PORT or [IP6]:PORT".to_owned())
}

/// What could not be read, told as it is met and judged in the end.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    damaged: u64,
}

impl Troubles {
    pub(super) fn tell(&mut self, trouble: &Trouble) {
        paint::say(&format!("{trouble}\n"));
        // What retention took is no damage.
        self.damaged += u64::from(!matches!(trouble.what, What::Gone));
    }

    pub(super) fn judge(&self) -> Result<(), Failure> {
        match self.damaged {
            0 => Ok(()),
            places => Err(Failure::Failed(format!(
                "{} places are damaged; `ringest journal verify` tells of all of them",
                count(places)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_peers_read_as_written() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert!(time("10m").unwrap() < time("1s").unwrap());
        assert!(time("noon").is_err() && time("").is_err());
        assert_eq!(peer("192.0.2.1").unwrap().1, None);
        assert_eq!(peer("[::1]:5").unwrap().1, Some(5));
        assert_eq!(peer("[::1]"), peer("::1"));
        for text in ["host", "[192.0.2.1]", "[::1", "::1]", "[]"] {
            assert!(peer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_without_any_time_is_wrong_usage() {
        let select = |since, until| SelectArgs { since, until, peer: None, grep: None };
        for (since, until) in [(Some(2), Some(1)), (Some(1), Some(1))] {
            let refused = select(since, until).selection().unwrap_err();
            assert!(
                matches!(&refused, Failure::Usage(text) if text.contains("--since")),
                "{refused}"
            );
        }
        assert!(select(Some(1), Some(2)).selection().is_ok());
        assert!(select(Some(1), None).selection().unwrap().until_unix_ns.is_none());
    }
}
