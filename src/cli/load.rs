//! `ringest __load`: the sender of `demo`, a process of its own so that its CPU time and its faults
//! are not the receiver's. Prints its report as one JSON line.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use ringest::load::sender::{self, LoadReport, LoadSpec};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::json;
use super::values;

/// The hidden subcommand.
pub(super) const NAME: &str = "__load";

/// Send load (internal: part of demo)
#[derive(Args, Debug)]
pub(super) struct LoadArgs {
    /// Receiver of the load
    #[arg(value_parser = values::peer_addr)]
    target: SocketAddr,
    /// How long
    #[arg(long = "for", value_parser = values::duration)]
    run_for: Duration,
    /// Payload bytes of a datagram
    #[arg(long)]
    size: usize,
    /// Datagrams per send
    #[arg(long, default_value_t = 1)]
    train: usize,
    /// The process that asked for it; the load ends with it
    #[arg(long)]
    parent: i32,
}

/// What it prints.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// The kernel took them.
    pub(super) sent: u64,
    /// The kernel refused them.
    pub(super) failed: u64,
    pub(super) elapsed_ns: u64,
}

pub(super) fn run(args: &LoadArgs) -> Result<(), Failure> {
    die_with(args.parent)?;
    let spec = LoadSpec {
        target: args.target,
        rate_pps: None,
        count: None,
        duration: Some(args.run_for),
        size: args.size,
        train: args.train,
        flows: 1,
        filled: false,
    };
    let LoadReport { sent, failed, elapsed_ns, .. } =
        sender::run(&spec, &AtomicBool::new(false))
            .map_err(|error| Failure::Failed(format!("cannot send to {}: {error}", args.target)))?;
    json::print_line(&Report { sent, failed, elapsed_ns })
}

/// A parent that is killed cannot end us, so the kernel does (prctl(2), PR_SET_PDEATHSIG). One that
/// died before we asked is noticed by its absence.
fn die_with(parent: i32) -> Result<(), Failure> {
    let asked = set_pdeathsig(Signal::SIGKILL);
    if asked.is_err() || getppid() != Pid::from_raw(parent) {
        return Err(Failure::Failed(format!("{NAME} is started by `ringest demo` only")));
    }
    Ok(())
}
