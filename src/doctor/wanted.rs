//! What a host is examined for.

use std::net::SocketAddr;

use ringest_base::host::resources::Host;
use ringest_engine::control::config::Config;
use ringest_engine::control::plan;
use ringest_engine::error::Result;

/// What the host is examined for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Addresses to listen on; none: the host is looked at as it is.
    pub addresses: Vec<SocketAddr>,
    /// They are `*:PORT`: IPv6 is taken if it is there.
    pub any: bool,
    /// The core of each receiver.
    pub receiver_cores: Vec<usize>,
    /// The core of each worker.
    pub worker_cores: Vec<usize>,
    /// Receive buffer per socket, bytes.
    pub rcvbuf_bytes: usize,
}

impl Wanted {
    /// For the threads an engine would have here: the numbers given, or as many as it would choose.
    ///
    /// # Errors
    /// A number of threads, a core or a size that cannot be, as an engine would say it.
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

    /// How to listen as asked, for a command to be completed.
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

    /// What is asked for on a host that has IPv6 or not: `*:PORT` is a wish for both families, one of
    /// which may be missing, whereas an address is asked for as it stands.
    pub(crate) fn here(&self, ipv6: bool) -> Self {
        let mut here = self.clone();
        here.addresses.retain(|address| ipv6 || !self.any || address.is_ipv4());
        here
    }

    /// The port asked for; `None`: none, or any.
    pub(crate) fn port(&self) -> Option<u16> {
        self.addresses.first().map(SocketAddr::port).filter(|port| *port > 0)
    }
}
