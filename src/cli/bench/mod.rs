//! `ringest bench`: trials between two processes or two hosts.

/// `ringest bench diff`.
pub(crate) mod diff;
/// The results of a bench as tables on a terminal.
pub(crate) mod table;

use clap::{Args, Subcommand};
use ringest_base::text::values::Rate;
use ringest_bench::document::report::Mode;
use ringest_bench::modes::campaign::Campaign;
use ringest_bench::modes::compare::CompareSpec;
use ringest_bench::modes::latency::LatencySpec;
use ringest_bench::modes::ndr::NdrSpec;
use ringest_bench::modes::{burst, compare, curve, latency, ndr};
use ringest_bench::search::{Goal, Search, SearchSpec};

/// The sending side: runs trials and writes the results.
mod client;
/// Flags that all modes share.
mod options;
/// `ringest bench server`.
mod server;
/// `ringest bench show`.
mod show;
/// The receivers that `bench compare` compares.
mod variants;

use crate::cli::args::values;
use crate::cli::bench::diff::DiffArgs;
use crate::cli::bench::options::CommonArgs;
use crate::cli::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  ringest bench ndr                                   this host, over loopback, in a few minutes
  ringest bench ndr --smoke                           the same in seconds: to see that it works
  ringest bench compare --gro off --json now.json     each receive API, one datagram at a time
  ringest bench diff before.json now.json             what changed beyond noise
  ringest bench server 0.0.0.0:9009 --token WORD      on the host under test …
  ringest bench ndr HOST --token WORD --report r.html … and on the host that sends

A trial accounts for every datagram from the schedule to the handler. If the counts do not balance, the \
trial is void, and the report says so. Without HOST the receiver is a child process on this host's \
loopback: fast to try, but the sender's core then does the network stack's work for both sides, and no \
network interface is measured.";

/// Measure what a host can receive, and where it loses the first datagram
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    mode: ModeArgs,
}

#[derive(Debug, Subcommand)]
enum ModeArgs {
    Server(server::ServerArgs),
    Ndr(NdrArgs),
    Compare(CompareArgs),
    Burst(BurstArgs),
    Latency(LatencyArgs),
    Curve(CurveArgs),
    Show(show::ShowArgs),
    Diff(DiffArgs),
}

/// Find the no-drop rate and the partial-drop rate (0.5 %) by MLRsearch
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench ndr --size 64 --report ndr.html
  ringest bench ndr HOST --token WORD --size imix --json ndr.json

Unsent datagrams count as lost. At the found rate more than half of 21 seconds of trials (--sum) lose \
nothing (or up to 0.5 %), and the lower and upper bounds are within 0.5 % of each other (--width).")]
struct NdrArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Args, Clone, Debug)]
struct SearchArgs {
    /// The lowest rate to try: datagrams a second (50000, 50k, 1M), or payload bits a second (100Mbps)
    #[arg(long, value_name = "RATE", default_value = "1k", help_heading = "Search")]
    min_rate: Rate,
    /// The highest rate to try [default: as fast as the sender can]
    #[arg(long, value_name = "RATE", help_heading = "Search")]
    max_rate: Option<Rate>,
    /// Stop when the bounds are this close, as a part of the rate
    #[arg(long, value_name = "PART", default_value_t = 0.005, help_heading = "Search")]
    width: f64,
    /// Total length of the trials that decide on a rate
    #[arg(long, value_name = "DURATION", default_value = "21s", value_parser = values::duration,
        help_heading = "Search")]
    sum: std::time::Duration,
}

/// Compare receive APIs doing the same work, in shuffled rounds
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench compare --gro off                 one by one, as fast as possible
  ringest bench compare --gro on --gso 32         in trains of 32
  ringest bench compare --fixed 50k --gro off     at a rate that all of them can receive

A ratio compares two trials of one round. The table shows the median over the rounds with its bootstrap \
95 % interval. With fewer than 6 rounds no difference can be shown.")]
struct CompareArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Send at this rate [default: as fast as the sender can]
    #[arg(long, value_name = "RATE", help_heading = "Comparison")]
    fixed: Option<Rate>,
    /// How many trials each variant gets
    #[arg(long, value_name = "N", default_value_t = 7, help_heading = "Comparison")]
    rounds: usize,
    /// Only variants whose name contains one of these words
    #[arg(long, value_name = "WORDS", value_delimiter = ',', help_heading = "Comparison")]
    only: Vec<String>,
}

/// Find the longest burst that is received without loss (RFC 9004)
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench burst                      how many datagrams the default buffer holds
  ringest bench burst --rcvbuf 212992      how many the kernel's own default holds")]
struct BurstArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How many times to search for the longest burst
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Search")]
    repetitions: usize,
    /// The longest burst to try, in datagrams
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Search",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    longest: u64,
}

/// Measure how long a datagram takes, by stage, at shares of the no-drop rate
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench latency --report latency.html
  ringest bench latency HOST --token WORD --ndr 400k --loads 10,50,90,99

One-way times need a clock that both sides share. Between two hosts only round trips and the stages \
within the receiving host are measured.")]
struct LatencyArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// The no-drop rate, if it is known [default: search for it first]
    #[arg(long, value_name = "RATE", help_heading = "Search")]
    ndr: Option<Rate>,
    /// Shares of the no-drop rate to measure at, per cent
    #[arg(
        long,
        value_name = "LIST",
        default_value = "10,50,90",
        value_delimiter = ',',
        help_heading = "Search"
    )]
    loads: Vec<f64>,
}

/// Measure loss against rate, for one, some and many flows
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench curve --report curve.html
  ringest bench curve --flows 1,16,1024 --max-rate 1M --points 12")]
struct CurveArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How many rates to try, evenly spaced up to the highest
    #[arg(long, value_name = "N", default_value_t = 12, help_heading = "Curve",
        value_parser = clap::value_parser!(u64).range(2..=1000))]
    points: u64,
    /// The highest rate [default: as fast as the sender can]
    #[arg(long, value_name = "RATE", help_heading = "Curve")]
    max_rate: Option<Rate>,
    /// Trials at each rate
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Curve")]
    rounds: usize,
}

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    match &args.mode {
        ModeArgs::Server(args) => server::run(args),
        ModeArgs::Ndr(args) => {
            let search = args.search.spec(&args.common)?;
            client::run(Mode::Ndr, &args.common, |campaign| ndr::run(campaign, &search))
        }
        ModeArgs::Compare(args) => run_compare(args),
        ModeArgs::Burst(args) => {
            let smoke = args.common.smoke;
            let spec = burst::BurstSpec {
                repetitions: if smoke { 1 } else { at_least_one("repetitions", args.repetitions)? },
                max: if smoke { args.longest.min(20_000) } else { args.longest },
            };
            client::run(Mode::Burst, &args.common, |campaign| burst::run(campaign, spec))
        }
        ModeArgs::Latency(args) => run_latency(args),
        ModeArgs::Curve(args) => {
            let smoke = args.common.smoke;
            let spec = curve::CurveSpec {
                flows: args.common.curve_flows(),
                points: usize::try_from(if smoke { 3 } else { args.points }).unwrap_or(12),
                max_pps: args.common.pps(args.max_rate)?,
                rounds: if smoke { 1 } else { at_least_one("rounds", args.rounds)? },
            };
            client::run(Mode::Curve, &args.common, |campaign| curve::run(campaign, &spec))
        }
        ModeArgs::Show(args) => show::run(args),
        ModeArgs::Diff(args) => diff::run(args),
    }
}

fn run_compare(args: &CompareArgs) -> Result<(), Failure> {
    let fixed_pps = args.common.pps(args.fixed)?;
    let rounds = if args.common.smoke { 1 } else { at_least_one("rounds", args.rounds)? };
    let gro = args.common.gro_choice();
    client::run(Mode::Compare, &args.common.without_gro(), |campaign: &mut Campaign<'_>| {
        let variants = variants::list(&campaign.base, gro, fixed_pps.is_some(), &args.only)?;
        compare::run(campaign, &CompareSpec { variants, rounds, fixed_pps })
    })
}

fn run_latency(args: &LatencyArgs) -> Result<(), Failure> {
    if let Some(odd) =
        args.loads.iter().find(|load| !(0.0..=200.0).contains(*load) || **load == 0.0)
    {
        return Err(Failure::Usage(format!(
            "--loads {odd}: shares are from above 0 to 200 per cent"
        )));
    }
    let mut search = args.search.spec(&args.common)?;
    // Only the rate without loss is needed, and 5 % is close enough for taking shares of it.
    search.goals.truncate(1);
    let mut spec = LatencySpec {
        loads: args.loads.iter().map(|percent| percent / 100.0).collect(),
        ndr_pps: args.common.pps(args.ndr)?,
        search,
    };
    for (_, goal) in &mut spec.search.goals {
        goal.relative_width = goal.relative_width.max(0.05);
    }
    client::run(Mode::Latency, &args.common, |campaign| latency::run(campaign, &spec))
}

fn at_least_one(name: &str, number: usize) -> Result<usize, Failure> {
    if number == 0 {
        return Err(Failure::Usage(format!("--{name} 0: there is nothing to do; give at least 1")));
    }
    Ok(number)
}

impl SearchArgs {
    fn spec(&self, common: &CommonArgs) -> Result<NdrSpec, Failure> {
        let shape = |goal: Goal| {
            if common.smoke {
                let ms = std::time::Duration::from_millis;
                return Goal {
                    relative_width: 0.1,
                    initial_trial: ms(50),
                    final_trial: ms(100),
                    duration_sum: ms(300),
                    preceding_targets: 1,
                    ..goal
                };
            }
            let trial = common.trial().min(self.sum);
            Goal {
                relative_width: self.width,
                initial_trial: trial,
                final_trial: trial,
                duration_sum: self.sum,
                preceding_targets: u8::from(trial < self.sum) * 2,
                ..goal
            }
        };
        let spec = NdrSpec {
            goals: vec![
                ("ndr".to_owned(), shape(Goal::ndr())),
                ("pdr".to_owned(), shape(Goal::pdr())),
            ],
            min_pps: common.pps(Some(self.min_rate))?.unwrap_or(1000.0),
            max_pps: common.pps(self.max_rate)?,
        };
        // Refuses a search that makes no sense before minutes of trials.
        let goals = spec.goals.iter().map(|(_, goal)| goal.clone()).collect();
        let max_pps = spec.max_pps.unwrap_or(spec.min_pps * 2.0);
        let search = SearchSpec { goals, ..SearchSpec::ndr_and_pdr(spec.min_pps, max_pps) };
        Search::new(search).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(spec)
    }
}
