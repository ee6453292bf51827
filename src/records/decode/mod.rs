//! From a datagram to its records.
//!
//! ```text
//!  datagram ─► framing ─► frame │ frame │ rest that is no frame
//!                           ▼       ▼            ▼
//!              format ─► records, in order    Reject: counted, sampled
//!                     └► Held: kept until other datagrams come, a time passes, or the engine stops
//! ```
//! A framing cuts a datagram into frames, a [format](format) finds the records of a frame;
//! `FORMATS` lists the combinations that have a name. A new format is a file in
//! `format/`, a row in that table, and its tests.

/// The traits of framings, formats and decoders, and the types they speak in.
pub mod decoder;
/// Formats: one file per way to find the records of a frame.
pub mod format;
/// The table of formats by name.
pub mod formats;
/// Framings: one file per way to cut a datagram into frames.
pub mod framing;
/// A datagram that is kept after its batch went home.
pub mod held;
/// The file with a sample of rejected parts.
pub mod rejects;
/// One worker's decoders, with their counters.
pub mod stage;
