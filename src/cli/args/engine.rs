//! Flags that `listen` and `echo` share, and the settings they make.

use std::time::Duration;

use clap::Args;
use ringest::{ArrivalsChoice, BackendChoice, Builder, Dispatch, Overload};
use ringest_base::host::resources::Host;
use ringest_base::text::values::{ByteSize, Coalesce, Cores, Span, Threads};
use ringest_engine::control::listen::ListenTarget;
use ringest_engine::control::settings::Settings;

use crate::cli::args::named::named;
use crate::cli::args::socket::{GroupArgs, NameArgs, SocketArgs};
use crate::cli::failure::Failure;

/// Flags of an engine.
#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    /// Where to listen: IP:PORT, [IP6]:PORT, NAME:PORT, or *:PORT for every address of this host.
    /// 0.0.0.0 receives IPv4 only, [::] receives IPv4 and IPv6
    #[arg(value_name = "ADDR", required = true)]
    addresses: Vec<ListenTarget>,
    #[command(flatten)]
    names: NameArgs,
    #[command(flatten)]
    groups: GroupArgs,

    /// Receiver threads, each with its own ring and a socket per address; auto: half of the cores
    /// [default: auto]
    #[arg(long, value_name = "N|auto", help_heading = "Threads")]
    receivers: Option<Threads>,
    /// Worker threads; 0: handle datagrams on the receivers, without a queue; auto: the other half
    /// [default: auto]
    #[arg(long, value_name = "N|auto", help_heading = "Threads")]
    workers: Option<Threads>,
    /// Cores to pin threads to, receivers first, such as 0,2-3; without it, all this process may use
    #[arg(long, value_name = "LIST", help_heading = "Threads")]
    cores: Option<Cores>,
    /// Which worker handles a datagram: flow keeps each peer's datagrams in order on one worker, spread
    /// hands out whole batches in turn [default: flow]
    #[arg(long, value_parser = named::<Dispatch>(), help_heading = "Threads")]
    dispatch: Option<Dispatch>,
    /// When workers fall behind: wait lets the socket buffer fill and the kernel drop, drop continues
    /// to receive and drops whole batches [default: wait]
    #[arg(long, value_parser = named::<Overload>(), help_heading = "Threads")]
    overload: Option<Overload>,

    /// How to receive datagrams from the sockets; auto: io_uring where it works [default: auto]
    #[arg(long, value_parser = named::<BackendChoice>(), help_heading = "Receiving")]
    backend: Option<BackendChoice>,
    /// Most latency that gathering datagrams may add under load; a single datagram never waits.
    /// auto: 1ms; 0: none [default: auto]
    #[arg(long, value_name = "auto|0|DURATION", help_heading = "Receiving")]
    coalesce: Option<Coalesce>,
    /// Receive datagrams one by one: no trains from the kernel (UDP_GRO off)
    #[arg(long, help_heading = "Receiving")]
    no_gro: bool,
    /// Count the datagrams that reach the sockets with an eBPF filter, so that drops are exact; auto:
    /// where CAP_BPF allows [default: auto]
    #[arg(long, value_parser = named::<ArrivalsChoice>(), help_heading = "Receiving")]
    arrivals: Option<ArrivalsChoice>,

    #[command(flatten)]
    sockets: SocketArgs,

    /// Provided buffers per receiver, 64 KiB each, rounded up to a power of two [default: 256]
    #[arg(long, value_name = "N", help_heading = "Memory")]
    slots: Option<usize>,
    /// Size of a batch, at least 64K; BYTES is a number with or without K, M, G or T (powers of 1024)
    /// or KB, MB, GB or TB (powers of 1000), such as 65536, 64K, 1.5G or 10MB [default: 128K]
    #[arg(long, value_name = "BYTES", help_heading = "Memory")]
    batch_bytes: Option<ByteSize>,
    /// Size of all batches together [default: 16M]
    #[arg(long, value_name = "BYTES", help_heading = "Memory")]
    pool_bytes: Option<ByteSize>,
    /// Receive buffer per socket; a warning follows if the kernel grants less [default: 4M]
    #[arg(long, value_name = "BYTES", help_heading = "Memory")]
    rcvbuf: Option<ByteSize>,

    /// Stop when no datagram came for this long, and exit with 3
    #[arg(long, value_name = "DURATION", help_heading = "Ending")]
    idle_timeout: Option<Span>,
    /// Stop after this long, such as 5s, 250ms or 1m
    #[arg(long = "for", value_name = "DURATION", help_heading = "Ending")]
    run_for: Option<Span>,
    /// Stop after this many datagrams; a train that crosses the mark is received whole
    #[arg(long, value_name = "N", help_heading = "Ending")]
    count: Option<u64>,

    /// Print the threads, their cores and the memory, and exit without opening anything
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub(crate) plan: bool,
    /// Print the summary as one JSON object on stdout at the end
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// When an engine is to stop by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopLimits {
    /// How long no datagram comes; `None`: however long.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long it runs; `None`: until a signal.
    pub(crate) run_for: Option<Duration>,
    /// How many datagrams it receives; `None`: any number.
    pub(crate) count: Option<u64>,
}

impl EngineArgs {
    /// Returns the listen addresses, as they were typed.
    pub(crate) fn addresses(&self) -> &[ListenTarget] {
        &self.addresses
    }

    /// Returns the settings that were given as flags.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings {
            listen: Some(self.addresses.clone()),
            receivers: self.receivers,
            workers: self.workers,
            cores: self.cores.clone(),
            dispatch: self.dispatch,
            overload: self.overload,
            backend: self.backend,
            coalesce: self.coalesce,
            gro: self.no_gro.then_some(false),
            arrivals: self.arrivals,
            slots: self.slots,
            batch_bytes: self.batch_bytes,
            pool_bytes: self.pool_bytes,
            rcvbuf: self.rcvbuf,
            idle_timeout: self.idle_timeout,
            run_for: self.run_for,
            count: self.count,
            ..Settings::default()
        };
        self.names.fill(&mut settings);
        self.groups.fill(&mut settings);
        self.sockets.fill(&mut settings);
        settings
    }

    /// Returns when the engine is to stop by itself.
    pub(crate) fn stop_limits(&self) -> StopLimits {
        let Settings { idle_timeout, run_for, count, .. } = self.settings();
        StopLimits {
            idle_timeout: idle_timeout.map(Duration::from),
            run_for: run_for.map(Duration::from),
            count,
        }
    }

    /// Returns the builder of the engine. Nothing is checked against the host or opened yet.
    ///
    /// # Errors
    /// A name cannot be looked up, or a setting is wrong.
    pub(crate) fn builder(&self) -> Result<Builder, Failure> {
        Ok(self.listening()?.0)
    }

    /// Returns the builder, and for each of its listen addresses the index of the argument it came from.
    ///
    /// # Errors
    /// A name cannot be looked up, or a setting is wrong.
    pub(crate) fn listening(&self) -> Result<(Builder, Vec<usize>), Failure> {
        listening(&self.settings())
    }
}

/// Returns the builder of an engine with these settings, and for each of its listen addresses the index of its
/// entry in `listen`.
///
/// # Errors
/// A name cannot be looked up, or a setting is wrong.
pub(crate) fn listening(settings: &Settings) -> Result<(Builder, Vec<usize>), Failure> {
    let addresses = settings
        .addresses(Host::read().ipv6)
        .map_err(|error| Failure::Failed(format!("cannot listen: {error}")))?;
    let (places, addresses): (Vec<_>, Vec<_>) = addresses.into_iter().unzip();
    Ok((Builder::from(settings.config(addresses)?), places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::Parser;
    use ringest::{Engine, ListenAddr};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        engine: EngineArgs,
    }

    fn plan(args: &str) -> ringest::Result<ringest::Plan> {
        let words = ["x"].into_iter().chain(args.split_whitespace());
        Line::try_parse_from(words).unwrap().engine.builder().unwrap().plan()
    }

    #[test]
    fn flags_reach_the_plan() {
        let plan = plan(
            "127.0.0.1:9000 [::1]:9001 --receivers 1 --workers 0 --slots 100 --batch-bytes 64K \
             --pool-bytes 1M",
        )
        .unwrap();
        assert_eq!((plan.receiver_cores.len(), plan.worker_cores.len()), (1, 0));
        assert_eq!((plan.slots, plan.batches, plan.listen.len()), (128, 16, 2));
    }

    #[test]
    fn names_and_groups_are_looked_up_and_assigned() {
        let by_name = plan("localhost:9000 --resolve v4").unwrap();
        assert_eq!(by_name.listen[0].address, "127.0.0.1:9000".parse().unwrap());
        let joined = plan("0.0.0.0:9000 --join 239.1.1.1 --join 232.1.1.1@127.0.0.1%lo").unwrap();
        assert_eq!(joined.listen[0].groups.len(), 2);
        assert!(plan("127.0.0.1:9000 --join 239.1.1.1").unwrap_err().is_usage());
        assert!(plan("[::]:9000 --v6only").unwrap().listen[0].only_v6);
    }

    #[test]
    fn the_defaults_typed_are_the_defaults_of_the_library() {
        let library = Engine::builder().listen("127.0.0.1:9000".parse::<ListenAddr>().unwrap());
        assert_eq!(plan("127.0.0.1:9000").unwrap(), library.plan().unwrap());
    }

    /// Flags are optional, because a settings file may be between them and the defaults. Help names the defaults.
    #[test]
    fn defaults_in_the_help_are_the_defaults() {
        let unset = plan("127.0.0.1:9000").unwrap();
        let mut told = 0;
        for arg in Line::command().get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let default = help.rsplit_once("[default: ").and_then(|(_, end)| end.strip_suffix(']'));
            let (Some(default), Some(flag)) = (default, arg.get_long()) else { continue };
            let set = plan(&format!("127.0.0.1:9000 --{flag} {default}")).unwrap();
            assert_eq!(set, unset, "--{flag} {default}");
            told += 1;
        }
        assert_eq!(told, 13);
    }

    #[test]
    fn absurd_sizes_are_wrong_usage() {
        for args in ["--slots 0", "--batch-bytes 1", "--pool-bytes 0", "--rcvbuf 0", "--count 0"] {
            assert!(plan(&format!("127.0.0.1:9000 {args}")).unwrap_err().is_usage(), "{args}");
        }
    }
}
