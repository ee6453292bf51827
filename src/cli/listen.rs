//! `ringest listen`: take datagrams, hand them to a sink, account for them.

use clap::Args;
use ringest_records::sink::discard::{Discard, DiscardRecords};

use crate::cli::args::decode::DecodeArgs;
use crate::cli::args::engine::EngineArgs;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::run::until_stop;
use crate::cli::run::until_stop::Beside;
use crate::cli::show::plan;
use crate::cli::show::status::Status;
use crate::cli::sink::sinks;
use crate::cli::sink::sinks::SinkArgs;

const EXAMPLES: &str = "\
Examples:
  ringest listen 127.0.0.1:9000                     count what arrives, until ^C
  ringest listen '*:514' --sink stdout              print it, one line a datagram
  ringest listen '*:514' --sink stdout --output json | jq .payload
  ringest listen '*:514' --sink stdout --decode lines   one line a record, however they were packed
  ringest listen '*:514' --sink journal:/var/lib/ringest --decode lines
  ringest listen '*:514' --decode lines --spool /var/spool/ringest --sink nats:127.0.0.1:4222/LOGS/logs.syslog
  ringest listen '*:514' --sink journal:/var/lib/ringest --sink kafka:127.0.0.1:9092/syslog
  ringest listen '[::1]:9000' --for 10s --json      measure for 10 seconds, for a script
  ringest listen '*:514' --rcvbuf 64M --receivers 2 --workers 2 --plan

^C (SIGINT) or SIGTERM stops: what the sockets hold is still taken and handled. A second one stops \
at once and says what was abandoned.";

/// Receive datagrams, hand them to a sink, and account for every one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    sinks: SinkArgs,
    #[command(flatten)]
    decoding: DecodeArgs,
}

pub(crate) fn run(args: &ListenArgs) -> Result<(), Failure> {
    args.sinks.check(args.engine.json)?;
    let (builder, places) = args.engine.listening()?;
    let builder = builder.reply_bytes(0);
    if args.engine.plan {
        args.decoding.check(args.engine.addresses(), &places)?;
        let mut plan = builder.plan()?;
        plan.bill.extend(args.sinks.memory(plan.handlers())?);
        return plan::print(&plan);
    }
    let signals = Signals::block()?;
    let formats = args.decoding.formats(args.engine.addresses(), &places)?;
    if !args.sinks.is_discard() {
        return sinks::receive(&args.engine, &args.sinks, (builder, &formats), &signals);
    }
    let engine = match formats.are_raw() {
        true => builder.start(|_| Discard)?,
        false => builder.start(|_| DiscardRecords::new(formats.stage()))?,
    };
    let beside = Beside::with(Status::on_stderr(args.engine.quiet));
    until_stop::run_until_stop("listen", &args.engine, engine, &signals, beside)
}
