//! Flags that all modes of `bench` share: what is sent, how it is received, for how long.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringest::{BackendChoice, Overload};
use ringest_base::text::values::{Coalesce, Cores, Rate};
use ringest_bench::modes::campaign::Base;
use ringest_bench::wire::message::{EngineSpec, Kind, ReceiverSpec};
use ringest_load::spec::{Gso, LoadSpec, Pattern, Sizes, run_id};

use crate::cli::args::named::named;
use crate::cli::args::values;
use crate::cli::failure::Failure;

/// The default port of a bench server.
pub(crate) const PORT: u16 = 9009;

/// Flags that all modes share.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Where `ringest bench server` runs, HOST or HOST:PORT [default: a child process on loopback]
    #[arg(value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The word that the server was started with
    #[arg(long, value_name = "WORD", requires = "host")]
    pub(crate) token: Option<String>,

    /// Payload bytes: N, A-B or imix
    #[arg(long, value_name = "N|A-B|imix", default_value = "64", value_parser = values::sizes,
        help_heading = "Sending")]
    size: Sizes,
    /// Datagrams per send (UDP_SEGMENT); auto: 32 on loopback, so that one core can send more than a
    /// receiver takes, and 1 elsewhere; `latency` always sends 1
    #[arg(long, value_name = "auto|off|N", default_value = "auto", value_parser = values::gso,
        help_heading = "Sending")]
    gso: Gso,
    /// Source ports; a list for `curve` [default: 1; for curve 1,16,1024]
    #[arg(long, value_name = "N", value_delimiter = ',', help_heading = "Sending")]
    flows: Vec<usize>,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sending")]
    threads: usize,
    /// Cores to send from [default: the last ones]
    #[arg(long, value_name = "LIST", help_heading = "Sending")]
    cores: Option<Cores>,
    /// Gaps between datagrams
    #[arg(long, value_parser = named::<Pattern>(), default_value = "constant", help_heading = "Sending")]
    pattern: Pattern,
    /// Address to send from
    #[arg(long, value_name = "ADDR", help_heading = "Sending")]
    bind: Option<IpAddr>,

    /// How the receiver takes datagrams from its sockets
    #[arg(long, value_parser = named::<BackendChoice>(), default_value = "auto", help_heading = "Receiving")]
    backend: BackendChoice,
    /// Receive trains whole (UDP_GRO) [default: off; for compare both]
    #[arg(long, value_parser = named::<GroChoice>(), help_heading = "Receiving")]
    gro: Option<GroChoice>,
    /// Receiver threads
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Receiving")]
    receivers: usize,
    /// Worker threads; 0: handle datagrams on the receivers [default: 1 if there is a core for it, else 0]
    #[arg(long, value_name = "N", help_heading = "Receiving")]
    workers: Option<usize>,
    /// Cores to receive on, receivers first [default: all but the senders']
    #[arg(long, value_name = "LIST", help_heading = "Receiving")]
    server_cores: Option<Cores>,
    /// Receive buffer per socket, such as 65536, 64K, 1.5G (powers of 1024) or 10MB (powers of 1000)
    #[arg(long, value_name = "BYTES", default_value = "4M", value_parser = values::size,
        help_heading = "Receiving")]
    rcvbuf: usize,
    /// Provided buffers per receiver
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Receiving")]
    slots: usize,
    /// Most latency that gathering datagrams may add; auto: 1ms; 0: none
    #[arg(
        long,
        value_name = "auto|0|DURATION",
        default_value = "auto",
        help_heading = "Receiving"
    )]
    coalesce: Coalesce,
    /// When workers fall behind: wait lets the kernel drop, drop drops whole batches
    #[arg(long, value_parser = named::<Overload>(), default_value = "wait", help_heading = "Receiving")]
    overload: Overload,
    /// Block every handler until the trial is over
    #[arg(long, hide = true)]
    stall: bool,

    /// Length of a trial
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::duration,
        help_heading = "Trials")]
    duration: Duration,
    /// How long to send before a trial counts; 0: not at all
    #[arg(long, value_name = "0|DURATION", default_value = "100ms", value_parser = values::pause,
        help_heading = "Trials")]
    warm_up: Duration,
    /// Seed of the order of trials [default: another one each time]
    #[arg(long, value_name = "N", help_heading = "Trials")]
    seed: Option<u64>,
    /// Take seconds instead of minutes: to see that it works, not to quote results
    #[arg(long, help_heading = "Trials")]
    pub(crate) smoke: bool,

    /// Write all results as JSON, every trial included; - for stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Write the results as a web page in one file
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,
    /// Print no progress and no table
    #[arg(long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Whether trains are received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroChoice {
    On,
    Off,
    /// Once with, once without.
    Both,
}

ringest_base::names!(GroChoice {
    "on" => On;
    "off" => Off;
    "both" => Both
});

/// The lengths of a smoke run.
const SMOKE_TRIAL: Duration = Duration::from_millis(100);
const SMOKE_WARM_UP: Duration = Duration::from_millis(20);

impl CommonArgs {
    /// Returns the length of a full trial.
    pub(crate) fn trial(&self) -> Duration {
        if self.smoke { SMOKE_TRIAL } else { self.duration }
    }

    /// Returns the settings that all trials start from. `server_cores` are the cores of the receiving host.
    pub(crate) fn base(&self, loopback: bool, server_cores: &[usize]) -> Result<Base, Failure> {
        if self.gro == Some(GroChoice::Both) {
            return Err(Failure::Usage(
                "--gro both is for compare; here it is on or off".to_owned(),
            ));
        }
        let [flows] = self.flows_or(&[1])[..] else {
            return Err(Failure::Usage(
                "--flows takes one number here; curve takes a list".to_owned(),
            ));
        };
        let (load, senders) = self.load(loopback, flows)?;
        Ok(Base {
            load,
            receiver: self.receiver(loopback, server_cores, &senders),
            trial: self.trial(),
            warm: if self.smoke { SMOKE_WARM_UP } else { self.warm_up },
            seed: self.seed.unwrap_or_else(|| run_id().into()),
        })
    }

    /// Returns the load, and the cores to send from.
    fn load(&self, loopback: bool, flows: usize) -> Result<(LoadSpec, Vec<usize>), Failure> {
        let ours = ringest_bench::document::facts::HostFacts::read().cores;
        let senders = match &self.cores {
            Some(Cores(cores)) => {
                if let Some(core) = cores.iter().find(|core| !ours.contains(core)) {
                    return Err(Failure::Usage(format!(
                        "--cores {core}: this process may use these cores: {ours:?}"
                    )));
                }
                cores.clone()
            }
            None => {
                let skip = ours.len().saturating_sub(self.threads.max(1));
                ours[skip..].to_vec()
            }
        };
        let gso = match (self.gso, self.size) {
            (Gso::Auto, Sizes::Fixed(1..)) if loopback => Gso::Trains(32),
            (Gso::Auto, _) => Gso::Off,
            (gso, _) => gso,
        };
        // Nothing is sent there: each trial fills in the address of its receiver.
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut load = LoadSpec {
            bind: self.bind,
            sizes: self.size,
            gso,
            pattern: self.pattern,
            flows,
            threads: self.threads,
            cores: senders.clone(),
            ..LoadSpec::new(nowhere)
        };
        if let (Gso::Auto, Gso::Trains(_)) = (self.gso, gso) {
            // As many datagrams as fit into one send.
            load.gso = Gso::Auto;
            load.gso = if load.train() > 1 { Gso::Trains(load.train()) } else { Gso::Off };
        }
        load.check()?;
        Ok((load, senders))
    }

    fn receiver(&self, loopback: bool, server_cores: &[usize], senders: &[usize]) -> ReceiverSpec {
        let free: Vec<usize> = match &self.server_cores {
            Some(Cores(cores)) => cores.clone(),
            None if loopback => {
                server_cores.iter().copied().filter(|core| !senders.contains(core)).collect()
            }
            None => server_cores.to_vec(),
        };
        let free = if free.is_empty() { server_cores.to_vec() } else { free };
        let workers = self.workers.unwrap_or_else(|| usize::from(free.len() > self.receivers));
        ReceiverSpec {
            kind: Kind::Engine(EngineSpec {
                backend: self.backend.name().to_owned(),
                receivers: self.receivers,
                workers,
                slots: self.slots,
                coalesce_us: self
                    .coalesce
                    .0
                    .map(|bound| u64::try_from(bound.as_micros()).unwrap_or(u64::MAX)),
                overload: self.overload.name().to_owned(),
                arrivals: true,
                stalled: self.stall,
            }),
            gro: self.gro == Some(GroChoice::On),
            rcvbuf_bytes: self.rcvbuf,
            cores: free,
            run: 0,
            flows: 1,
            size_max: 0,
            tracks: true,
            stages: false,
            echoes: false,
            sender_boot_id: String::new(),
        }
    }

    /// Returns the choice of `--gro` for `compare`, whose default is both.
    pub(crate) fn gro_choice(&self) -> GroChoice {
        self.gro.unwrap_or(GroChoice::Both)
    }

    /// Returns the flags without `--gro`, for `compare`, where each variant sets it.
    pub(crate) fn without_gro(&self) -> Self {
        Self { gro: None, ..self.clone() }
    }

    fn flows_or(&self, default: &[usize]) -> Vec<usize> {
        if self.flows.is_empty() { default.to_vec() } else { self.flows.clone() }
    }

    /// Returns the numbers of flows of a curve.
    pub(crate) fn curve_flows(&self) -> Vec<usize> {
        self.flows_or(&[1, 16, 1024])
    }

    /// Returns the flags with the largest number of flows only: a curve sets the number for each point.
    pub(crate) fn with_one_flow(&self) -> Self {
        let most = self.curve_flows().into_iter().max().unwrap_or(1);
        Self { flows: vec![most], ..self.clone() }
    }

    /// Returns a rate in datagrams a second, at the sizes of `--size`; `None` if there is none.
    pub(crate) fn pps(&self, rate: Option<Rate>) -> Result<Option<f64>, Failure> {
        let Some(rate) = rate else { return Ok(None) };
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let load = LoadSpec { rate, sizes: self.size, ..LoadSpec::new(nowhere) };
        load.check()?;
        match load.rate_pps() {
            Some(pps) => Ok(Some(pps)),
            None => Err(Failure::Usage(
                "the rate must be a number here; leave the flag out for the highest rate"
                    .to_owned(),
            )),
        }
    }
}
