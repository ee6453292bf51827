//! The builder: collects an engine's settings, checks them, and starts the engine.

use std::time::Duration;

use crate::backend::kind::BackendKind;
use crate::control::assembly::Assembly;
use crate::control::config::{ArrivalsChoice, BackendChoice, Config, ListenAddr};
use crate::control::engine::Engine;
use crate::control::plan::{Plan, plan};
use crate::control::sockets::open_sockets;
use crate::count::summary::RunFacts;
use crate::error::{Error, Result};
use crate::receive::dispatch::{Dispatch, Overload};
use crate::socket::multicast::Group;
use crate::socket::options::SocketOptions;
use crate::socket::steer::Steer;
use crate::work::handler::Handler;
use ringest_base::host::resources::Host;
use ringest_base::sys::threads::run_on_own_thread;

/// Collects settings; [`start`](Self::start) makes the engine. Every setting has a default but
/// [`listen`](Self::listen).
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Config,
}

impl From<Config> for Builder {
    fn from(config: Config) -> Self {
        Self { config }
    }
}

impl Engine {
    /// Returns a builder with every setting at its default.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// A setter that only stores its argument.
macro_rules! setters {
    ($($(#[$meta:meta])* $name:ident: $type:ty => $field:ident $(as $wrap:path)?;)*) => {
        $($(#[$meta])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$field = setters!(@value $name $($wrap)?);
            self
        })*
    };
    (@value $value:ident) => { $value };
    (@value $value:ident $wrap:path) => { $wrap($value) };
}

impl Builder {
    /// Adds an address to listen on. With port 0 the kernel chooses one; [`Engine::addresses`] returns it.
    #[must_use]
    pub fn listen(mut self, address: impl Into<ListenAddr>) -> Self {
        self.config.listen.push(address.into());
        self
    }

    /// Adds a multicast group to join, on every listen address that can take it: those of its family
    /// that are a wildcard or the group itself.
    #[must_use]
    pub fn join(mut self, group: Group) -> Self {
        self.config.groups.push(group);
        self
    }

    setters! {
        /// Take IPv6 alone on `[::]`. Default: IPv4 too, its peers shown as IPv4.
        only_v6: bool => only_v6;
        /// Which receiver's socket gets a datagram. Default: the kernel's hash of its addresses.
        steer: Steer => steer;
        /// Further options of every socket. Default: none.
        socket_options: SocketOptions => socket;
        /// Receiver threads, each with one socket per address. Default: half of the cores.
        receivers: usize => receivers as Some;
        /// Worker threads; 0 runs handlers on the receivers, without a queue. Default: the other
        /// half of the cores.
        workers: usize => workers as Some;
        /// Cores to pin threads to, receivers first. Default: those this process may use.
        cores: Vec<usize> => cores as Some;
        /// How datagrams are taken from the sockets. Default: io_uring where it works.
        backend: BackendChoice => backend;
        /// Which worker gets a datagram. Default: always the same for one peer.
        dispatch: Dispatch => dispatch;
        /// Policy when workers fall behind. Default: wait, and let the kernel drop.
        overload: Overload => overload;
        /// Provided buffers per receiver, rounded up to a power of two. Default: 256.
        slots: usize => slots;
        /// Bytes of a batch, at least 65536. Default: 131072.
        batch_bytes: usize => batch_bytes;
        /// Bytes of all batches. Default: 16 MiB.
        pool_bytes: usize => pool_bytes;
        /// Batches a worker's queue holds. Default: 32.
        queue_batches: usize => queue_batches;
        /// Bytes for replies on their way out; 0: handlers do not reply. Default: 4 MiB.
        reply_bytes: usize => reply_bytes;
        /// Receive buffer per socket, as SO_RCVBUF counts. Default: 4 MiB.
        rcvbuf_bytes: usize => rcvbuf_bytes;
        /// The most latency that gathering datagrams may add under load; zero: none. Default: 1 ms.
        coalesce: Duration => coalesce;
        /// Whether the kernel may hand over trains (UDP_GRO). Default: yes.
        gro: bool => gro;
        /// Whether the kernel's receive time comes with each datagram. Default: no; it costs the
        /// kernel a clock read and the slots 32 bytes a datagram.
        timestamps: bool => timestamps;
        /// Whether [`Datagram::destination`](crate::batch::arena::Datagram::destination),
        /// [`hop_limit`](crate::batch::arena::Datagram::hop_limit) and
        /// [`traffic_class`](crate::batch::arena::Datagram::traffic_class) are known. Default: no; it costs the slots
        /// 136 bytes a datagram. Always with
        /// [`SocketOptions::transparent`](crate::socket::options::SocketOptions).
        ip_headers: bool => ip_headers;
        /// Whether arrivals are counted by a socket filter. Default: where CAP_BPF allows.
        arrivals: ArrivalsChoice => arrivals;
        /// Stop by itself after this many datagrams; a train that crosses the mark is taken whole.
        limit: u64 => limit as Some;
        /// How long a worker is without a datagram before its handler's
        /// [`on_idle`](crate::work::handler::Handler::on_idle) is called, and between calls. Default: never.
        idle_tick: Duration => idle_tick as Some;
        /// How long a reply may wait for room in the send buffer. Default: 1 s.
        send_timeout: Duration => send_timeout;
        /// How long a stop may spend handing over what the sockets hold. Default: 5 s.
        drain: Duration => drain;
        /// Completion queue entries; 0: enough that it cannot overflow (the default). For tests.
        cq_entries: u32 => cq_entries;
    }

    /// The same settings for other addresses.
    pub fn without_addresses(mut self) -> Self {
        self.config.listen.clear();
        self
    }

    /// Returns the settings made so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns what [`start`](Self::start) would set up on this host.
    ///
    /// # Errors
    /// [`Error::Setting`] if the settings cannot be.
    pub fn plan(&self) -> Result<Plan> {
        plan(&self.config, &Host::read())
    }

    /// Starts the engine. `make_handler` is called once per worker, with its index (once per
    /// receiver if there are no workers).
    ///
    /// # Errors
    /// Any [`Error`] but those of a stop. No thread or socket is left behind.
    pub fn start<H: Handler + 'static>(
        self,
        make_handler: impl FnMut(usize) -> H,
    ) -> Result<Engine> {
        let config = self.config;
        let host = Host::read();
        let plan = plan(&config, &host)?;
        let Chosen { kind, reason: backend_reason, gathers } = choose_backend(config.backend)?;
        let (sockets, arrivals_reason) = open_sockets(&config, &plan)?;
        let rcvbuf = sockets.rcvbuf_bytes();
        let mut warnings = plan.warnings.clone();
        warnings.extend(sockets.warnings());
        warnings.extend(rcvbuf_warning(config.rcvbuf_bytes, rcvbuf, &host));
        let facts = RunFacts {
            backend: kind,
            backend_reason,
            arrivals_reason,
            listen: sockets.addresses.clone(),
            gro: config.gro,
            coalesce_bound: if gathers { config.coalesce } else { Duration::ZERO },
        };
        let assembly = Assembly { config: &config, plan: &plan, kind, rcvbuf_bytes: rcvbuf };
        assembly.start(sockets, make_handler, facts, warnings)
    }
}

/// The backend chosen, and why.
struct Chosen {
    kind: BackendKind,
    reason: String,
    /// Whether sleeps can gather datagrams.
    gathers: bool,
}

fn choose_backend(choice: BackendChoice) -> Result<Chosen> {
    let fallback = |reason| Ok(Chosen { kind: BackendKind::Recvmmsg, reason, gathers: false });
    if choice == BackendChoice::Recvmmsg {
        return fallback("asked for".to_owned());
    }
    let kind = BackendKind::IoUring;
    match (run_on_own_thread("ringest-probe", move || kind.probe())?, choice) {
        (Ok(probed), choice) => {
            let asked = if choice == BackendChoice::IoUring { "asked for" } else { "probe passed" };
            let reason = format!("{asked}: {}", probed.features);
            Ok(Chosen { kind, reason, gathers: probed.gathers })
        }
        (Err(reason), BackendChoice::IoUring) => Err(Error::IoUringRefused { reason }),
        (Err(reason), _) => fallback(format!("{kind} refused: {reason}")),
    }
}

/// Returns a warning if the kernel granted a smaller receive buffer than asked: bursts would overflow it.
fn rcvbuf_warning(asked: usize, granted: usize, host: &Host) -> Option<String> {
    let wanted = asked.saturating_mul(2);
    (granted < wanted).then(|| {
        format!(
            "receive buffer: asked for {asked} bytes, granted {} (net.core.rmem_max is {}); \
             `sysctl -w net.core.rmem_max={asked}` or CAP_NET_ADMIN allows it",
            granted / 2,
            host.rmem_max_bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string()),
        )
    })
}
