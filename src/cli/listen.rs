//! `ringest listen`: take datagrams, hand them to a sink, account for them.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use clap::{Args, ValueEnum};
use ringest::sink::discard::Discard;
use ringest::sink::stdout::{Format, Stdout};

use super::attend;
use super::failure::Failure;
use super::options::EngineArgs;
use super::plan;
use super::signals::Signals;
use super::status::Status;

const EXAMPLES: &str = "\
Examples:
  ringest listen 127.0.0.1:9000                     count what arrives, until ^C
  ringest listen '*:514' --sink stdout              print it, one line a datagram
  ringest listen '*:514' --sink stdout --output json | jq .payload
  ringest listen '[::1]:9000' --for 10s --json      measure for 10 seconds, for a script
  ringest listen '*:514' --rcvbuf 64M --receivers 2 --workers 2 --plan

^C (SIGINT) or SIGTERM stops: what the sockets hold is still taken and handled. A second one stops
at once and says what was abandoned.";

/// Receive datagrams, hand them to a sink, and account for every one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListenArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Where datagrams go: discard counts them, stdout prints them
    #[arg(long, value_enum, default_value = "discard", help_heading = "Output")]
    sink: SinkArg,
    /// How --sink stdout prints a datagram: text (escaped where it does not print), hex, or json
    /// (peer, time, length, payload) [default: text]
    #[arg(long, value_enum, help_heading = "Output")]
    output: Option<OutputArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SinkArg {
    Discard,
    Stdout,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputArg {
    Text,
    Hex,
    Json,
}

impl ListenArgs {
    fn check(&self) -> Result<(), Failure> {
        if self.sink == SinkArg::Stdout && self.engine.json {
            return Err(Failure::Usage(
                "--sink stdout and --json would both write to stdout, and no reader could tell one \
                 from the other; leave one out (--output json prints datagrams as JSON)"
                    .to_owned(),
            ));
        }
        if self.sink == SinkArg::Discard && self.output.is_some() {
            return Err(Failure::Usage(
                "--output says how datagrams are printed, and none are; add --sink stdout"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn format(&self) -> Format {
        match self.output {
            None | Some(OutputArg::Text) => Format::Text,
            Some(OutputArg::Hex) => Format::Hex,
            Some(OutputArg::Json) => Format::Json,
        }
    }
}

pub(super) fn run(args: &ListenArgs) -> Result<(), Failure> {
    args.check()?;
    let builder = args.engine.builder().reply_bytes(0);
    if args.engine.plan {
        return plan::print(&builder.plan()?);
    }
    let signals = Signals::block()?;
    match args.sink {
        SinkArg::Discard => {
            let engine = builder.start(|_| Discard)?;
            let status = Status::on_stderr(args.engine.quiet);
            attend::attend("listen", &args.engine, engine, &signals, (None, status))
        }
        SinkArg::Stdout => {
            let sink = open_stdout(args.format())?;
            let engine = builder.start(|_| sink.handler())?;
            // Datagrams and a status line on one terminal would overwrite each other.
            let quiet = args.engine.quiet || io::stdout().is_terminal();
            let with = (Some(sink.as_fd()), Status::on_stderr(quiet));
            let ended = attend::attend("listen", &args.engine, engine, &signals, with);
            match sink.failure() {
                Some(error) => Err(closed(&error)),
                None => ended,
            }
        }
    }
}

/// Standard output without std's buffer: a batch's lines are one write, and what was written is
/// known to the byte.
fn open_stdout(format: Format) -> Result<Stdout<File>, Failure> {
    let fd = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Failure::stdout(&error))?;
    Stdout::new(File::from(fd), format).map_err(|error| Failure::stdout(&error))
}

fn closed(error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::BrokenPipe => "stdout was closed by its reader".to_owned(),
        _ => format!("cannot write to stdout: {error}"),
    };
    Failure::Failed(format!(
        "{what}; datagrams received after that are counted as undelivered. To read only the first \
         N, use --count N"
    ))
}
