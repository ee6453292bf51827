//! Which records: the flags that `cat`, `tail`, `export` and `replay` share.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use ringest_base::text::rfc3339::Rfc3339;
use ringest_records::journal::read::merge::{Trouble, What};
use ringest_records::journal::read::select::Selection;

use crate::cli::failure::Failure;
use crate::cli::show::paint;
use crate::cli::show::paint::count;

/// Flags that select records.
#[derive(Args, Clone, Debug)]
pub(crate) struct SelectArgs {
    /// Only records received since then: RFC 3339 (UTC if it has no offset), or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Which records")]
    since: Option<u64>,
    /// Only records received before then, written as for --since
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Which records")]
    until: Option<u64>,
    /// Only records that this address, or address and port, sent
    #[arg(long, value_name = "IP[:PORT]", value_parser = peer, help_heading = "Which records")]
    peer: Option<(IpAddr, Option<u16>)>,
    /// Only records that contain these bytes
    #[arg(long, value_name = "TEXT", help_heading = "Which records")]
    grep: Option<String>,
}

impl SelectArgs {
    /// Returns the selection that the flags ask for.
    ///
    /// # Errors
    /// No time is in the range of `--since` and `--until`.
    pub(crate) fn selection(&self) -> Result<Selection, Failure> {
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

/// Reads a point in time, or how long ago it was, and returns ns since 1970.
fn time(text: &str) -> Result<u64, String> {
    let expected = "expected a time such as 2026-11-22T10:00:00Z, or how long ago, such as 10m";
    let at = match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => moment(text),
    };
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
    ns.ok_or_else(|| expected.to_owned())
}

/// Reads a time of RFC 3339 with any offset, or with none for UTC. `humantime` takes no offset but Z, and ignores an
/// offset behind a fraction, so the offset is split off here. `None` if the text is no such time.
fn moment(text: &str) -> Option<SystemTime> {
    let tail = text.len().checked_sub("+00:00".len()).and_then(|at| text.split_at_checked(at));
    let offset = tail.and_then(|(time, offset)| {
        let (sign, clock) = offset.split_at_checked(1).filter(|(sign, _)| "+-".contains(sign))?;
        let (hours, minutes) = clock.split_once(':')?;
        let number = |digits: &str, max: u64| {
            let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|number| is_number && *number <= max)
        };
        let length = Duration::from_secs(number(hours, 23)? * 3600 + number(minutes, 59)? * 60);
        Some((time, sign, length))
    });
    let Some((time, sign, length)) = offset else {
        let plain = !text.contains('+');
        return plain.then(|| humantime::parse_rfc3339_weak(text).ok()).flatten();
    };
    // A second offset, or one behind a Z, is refused.
    let local = humantime::parse_rfc3339_weak(time).ok().filter(|_| !time.contains(['+', 'Z']))?;
    if sign == "+" { local.checked_sub(length) } else { local.checked_add(length) }
}

/// Reads an address, with a port or without.
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

/// Damage in a journal: printed as it is found, and counted for the exit code.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    damaged: u64,
}

impl Troubles {
    /// Prints a trouble on stderr, and counts it unless retention removed the segment.
    pub(crate) fn tell(&mut self, trouble: &Trouble) {
        paint::say(&format!("{trouble}\n"));
        // A segment that retention removed is no damage.
        self.damaged += u64::from(!matches!(trouble.what, What::Gone));
    }

    /// Returns an error if any damage was found.
    pub(crate) fn judge(&self) -> Result<(), Failure> {
        match self.damaged {
            0 => Ok(()),
            places => Err(Failure::Failed(format!(
                "{} places are damaged; `ringest journal verify` lists all of them",
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
        for same in [
            "1970-01-01T02:00:01+02:00",
            "1970-01-01 02:00:01.000000000+02:00",
            "1970-01-01T00:00:01.0+00:00",
        ] {
            assert_eq!(time(same), Ok(1_000_000_000), "{same}");
        }
        assert_eq!(time("1970-01-01T00:00:01.5-01:30"), Ok(5_401_500_000_000));
        for none in [
            "1970-01-01T02:00:01+0200",
            "1970-01-01T02:00:01Z+02:00",
            "1970-01-01T02:00:01.123456+02000",
            "1970-01-01T02:00:01+24:00",
            "1970-01-01T02:00:01+02:00+02:00",
            "1970-01-01T02:00:01+é:00",
        ] {
            assert!(time(none).is_err(), "{none}");
        }
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
