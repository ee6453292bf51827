//! **ringest** takes UDP datagrams off a Linux host with io_uring, hands them to worker threads, and
//! accounts for every one of them.
//!
//! ```text
//!              one RECEIVER thread per core, pinned                 WORKER threads, pinned
//!  ┌──────────────────────────────────────────────────────┐   ┌──────────────────────────┐
//!  │ socket ──► ring ──────► slots ──copy──► batch ───────┼──►│ queue ─► handler         │
//!  │ SO_REUSEPORT  multishot   provided         ▲         │   │              │           │
//!  │ UDP_GRO       recvmsg     buffers        pool ◄──────┼───┼── batch goes home        │
//!  │ socket ◄── ring ◄── replies ◄── queue ◄──────────────┼───┼── replies    ◄           │
//!  │            sendmsg + UDP_SEGMENT                     │   └──────────────────────────┘
//!  └──────────────────────────────────────────────────────┘
//!  CONTROL: config ─► plan ─► engine (spawn, pin, stop, join) ─► ledger, summary
//! ```
//!
//! Count datagrams:
//!
//! ```
//! use ringest::{Batch, Engine, Replies};
//! use std::net::{SocketAddr, UdpSocket};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder()
//!     .listen("127.0.0.1:0".parse::<SocketAddr>()?)
//!     .limit(3)
//!     .start(|_worker| |batch: &Batch, _: &mut Replies| println!("{} datagrams", batch.len()))?;
//! let sender = UdpSocket::bind("127.0.0.1:0")?;
//! for text in ["one", "two", "three"] {
//!     sender.send_to(text.as_bytes(), engine.addresses()[0])?;
//! }
//! engine.wait(std::time::Duration::from_secs(10));
//! let summary = engine.stop()?;
//! assert_eq!((summary.ledger.handled, summary.ledger.residual), (3, 0));
//! # Ok(())
//! # }
//! ```
//!
//! Send each one back:
//!
//! ```
//! use ringest::{Batch, Engine, Replies};
//! use std::net::{SocketAddr, UdpSocket};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let echo = |batch: &Batch, replies: &mut Replies| {
//!     for datagram in batch {
//!         replies.send(&datagram, datagram.payload());
//!     }
//! };
//! let engine =
//!     Engine::builder().listen("127.0.0.1:0".parse::<SocketAddr>()?).start(|_worker| echo)?;
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! client.send_to(b"ping", engine.addresses()[0])?;
//! let mut reply = [0; 16];
//! let len = client.recv(&mut reply)?;
//! assert_eq!(&reply[..len], b"ping");
//! assert_eq!(engine.stop()?.replies.sent, 1);
//! # Ok(())
//! # }
//! ```

pub mod error;
/// The way of a datagram, one file per step.
pub mod datapath;
/// Decides once, then watches: config, plan, engine, ledger.
pub mod control;
/// From a datagram to its records: one file per format.
pub mod decode;
/// What UDP brought, on disk: the journal.
pub mod journal;
/// Where datagrams go: one file per destination.
pub mod sink;
/// From the journal to a broker: shippers and their carriers.
pub mod ship;
/// Datagrams to send: the load generator.
pub mod load;
/// Datagrams to peers, one by one, and what is heard of them.
pub mod client;
/// One look at a host: what will lose datagrams here, and the command that mends it.
pub mod doctor;
/// Trials: what a host can receive, and where the first datagram is lost.
pub mod bench;

#[cfg(test)]
mod simulation;

pub use client::Client;
pub use control::builder::Builder;
pub use control::config::{ArrivalsChoice, BackendChoice, ListenAddr};
pub use control::engine::Engine;
pub use control::ledger::{Dropped, Ledger, Unit};
pub use control::names::Resolve;
pub use control::plan::Plan;
pub use control::summary::Summary;
pub use datapath::batch::{Batch, Datagram};
pub use datapath::dispatch::{Dispatch, Overload};
pub use datapath::multicast::{Group, Interface};
pub use datapath::options::{MulticastSending, PathMtu, SocketOptions};
pub use datapath::reply::Replies;
pub use datapath::steer::Steer;
pub use datapath::worker::{Handler, Outcome};
pub use error::{Error, Result};
