//! `ringest bench server`: the receiving side of a bench between two hosts.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use ringest_base::text::figures;
use ringest_bench::talk::server::{Event, Server, ServerError};
use ringest_engine::control::listen::ListenTarget;
use ringest_engine::control::settings::Settings;
use serde::{Deserialize, Serialize};

use crate::cli::args::engine::listening;
use crate::cli::args::socket::{NameArgs, SocketArgs};
use crate::cli::bench::options::PORT;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::show::json;
use crate::cli::show::paint;

/// Receive and count what a bench on another host sends
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench server                                 for this host's own clients
  ringest bench server 0.0.0.0:9009 --token WORD       for clients on other hosts
  ringest bench server '*' --token WORD --steer cpu    over both families, steered by CPU

Serves one client at a time. Anyone who knows the word can make this host start receivers, on the address \
they connect to and on the same port number over UDP if it is free. The word is sent over the network in \
clear text. ^C ends it.")]
pub(crate) struct ServerArgs {
    /// Where to listen for clients over TCP: an IP, a name or *, with :PORT if it is not 9009
    #[arg(value_name = "ADDR", default_value = "127.0.0.1", value_parser = address)]
    addresses: Vec<ListenTarget>,
    /// A word that clients must know; required unless ADDR is loopback
    #[arg(long, value_name = "WORD")]
    token: Option<String>,
    #[command(flatten)]
    names: NameArgs,
    #[command(flatten)]
    sockets: SocketArgs,
    /// Say nothing on stderr but errors
    #[arg(long)]
    quiet: bool,
    /// Process id of the parent; the server ends with it, and prints its address on stdout
    #[arg(long, hide = true)]
    parent: Option<i32>,
}

/// The line that a child prints for its parent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Announcement {
    pub(crate) address: SocketAddr,
}

fn address(text: &str) -> Result<ListenTarget, String> {
    let bare = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT).to_string()).ok();
    let bare = bare.unwrap_or_else(|| format!("{text}:{PORT}"));
    text.parse().or_else(|_| bare.parse()).map_err(|_: String| {
        "expected IP, IP:PORT, NAME, NAME:PORT or *, such as 0.0.0.0:9009".to_owned()
    })
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::TokenMissing { .. } => Self::Usage(error.to_string()),
            ServerError::Settings(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

pub(crate) fn run(args: &ServerArgs) -> Result<(), Failure> {
    if let Some(parent) = args.parent {
        let asked = set_pdeathsig(Signal::SIGKILL);
        if asked.is_err() || getppid() != Pid::from_raw(parent) {
            return Err(Failure::Failed("--parent is for `ringest` itself".to_owned()));
        }
    }
    let signals = Signals::block()?;
    let mut settings = Settings { listen: Some(args.addresses.clone()), ..Settings::default() };
    args.names.fill(&mut settings);
    args.sockets.fill(&mut settings);
    let (builder, _) = listening(&settings)?;
    let server = Server::bind(builder, args.token.clone())?;
    if args.parent.is_some() {
        json::print_line(&Announcement { address: server.addresses()[0] })?;
    }
    let say = |text: String| {
        if !args.quiet {
            paint::say(&text);
        }
    };
    for warning in server.warnings() {
        say(format!("{} {warning}\n", paint::Paint::stderr().yellow("warning:")));
    }
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    say(format!("bench server on {addresses} (TCP), one client at a time; ^C ends it\n"));
    server.serve(signals.as_fd(), |event| {
        say(match event {
            Event::Welcomed(peer) => format!("{peer}: let in\n"),
            Event::Refused(peer, why) => format!("{peer}: refused: {}\n", figures::cut(&why, 400)),
            Event::Started(address, backend) => {
                format!("  receiving on {address} with {backend}\n")
            }
            Event::Gone(peer) => format!("{peer}: gone\n"),
            _ => String::new(),
        });
    })?;
    Ok(())
}
