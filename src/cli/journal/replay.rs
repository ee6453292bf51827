//! `ringest journal replay`: records as datagrams again.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use ringest_load::replay::{Recording, Records, ReplayError, Survey};
use ringest_load::spec::{Gso, LoadSpec, Rate, Replay};

use crate::cli::args::values;
use crate::cli::journal::Failure;
use crate::cli::journal::select::SelectArgs;
use crate::cli::load;
use crate::cli::load::{Output, REPLAY_FLOWS, perform};

/// Send the records again, at their own pace
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal replay DIR 127.0.0.1:9000                    as they came
  ringest journal replay DIR collector:514 --speed 10          ten times as fast
  ringest journal replay DIR collector:514 --speed max --since 1h
  ringest journal replay DIR [::1]:9000 --peer 192.0.2.7 --json

A record is a datagram of its own, sent in the order of `cat`. Each peer of the journal \
has a source port of its own (up to --flows), on an address of this host. What is there at the start is \
sent: a journal that is written meanwhile is not followed. Damaged places are counted, and passed over.")]
pub(crate) struct ReplayArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// To whom: HOST:PORT or [IP6]:PORT
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// How many times as fast as they came, such as 0.5 or 10; max: as fast as this host can
    #[arg(long, value_name = "X|max", default_value = "1", value_parser = speed)]
    speed: Speed,
    #[command(flatten)]
    select: SelectArgs,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Source ports to send from [default: one per peer, up to 1024]
    #[arg(long, value_name = "N", help_heading = "From where")]
    flows: Option<usize>,
    /// Threads that share them
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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

fn speed(text: &str) -> Result<Speed, String> {
    match text {
        "max" => Ok(Speed::Max),
        _ => values::speed(text).map(Speed::Times).map_err(|error| format!("{error}, or max")),
    }
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let target = load::resolve(&args.target)?;
    // Says where to look if the directory cannot be read.
    crate::cli::journal::segments(&args.dir)?;
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
        // Of more than there are peers, the rest would send nothing.
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
