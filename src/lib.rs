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

/// A UDP client that hears what becomes of its datagrams.
pub mod client {
    pub use ringest_client::client::*;
}

pub use ringest_client::client::Client;
pub use ringest_engine::batch::arena::{Batch, Datagram};
pub use ringest_engine::control::builder::Builder;
pub use ringest_engine::control::config::{ArrivalsChoice, BackendChoice, ListenAddr};
pub use ringest_engine::control::engine::Engine;
pub use ringest_engine::control::names::Resolve;
pub use ringest_engine::control::plan::Plan;
pub use ringest_engine::count::ledger::{Dropped, Ledger, Unit};
pub use ringest_engine::count::summary::Summary;
pub use ringest_engine::error::{Error, Result};
pub use ringest_engine::receive::dispatch::{Dispatch, Overload};
pub use ringest_engine::send::reply::Replies;
pub use ringest_engine::socket::interface::Interface;
pub use ringest_engine::socket::multicast::Group;
pub use ringest_engine::socket::options::{MulticastSending, PathMtu, SocketOptions};
pub use ringest_engine::socket::steer::Steer;
pub use ringest_engine::work::handler::{Handler, Outcome};
