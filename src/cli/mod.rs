//! The command line: reads flags, runs commands, and prints. No other part of ringest prints.
//!
//! Results (`--json`, `--plan`, payloads, the demo's table) go to stdout, and messages about them to stderr.
//!
//! A flag becomes a setting in three steps: a flag struct in `args`, a
//! [`Settings`](ringest_engine::control::settings::Settings), a
//! [`Config`](ringest_engine::control::config::Config).

/// Flags shared by subcommands, and the values they take.
pub(crate) mod args;
/// Runs an engine until it is to stop: signals, waiting, the end.
pub(crate) mod run;
/// Prints: tables, the status line, JSON, advice.
pub(crate) mod show;
/// `--sink` and the flags of each kind of sink.
pub(crate) mod sink;

use clap::{Parser, Subcommand};

/// How a command fails, and its exit code.
mod failure;
/// `ringest listen`.
mod listen;
/// `ringest echo`.
mod echo;
/// `ringest send`.
mod send;
/// `ringest demo`.
mod demo;
/// `ringest journal`.
mod journal;
/// `ringest doctor`.
mod doctor;
/// `ringest load`.
mod load;
/// `ringest bench`.
mod bench;

use crate::cli::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  ringest demo                                     measure what this host can receive
  ringest listen 127.0.0.1:9000 --sink stdout      print datagrams as they arrive
  ringest send 127.0.0.1:9000 hello                send a datagram there
  ringest listen '*:514' --sink journal:DIR        store datagrams on disk; `ringest journal` reads them
  ringest load 127.0.0.1:9000 --rate 50k           send at a rate, and report how well it was kept
  ringest bench ndr                                find the rate this host receives without loss
  ringest doctor '*:514'                           find what loses datagrams on this host
  ringest listen '*:514' --plan                    show threads, cores and memory; open nothing

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing was received in time.";

/// Receives UDP datagrams with io_uring, and accounts for every one of them.
#[derive(Debug, Parser)]
#[command(name = "ringest", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Listen(Box<listen::ListenArgs>),
    Echo(echo::EchoArgs),
    Send(Box<send::SendArgs>),
    Demo(demo::DemoArgs),
    Journal(journal::JournalCommand),
    Doctor(doctor::DoctorArgs),
    Load(load::LoadArgs),
    Bench(Box<bench::BenchArgs>),
}

/// Returns the parsed command line. Ends the process if it is wrong or asks for help.
pub(crate) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| args::secret::hide(error).exit())
}

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Listen(args) => listen::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Journal(args) => journal::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed_and_every_help_ends_with_examples() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        assert!(command.render_help().to_string().contains("Examples:"));
        for sub in command
            .get_subcommands_mut()
            .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{}", sub.get_name());
        }
    }

    fn code(args: &[&str]) -> Option<i32> {
        Cli::try_parse_from([&["ringest"], args].concat()).err().map(|error| error.exit_code())
    }

    #[test]
    fn wrong_usage_is_refused_by_the_parser() {
        assert_eq!(code(&["listen", "127.0.0.1:9000", "--slots", "64", "--for", "5s"]), None);
        for args in [
            &["listen"][..],
            &["listen", "local host:9000"],
            &["listen", "*:9000", "--join", "127.0.0.1"],
            &["listen", "*:9000", "--tos", "1", "--dscp", "ef"],
            &["listen", "*:9000", "--steer", "left"],
            &["listen", "127.0.0.1"],
            &["listen", "127.0.0.1:0", "--rcvbuf", "lots"],
            &["listen", "127.0.0.1:0", "--coalesce", "5"],
            &["listen", "127.0.0.1:0", "--for", "0s"],
            &["listen", "127.0.0.1:0", "--cores", "3-1"],
            &["listen", "127.0.0.1:0", "--plan", "--json"],
            &["echo", "127.0.0.1:0", "--sink", "stdout"],
            &["send", "127.0.0.1:0", "x"],
        ] {
            assert_eq!(code(args), Some(2), "{args:?}");
        }
    }
}
