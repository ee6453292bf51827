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
//!
//! # Features
//! Without default features this is the engine and the client alone. `journal` adds [`decode`], [`journal`],
//! [`settle`] and [`sink`]; `load` the load generator; `kafka` and `nats` the brokers that a journal is shipped
//! to, in [`ship`]. `program`, the default, is the program `ringest`.
//!
//! Write lines to a journal and to a file:
//!
//! ```
//! # #[cfg(feature = "journal")]
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use ringest::decode::stage::Formats;
//! use ringest::journal::open::JournalSpec;
//! use ringest::sink::{assemble::Sinks, kinds::FileSpec, lines::Format};
//! use std::net::{SocketAddr, UdpSocket};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let builder = ringest::Engine::builder().listen("127.0.0.1:0".parse::<SocketAddr>()?).limit(1);
//! let (engine, sinks) = Sinks::new()
//!     .to(FileSpec { path: dir.join("lines"), format: Format::Text })?
//!     .to(JournalSpec::new(dir.join("journal")))?
//!     .start(builder, &Formats::new(vec!["lines".parse()?], None))?;
//! UdpSocket::bind("127.0.0.1:0")?.send_to(b"one\ntwo\n", engine.addresses()[0])?;
//! engine.wait(std::time::Duration::from_secs(10));
//! assert_eq!(sinks.stop(engine)?.ledger.delivered, 1);
//! assert_eq!(std::fs::read_to_string(dir.join("lines"))?, "one\ntwo\n");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "journal"))]
//! # fn main() {}
//! ```
//!
//! Write a journal, and ship it to two brokers. A datagram is delivered when both have it:
//!
//! ```no_run
//! # #[cfg(all(feature = "kafka", feature = "nats"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # use ringest::decode::stage::Formats;
//! # use ringest::journal::open::JournalSpec;
//! # use ringest::ship::{assemble::ShippedSpec, kafka::*, nats::{Nats, NatsSpec, Login}};
//! # use ringest::{Engine, sink::assemble::Sinks};
//! # let builder = Engine::builder().listen("127.0.0.1:0".parse::<std::net::SocketAddr>()?);
//! # let kafka_spec = KafkaSpec {
//! #     brokers: "127.0.0.1:9092".into(),
//! #     topic: "syslog".into(),
//! #     properties: Vec::new(),
//! #     login: None,
//! # };
//! # let nats_spec = NatsSpec {
//! #     servers: vec!["nats://127.0.0.1:4222".into()],
//! #     stream: "LOGS".into(),
//! #     subject: "logs.syslog".into(),
//! #     login: Login::Nobody,
//! #     tls: false,
//! #     root_certificates: None,
//! #     client_certificate: None,
//! #     sole_writer: false,
//! # };
//! let shipped = ShippedSpec::new(JournalSpec::new("/var/lib/ringest"))
//!     .to("kafka:syslog", Kafka::new(&kafka_spec)?)
//!     .to("nats:LOGS", Nats::new(nats_spec));
//! let (engine, sinks) = Sinks::new().to(shipped)?.start(builder, &Formats::raw())?;
//! engine.wait(std::time::Duration::from_secs(3600));
//! let summary = sinks.stop(engine)?;
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "kafka", feature = "nats")))]
//! # fn main() {}
//! ```

/// A UDP client that hears what becomes of its datagrams.
pub mod client {
    pub use ringest_client::{
        Builder, Client, ClientError, Heard, Origin, PAYLOAD_BYTES_MAX, PeerError, PeerErrorKind,
        Reply, Sent, header_bytes,
    };
}

#[cfg(feature = "load")]
pub use ringest_load as load;
#[cfg(feature = "journal")]
pub use ringest_records::{decode, journal, settle, sink};
#[cfg(any(feature = "program", feature = "kafka", feature = "nats"))]
pub use ringest_ship as ship;

pub use ringest_client::Client;
pub use ringest_engine::backend::kind::BackendKind;
pub use ringest_engine::batch::arena::{Batch, Datagram};
pub use ringest_engine::control::builder::Builder;
pub use ringest_engine::control::config::{ArrivalsChoice, BackendChoice, ListenAddr};
pub use ringest_engine::control::engine::Engine;
pub use ringest_engine::control::names::Resolve;
pub use ringest_engine::control::plan::Plan;
pub use ringest_engine::count::document::Document;
pub use ringest_engine::count::ledger::{Dropped, Ledger, Unit};
pub use ringest_engine::count::row::Row;
pub use ringest_engine::count::rows::ROWS;
pub use ringest_engine::count::summary::Summary;
pub use ringest_engine::error::{Error, Result};
pub use ringest_engine::receive::dispatch::{Dispatch, Overload};
pub use ringest_engine::send::reply::Replies;
pub use ringest_engine::socket::interface::Interface;
pub use ringest_engine::socket::multicast::Group;
pub use ringest_engine::socket::options::{MulticastSending, PathMtu, SocketOptions};
pub use ringest_engine::socket::steer::Steer;
pub use ringest_engine::wire::path::Path;
pub use ringest_engine::work::handler::{Handler, Outcome};
pub use ringest_engine::work::remains::Remains;
