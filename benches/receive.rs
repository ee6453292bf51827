//! What a datagram costs to receive: the engine beside the bare loops it must not lose to.
//! `scripts/bench` runs this and prints one table from one run.
//!
//! Goals:
//! - Ratios that can be quoted. Every variant runs in every round, in an order shuffled by a printed
//!   seed; a ratio compares two trials of the same round, and the table shows its median and range.
//! - CPU *time* per datagram of the receiving thread (and of the worker), over the same window for
//!   all: see [`trial`]. On a shared machine rates move with the neighbours, CPU time much less.
//! - Honest peers: the leanest loop we could write around each call, with the engine's own socket
//!   options: see [`peers`].
//! - Conservation in every trial: sent = received + dropped by the kernel + unread, and the engine's
//!   residual is 0. A trial that does not balance ends the run as an error.
//! - One source, two sizes: without `--bench` (`cargo test --benches`) it is a smoke test of a
//!   fraction of a second.
//!
//! Non-goals:
//! - Absolute figures: they move from machine to machine, so they stand beside their peers.
//! - Pass or fail by time: a target that is not met is said, and the exit code stays 0.
//! - Networks: all is loopback, which merges nothing and loses nothing on the way.
//! - Latency of the bare loops: they do not look at payloads, and to make them would be to charge
//!   them for a handler.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]

mod peers;
mod trial;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use trial::case::Case;
use trial::host::{self, Cores};
use trial::results::Results;
use trial::sender::{self, Sender};
use trial::{Failure, Windows, measure};

const USAGE: &str = "\
usage: scripts/bench [--quick] [--rounds N] [--seed N] [--only TEXT] [--worker-core N]
                     [--senders 1|2]
  --quick          short trials, two rounds: to see that it works, not to quote
  --rounds N       how often every variant runs (default 5)
  --seed N         the order of trials within each round (default: another one each time)
  --only TEXT      only lines whose row and name contain TEXT, such as '(a)' or 'io_uring'
  --worker-core N  where the engine's worker runs (default: with the sender flat out, with the
                   receiver paced)
  --senders 2      flat out, send from the receiver's core too: it is overrun for certain";

/// What was asked for.
#[derive(Debug)]
struct Args {
    /// Only whether it works: figures of a debug build in 10 ms are worth nothing.
    smoke: bool,
    rounds: usize,
    windows: Windows,
    seed: u64,
    only: String,
    worker_core: Option<usize>,
    senders: usize,
}

impl Args {
    fn parse(words: &[String]) -> Result<Self, Failure> {
        let full = words.iter().any(|word| word == "--bench");
        let (rounds, windows) = if full { (5, Windows::FULL) } else { (1, Windows::SMOKE) };
        let (seed, only) = (host::seed(), String::new());
        let mut args =
            Self { smoke: !full, rounds, windows, seed, only, worker_core: None, senders: 1 };
        let mut quick = false;
        let mut rounds = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                // Cargo's own: `--bench` from cargo bench, `--test` as criterion understands it.
                "--bench" | "--test" => {}
                "--quick" => quick = true,
                "--rounds" => rounds = Some(value()?.parse()?),
                "--seed" => args.seed = value()?.parse()?,
                "--only" => args.only.clone_from(value()?),
                "--worker-core" => args.worker_core = Some(value()?.parse()?),
                "--senders" => args.senders = value()?.parse::<usize>()?.clamp(1, 2),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        if quick && full {
            (args.rounds, args.windows) = (2, Windows::QUICK);
        }
        args.rounds = rounds.unwrap_or(args.rounds).max(1);
        Ok(args)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some(sender::ARGUMENT) => sender::serve(&words[1..]),
        Some("--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => match Args::parse(&words) {
            Ok(args) => bench(&args),
            Err(error) => {
                eprintln!("bench: {error}\n{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<(), Failure> {
    let cases = Case::list(&args.only);
    if cases.is_empty() {
        return Err(format!("nothing is called {}", args.only).into());
    }
    let cores = Cores::choose(args.worker_core, args.senders)?;
    let mut facts = host::facts(cores, peers::open(false)?.rcvbuf_bytes());
    let mut sender = Sender::start(&[cores.sender, cores.receiver])?;
    let mut results = Results::new(&cases);
    let mut random = args.seed;
    for round in 0..args.rounds {
        for (place, case) in shuffled(cases.len(), &mut random).into_iter().enumerate() {
            let step =
                format!("round {}/{}, {}/{}", round + 1, args.rounds, place + 1, cases.len());
            progress(&format!("{step}: {}", cases[case]));
            let trial = measure(&cases[case], args.windows, cores, &mut sender)
                .map_err(|error| format!("{}: {error}", cases[case]))?;
            results.add(case, trial);
        }
    }
    progress("");
    if args.smoke {
        println!(
            "{} trials, every datagram accounted for (figures only with --bench)",
            cases.len()
        );
        return Ok(());
    }
    let Windows { warm_ms, load_ms, quiet_ms } = args.windows;
    facts.push(format!(
        "{} rounds, interleaved (seed {}); a trial is {load_ms} ms ({quiet_ms} ms for (d) and (f)) \
         after {warm_ms} ms of warm-up; median (min..max); ratios within one round",
        args.rounds, args.seed
    ));
    for fact in facts {
        println!("- {fact}");
    }
    println!("\n{}\n{}", results.table(), results.verdicts());
    Ok(())
}

/// One line on a terminal, written over; elsewhere a line each.
fn progress(text: &str) {
    let mut stderr = std::io::stderr();
    let written = match (stderr.is_terminal(), text.is_empty()) {
        (true, _) => write!(stderr, "\r\x1b[K{text}"),
        (false, false) => writeln!(stderr, "{text}"),
        (false, true) => Ok(()),
    };
    // Progress that nobody can see is no reason to stop.
    let _ = written.and_then(|()| stderr.flush());
}

/// The numbers below `count` in an order that follows from `random` (Fisher and Yates; splitmix64).
fn shuffled(count: usize, random: &mut u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*random ^ *random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let pick = (mixed ^ mixed >> 31) % (last as u64 + 1);
        order.swap(last, usize::try_from(pick).unwrap_or(last));
    }
    order
}
