//! The flags of the brokers that a journal is shipped to, and of the journal as their spool.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args::values;
use crate::cli::args::values::given;
use crate::cli::failure::Failure;
use clap::Args;
use ringest_ship::target::kinds::Target;

/// How records get from the journal to brokers.
#[derive(Args, Debug)]
pub(crate) struct ShipArgs {
    /// Where records wait for their brokers, if there is no --sink journal:DIR: segments are removed as
    /// soon as all brokers have them
    #[arg(long, value_name = "DIR", help_heading = "Brokers")]
    pub(crate) spool: Option<PathBuf>,
    /// Let the oldest records go unsent, counted as undelivered, when what waits is larger
    /// [default: keep all until they are sent]
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Brokers")]
    pub(crate) spool_bytes: Option<usize>,
    /// Records under way to a broker at most; twice as many may be repeated after a crash [default: 4096]
    #[arg(long, value_name = "RECORDS", value_parser = values::window, help_heading = "Brokers")]
    ship_window: Option<usize>,
    /// How long to wait at the end for brokers to have everything; what they do not have by then stays in
    /// the journal and is sent at the next start [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Brokers")]
    flush_timeout: Option<Duration>,
}

/// Defaults of flags that are not given.
const WINDOW: usize = 4096;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

impl ShipArgs {
    /// The first of these flags that was given.
    fn given(&self) -> Option<&'static str> {
        let Self { spool, spool_bytes, ship_window, flush_timeout } = self;
        given([
            ("--spool", spool.is_some()),
            ("--spool-bytes", spool_bytes.is_some()),
            ("--ship-window", ship_window.is_some()),
            ("--flush-timeout", flush_timeout.is_some()),
        ])
    }

    /// Records under way to a broker at most.
    pub(crate) fn window(&self) -> usize {
        self.ship_window.unwrap_or(WINDOW)
    }

    /// How long brokers are waited for at the end.
    pub(crate) fn flush_timeout(&self) -> Duration {
        self.flush_timeout.unwrap_or(FLUSH_TIMEOUT)
    }

    /// Returns why the flags do not fit the sinks that were asked for.
    pub(crate) fn check(&self, targets: &[Target], has_journal: bool) -> Result<(), Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        if targets.is_empty() {
            return match self.given() {
                None => Ok(()),
                Some(flag) => usage(&format!(
                    "{flag} is for brokers: add --sink kafka:… or --sink nats:…, or leave it out"
                )),
            };
        }
        match (&self.spool, has_journal) {
            (None, false) => usage(
                "records wait on disk until a broker has them: say where with --spool DIR, or keep them \
                 all with --sink journal:DIR",
            ),
            (Some(_), true) => usage(
                "--spool removes what was sent, --sink journal:DIR keeps it: give one of them",
            ),
            _ => Ok(()),
        }
    }
}
