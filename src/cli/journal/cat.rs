//! `ringest journal cat`: the records, each worker's segments in turn.

use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use ringest::journal::format::Record;
use ringest::journal::reader::{Next, Reader};
use ringest::sink::escape;
use ringest::sink::json::{self, Payload};
use ringest::sink::rfc3339::Rfc3339;
use serde::Serialize;

use super::Failure;
use crate::cli::paint::{self, count};

/// Print the records
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal cat DIR                              one line a record, escaped where it does not print
  ringest journal cat DIR --since 10m --peer 192.0.2.7
  ringest journal cat DIR --since 2026-11-22T10:00:00Z --until 2026-11-22T11:00:00Z --output json
  ringest journal cat DIR --output raw > payloads      the bytes as they came, one after the other

Records come worker by worker, each worker's in the order they were received. Exit code 1 if anything
was damaged; what is sound is printed all the same.")]
pub(super) struct CatArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Only what was received since then: RFC 3339, or so long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<u64>,
    /// Only what was received before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<u64>,
    /// Only what this address, or address and port, sent
    #[arg(long, value_name = "IP[:PORT]", value_parser = peer)]
    peer: Option<(IpAddr, Option<u16>)>,
    /// Only records that hold these bytes
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// text: time, peer and payload, escaped; json: one object a line; raw: payloads alone, as they came
    #[arg(long, value_enum, default_value = "text")]
    output: OutputArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputArg {
    Text,
    Json,
    Raw,
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
    let ip = text.parse().map_err(|_| "expected IP, IP:PORT or [IP6]:PORT".to_owned())?;
    Ok((ip, None))
}

/// A line of `--output json`.
#[derive(Serialize)]
struct Line<'a> {
    time: Rfc3339,
    peer: SocketAddr,
    listener: u16,
    #[serde(flatten)]
    payload: Payload<'a>,
}

impl CatArgs {
    fn wants(&self, record: &Record<'_>) -> bool {
        let time = record.received_unix_ns;
        let by = |(ip, port): (IpAddr, Option<u16>)| {
            record.peer.ip() == ip && port.is_none_or(|port| record.peer.port() == port)
        };
        let holds = |text: &String| {
            text.is_empty()
                || record.payload.windows(text.len()).any(|part| part == text.as_bytes())
        };
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
            && self.peer.is_none_or(by)
            && self.grep.as_ref().is_none_or(holds)
    }
}

fn write(out: &mut impl Write, output: OutputArg, record: &Record<'_>) -> io::Result<()> {
    match output {
        OutputArg::Raw => out.write_all(record.payload),
        OutputArg::Text => {
            let mut line = Vec::with_capacity(record.payload.len() + 64);
            escape::text(&mut line, record.payload);
            line.push(b'\n');
            write!(out, "{} {} ", Rfc3339(record.received_unix_ns), record.peer)?;
            out.write_all(&line)
        }
        OutputArg::Json => {
            let line = Line {
                time: Rfc3339(record.received_unix_ns),
                peer: record.peer,
                listener: record.listener,
                payload: Payload::from(record.payload),
            };
            json::write(out, &line)?;
            out.write_all(b"\n")
        }
    }
}

pub(super) fn run(args: &CatArgs) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut damaged = 0;
    for segment in super::segments(&args.dir)? {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failed =
            |error: &dyn std::fmt::Display| Failure::Failed(format!("cannot read {name}: {error}"));
        let mut reader = match Reader::open(&segment.path) {
            Ok(reader) => reader,
            Err(error) => {
                damaged += 1;
                paint::say(&format!("{name}: {error}\n"));
                continue;
            }
        };
        let outside = reader.footer().is_some_and(|footer| {
            args.since.is_some_and(|since| footer.last_unix_ns < since)
                || args.until.is_some_and(|until| footer.first_unix_ns >= until)
        });
        if outside {
            continue;
        }
        if let Some(since) = args.since {
            reader.seek_time(since).map_err(|error| failed(&error))?;
        }
        loop {
            match reader.read_next().map_err(|error| failed(&error))? {
                Next::Record { record, .. } if args.wants(&record) => {
                    write(&mut out, args.output, &record)
                        .map_err(|error| Failure::stdout(&error))?;
                }
                Next::Record { .. } => {}
                Next::Damaged { offset, bytes } => {
                    damaged += 1;
                    paint::say(&format!("{name}: {bytes} bytes at {offset} are no record\n"));
                }
                Next::End { .. } => break,
            }
        }
    }
    out.flush().map_err(|error| Failure::stdout(&error))?;
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!("{} places are damaged", count(damaged)))),
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
        assert!(peer("host").is_err());
    }
}
