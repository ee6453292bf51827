//! The addresses and threads that a host is examined for.

use std::net::SocketAddr;

use ringest_base::host::resources::Host;
use ringest_engine::control::config::Config;
use ringest_engine::control::plan;
use ringest_engine::error::Result;

/// The addresses and threads that the host is examined for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Addresses to listen on; none: only checks that need no address are made.
    pub addresses: Vec<SocketAddr>,
    /// Whether the addresses are those of `*:PORT`: IPv6 is used if the host has it.
    pub any: bool,
    /// The core of each receiver.
    pub receiver_cores: Vec<usize>,
    /// The core of each worker.
    pub worker_cores: Vec<usize>,
    /// Receive buffer per socket, bytes.
    pub rcvbuf_bytes: usize,
}

impl Wanted {
    /// Returns the threads that an engine would have here: the numbers given, or as many as it would choose.
    ///
    /// # Errors
    /// A number of threads, a core or a size is impossible, in the engine's words.
    pub fn plan(config: &Config) -> Result<Self> {
        // The plan is about threads here; whether an address can be had is what is examined.
        let config =
            Config { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..config.clone() };
        let plan = plan::plan(&config, &Host::read())?;
        Ok(Self {
            addresses: Vec::new(),
            any: false,
            receiver_cores: plan.receiver_cores,
            worker_cores: plan.worker_cores,
            rcvbuf_bytes: config.rcvbuf_bytes,
        })
    }

    /// Returns the command that listens as asked, to be completed with options.
    pub(crate) fn listen_command(&self) -> String {
        match (self.addresses.first(), self.any) {
            (Some(address), false) if address.is_ipv4() => format!("ringest listen {address}"),
            (Some(address), false) => format!("ringest listen '{address}'"),
            (first, _) => {
                let port = first.map_or(9000, SocketAddr::port);
                format!("ringest listen '*:{port}'")
            }
        }
    }

    /// Returns this without the IPv6 address of `*:PORT` if the host has no IPv6. An IPv6 address that was given itself
    /// stays.
    pub(crate) fn here(&self, ipv6: bool) -> Self {
        let mut here = self.clone();
        here.addresses.retain(|address| ipv6 || !self.any || address.is_ipv4());
        here
    }

    /// Returns the port asked for; `None` if no address or port 0 is.
    pub(crate) fn port(&self) -> Option<u16> {
        self.addresses.first().map(SocketAddr::port).filter(|port| *port > 0)
    }
}
