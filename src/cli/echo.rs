//! `ringest echo`: send each datagram back to its peer.

use clap::Args;
use ringest::{Batch, Replies};

use crate::cli::args::engine::EngineArgs;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::run::until_stop;
use crate::cli::run::until_stop::Beside;
use crate::cli::show::plan;
use crate::cli::show::status::Status;

const EXAMPLES: &str = "\
Examples:
  ringest echo 127.0.0.1:9000                  answer until ^C
  ringest echo '*:7' --for 1m --json           the echo service for a minute, summary as JSON

The answer comes from the address the datagram was sent to. Anyone who can reach the port can make \
it send, to whatever address they claim to have: do not leave it open to a network you do not trust.";

/// Send each datagram back to its peer, and account for every one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    engine: EngineArgs,
}

pub(crate) fn run(args: &EchoArgs) -> Result<(), Failure> {
    let builder = args.engine.builder()?;
    if args.engine.plan {
        return plan::print(&builder.plan()?);
    }
    let signals = Signals::block()?;
    let engine = builder.start(|_| {
        |batch: &Batch, replies: &mut Replies| {
            for datagram in batch {
                // One that is not taken is counted as failed, and shown.
                replies.send(&datagram, datagram.payload());
            }
        }
    })?;
    let status = Status::on_stderr(args.engine.quiet);
    until_stop::run_until_stop("echo", &args.engine, engine, &signals, Beside::with(status))
}
