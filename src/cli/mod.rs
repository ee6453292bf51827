//! What was typed, and what is printed: the only place that prints. One file per subcommand.
//!
//! Results (`--json`, `--plan`, payloads, the demo's table) go to stdout, everything said about them
//! to stderr.

/// Flags shared by subcommands, and the values they take.
pub(crate) mod args;
/// A running engine: signals, waiting, the end.
pub(crate) mod run;
/// What is printed.
pub(crate) mod show;
/// `--sink` and the flags of each kind of sink.
pub(crate) mod sink;

use clap::{Parser, Subcommand};

/// How a command can fail, and the exit code that goes with it.
mod failure;
// One file per subcommand.
/// `ringest listen`: takes datagrams, hands them to sinks, accounts for them.
mod listen;
/// `ringest echo`: sends each datagram back to its peer.
mod echo;
/// `ringest send`: sends a datagram for each message and peer, and reports replies and errors.
mod send;
/// `ringest demo`: shows the rate that this host can receive, and that every datagram is accounted for.
mod demo;
/// `ringest journal`: reads a journal, whether a program writes it or not.
mod journal;
/// `ringest doctor`: examines this host and names the commands that mend it.
mod doctor;
/// `ringest load`: sends at a rate, and reports each datagram that was due as sent, unsent or refused.
mod load;
/// `ringest bench`: trials between two processes or two hosts.
mod bench;
// From a started engine to its last word.
// What is printed.

use crate::cli::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  ringest demo                                     see what this host can receive
  ringest listen 127.0.0.1:9000 --sink stdout      print what arrives
  ringest send 127.0.0.1:9000 hello                send a datagram there
  ringest listen '*:514' --sink journal:DIR        put it on disk; `ringest journal` reads it
  ringest load 127.0.0.1:9000 --rate 50k           send at a rate, and say what could not be kept
  ringest bench ndr                                find what this host can receive without loss
  ringest doctor '*:514'                           what loses datagrams on this host, what mends it
  ringest listen '*:514' --plan                    which thread on which core, how much memory

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing came in time.";

/// Takes UDP datagrams off this host with io_uring and accounts for every one of them.
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

/// What was typed. Ends the process if it cannot be, or asks for help.
pub(crate) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| args::secret::hide(error).exit())
}

/// Runs what was asked for.
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
