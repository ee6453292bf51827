//! `ringest journal replay`: sends records as datagrams again.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use ringest_load::replay::{Recording, Records, ReplayError, Survey};
use ringest_load::spec::{Gso, LoadSpec, Rate, Replay};

use crate::cli::args::values;
use crate::cli::failure::Failure;
use crate::cli::journal::segments::segments;
use crate::cli::journal::select::SelectArgs;
use crate::cli::load;
use crate::cli::load::{Output, REPLAY_FLOWS, perform};

/// Send the records again, at their own pace
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal replay DIR 127.0.0.1:9000                    at their own pace
  ringest journal replay DIR collector:514 --speed 10          ten times as fast
  ringest journal replay DIR collector:514 --speed max --since 1h
  ringest journal replay DIR [::1]:9000 --peer 192.0.2.7 --json

Each record is sent as one datagram, in the order of `cat`. Each peer of the journal gets its own source port \
(up to --flows), on an address of this host. Records that are written after the start are not sent. Damaged places \
are counted and skipped.")]
pub(crate) struct ReplayArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where to send: HOST:PORT or [IP6]:PORT
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// How many times as fast as they were received, such as 0.5 or 10; max: as fast as this host can
    #[arg(long, value_name = "X|max", default_value = "1", value_parser = speed)]
    speed: Speed,
    #[command(flatten)]
    select: SelectArgs,
    /// Stop after this many datagrams
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Source ports to send from [default: one per peer, up to 1024]
    #[arg(long, value_name = "N", help_heading = "From where")]
    flows: Option<usize>,
    /// Threads that share the source ports
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "From where")]
    threads: usize,
    /// Address to send from
    #[arg(long, value_name = "ADDR", help_heading = "From where")]
    bind: Option<IpAddr>,
    /// Print the report as one JSON object on stdout, as `ringest load` does
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Output")]
    quiet: bool,
}

/// The pace of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    /// This many times as fast as the records were received.
    Times(f64),
    /// As fast as this host can.
    Max,
}

/// Reads a factor of speed, or `max`.
fn speed(text: &str) -> Result<Speed, String> {
    match text {
        "max" => Ok(Speed::Max),
        _ => values::speed(text).map(Speed::Times).map_err(|error| format!("{error}, or max")),
    }
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let target = load::resolve(&args.target)?;
    // Fails early, and names the directory, if it cannot be read.
    segments(&args.dir)?;
    let records = Records::of(&args.dir, args.select.selection()?)
        .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", args.dir.display())))?;
    let recording = Recording::Journal(Box::new(records));
    let failed = |error: ReplayError| Failure::Failed(error.to_string());
    let survey = recording.open().and_then(Survey::of).map_err(failed)?;
    let spec = LoadSpec {
        bind: args.bind,
        rate: Rate::Max,
        count: args.count,
        gso: Gso::Auto,
        // More flows than peers would send nothing.
        flows: args.flows.unwrap_or(REPLAY_FLOWS).min(survey.flows),
        threads: args.threads,
        needs_receiver: true,
        replay: Some(Replay {
            recording,
            speed: match args.speed {
                Speed::Times(speed) => Some(speed),
                Speed::Max => None,
            },
            survey,
        }),
        ..LoadSpec::new(target)
    };
    perform(&spec, Output { json: args.json, csv: false, quiet: args.quiet })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_read_as_written() {
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert_eq!(speed("0.5"), Ok(Speed::Times(0.5)));
        assert!(speed("fast").unwrap_err().contains("or max"));
        assert!(speed("0").is_err() && speed("").is_err());
    }
}
