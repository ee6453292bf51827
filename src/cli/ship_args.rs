//! The flags of the brokers that a journal is shipped to, and of the journal as their spool.

use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::sinks::Target;
use super::values;
use clap::Args;

/// How records get from the journal to brokers.
#[derive(Args, Debug)]
pub(super) struct ShipArgs {
    /// Where records wait for their brokers, if there is no --sink journal:DIR: segments are removed as
    /// soon as all brokers have them
    #[arg(long, value_name = "DIR", help_heading = "Brokers")]
    pub(super) spool: Option<PathBuf>,
    /// Let the oldest records go unsent, counted as undelivered, when what waits is larger
    /// [default: keep all until they are sent]
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Brokers")]
    pub(super) spool_bytes: Option<usize>,
    /// Records under way to a broker at most; as many may be repeated after a crash
    #[arg(
        long, value_name = "RECORDS", default_value = "4096", value_parser = values::window,
        help_heading = "Brokers"
    )]
    pub(super) ship_window: usize,
    /// How long to wait at the end for brokers to have everything; what they do not have by then stays in
    /// the journal and is sent at the next start
    #[arg(
        long, value_name = "DURATION", default_value = "5s", value_parser = values::duration,
        help_heading = "Brokers"
    )]
    pub(super) flush_timeout: Duration,
}

impl ShipArgs {
    /// What is wrong with the flags beside the sinks that were asked for.
    pub(super) fn check(&self, targets: &[Target], has_journal: bool) -> Result<(), Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        if targets.is_empty() {
            return match (&self.spool, self.spool_bytes) {
                (None, None) => Ok(()),
                _ => usage(
                    "--spool and --spool-bytes are for brokers: add --sink kafka:… or --sink nats:…",
                ),
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
