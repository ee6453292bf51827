//! The flags `listen` and `echo` share, and the engine they ask for.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringest::{ArrivalsChoice, BackendChoice, Builder, Dispatch, Engine, Overload};

use crate::cli::args::socket::{GroupArgs, NameArgs, SocketArgs};
use crate::cli::args::values;
use crate::cli::args::values::{Coalesce, Cores, ListenArg, Threads};
use crate::cli::failure::Failure;

/// What the engine is asked for.
#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    /// Where to listen: IP:PORT, [IP6]:PORT, NAME:PORT, or *:PORT for every address of this host.
    /// 0.0.0.0 is IPv4 only, [::] takes both
    #[arg(value_name = "ADDR", required = true, value_parser = values::listen_arg)]
    addresses: Vec<ListenArg>,
    #[command(flatten)]
    names: NameArgs,
    #[command(flatten)]
    groups: GroupArgs,

    /// Receiver threads, each with its own ring and a socket per address; auto: half of the cores
    #[arg(
        long, value_name = "N|auto", default_value = "auto", value_parser = values::threads,
        help_heading = "Threads"
    )]
    receivers: Threads,
    /// Worker threads; 0: handle on the receivers, without a queue; auto: the other half
    #[arg(
        long, value_name = "N|auto", default_value = "auto", value_parser = values::threads,
        help_heading = "Threads"
    )]
    workers: Threads,
    /// Cores to pin threads to, receivers first, such as 0,2-3; default: all this process may use
    #[arg(long, value_name = "LIST", value_parser = values::cores, help_heading = "Threads")]
    cores: Option<Cores>,
    /// Which worker handles a datagram: flow keeps each peer's in order on one worker, spread hands
    /// out whole batches in turn
    #[arg(long, value_enum, default_value = "flow", help_heading = "Threads")]
    dispatch: DispatchArg,
    /// When workers fall behind: wait lets the socket buffer fill and the kernel drop, drop goes on
    /// receiving and drops whole batches
    #[arg(long, value_enum, default_value = "wait", help_heading = "Threads")]
    overload: OverloadArg,

    /// How to take datagrams from the sockets; auto: io_uring where it works
    #[arg(long, value_enum, default_value = "auto", help_heading = "Receiving")]
    backend: BackendArg,
    /// Most latency that gathering datagrams may add under load; a lone datagram never waits.
    /// auto: 1ms; 0: none
    #[arg(
        long, value_name = "auto|0|DURATION", default_value = "auto",
        value_parser = values::coalesce, help_heading = "Receiving"
    )]
    coalesce: Coalesce,
    /// Take datagrams one by one: no trains from the kernel (UDP_GRO off)
    #[arg(long, help_heading = "Receiving")]
    no_gro: bool,
    /// Count what reaches the sockets with an eBPF filter, so that drops are exact; auto: where
    /// CAP_BPF allows
    #[arg(long, value_enum, default_value = "auto", help_heading = "Receiving")]
    arrivals: ArrivalsArg,

    #[command(flatten)]
    sockets: SocketArgs,

    /// Provided buffers per receiver, 64 KiB each, rounded up to a power of two
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Memory")]
    slots: usize,
    /// Size of a batch, at least 64K
    #[arg(
        long, value_name = "BYTES", default_value = "128K", value_parser = values::size,
        help_heading = "Memory"
    )]
    batch_bytes: usize,
    /// Size of all batches together
    #[arg(
        long, value_name = "BYTES", default_value = "16M", value_parser = values::size,
        help_heading = "Memory"
    )]
    pool_bytes: usize,
    /// Receive buffer per socket; the kernel may grant less, which is said
    #[arg(
        long, value_name = "BYTES", default_value = "4M", value_parser = values::size,
        help_heading = "Memory"
    )]
    rcvbuf: usize,

    /// Stop when nothing came for this long, and exit with 3
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Ending")]
    pub(crate) idle_timeout: Option<Duration>,
    /// Stop after this long, such as 5s, 250ms or 1m
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration,
        help_heading = "Ending")]
    pub(crate) run_for: Option<Duration>,
    /// Stop after this many datagrams; a train that crosses the mark is taken whole
    #[arg(long, value_name = "N", help_heading = "Ending")]
    pub(crate) count: Option<u64>,

    /// Print which thread goes on which core and the memory it takes, and open nothing
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub(crate) plan: bool,
    /// Print the summary as one JSON object on stdout at the end
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DispatchArg {
    Flow,
    Spread,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverloadArg {
    Wait,
    Drop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendArg {
    Auto,
    #[value(name = "io_uring")]
    IoUring,
    Recvmmsg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalsArg {
    Auto,
    Bpf,
    Off,
}

impl EngineArgs {
    /// Where to listen, as it was typed.
    pub(crate) fn addresses(&self) -> &[ListenArg] {
        &self.addresses
    }

    /// The engine asked for; nothing is checked or opened yet.
    ///
    /// # Errors
    /// A name could not be looked up.
    pub(crate) fn builder(&self) -> Result<Builder, Failure> {
        Ok(self.listening()?.0)
    }

    /// The same, and for each listen address the place of what it was typed as.
    ///
    /// # Errors
    /// A name could not be looked up.
    pub(crate) fn listening(&self) -> Result<(Builder, Vec<usize>), Failure> {
        let (places, addresses): (Vec<_>, Vec<_>) =
            self.names.addresses(&self.addresses)?.into_iter().unzip();
        let mut builder = Engine::builder()
            .slots(self.slots)
            .batch_bytes(self.batch_bytes)
            .pool_bytes(self.pool_bytes)
            .rcvbuf_bytes(self.rcvbuf)
            .gro(!self.no_gro)
            .dispatch(match self.dispatch {
                DispatchArg::Flow => Dispatch::Flow,
                DispatchArg::Spread => Dispatch::Spread,
            })
            .overload(match self.overload {
                OverloadArg::Wait => Overload::Wait,
                OverloadArg::Drop => Overload::Drop,
            })
            .backend(match self.backend {
                BackendArg::Auto => BackendChoice::Auto,
                BackendArg::IoUring => BackendChoice::IoUring,
                BackendArg::Recvmmsg => BackendChoice::Recvmmsg,
            })
            .arrivals(match self.arrivals {
                ArrivalsArg::Auto => ArrivalsChoice::Auto,
                ArrivalsArg::Bpf => ArrivalsChoice::Bpf,
                ArrivalsArg::Off => ArrivalsChoice::Off,
            });
        builder = addresses.into_iter().fold(builder, Builder::listen);
        builder = self.sockets.apply(self.groups.apply(self.names.apply(builder)));
        if let Threads(Some(receivers)) = self.receivers {
            builder = builder.receivers(receivers);
        }
        if let Threads(Some(workers)) = self.workers {
            builder = builder.workers(workers);
        }
        if let Some(Cores(cores)) = &self.cores {
            builder = builder.cores(cores.clone());
        }
        if let Coalesce(Some(bound)) = self.coalesce {
            builder = builder.coalesce(bound);
        }
        if let Some(count) = self.count {
            builder = builder.limit(count);
        }
        Ok((builder, places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ringest::ListenAddr;

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

    #[test]
    fn absurd_sizes_are_wrong_usage() {
        for args in ["--slots 0", "--batch-bytes 1", "--pool-bytes 0", "--rcvbuf 0", "--count 0"] {
            assert!(plan(&format!("127.0.0.1:9000 {args}")).unwrap_err().is_usage(), "{args}");
        }
    }
}
