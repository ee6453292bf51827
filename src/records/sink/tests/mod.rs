//! Tests of sinks with decoders that hold datagrams.

/// A format of chunks and of records that wait for a template, for tests alone.
mod chunks;
/// The ledger while datagrams are held.
mod held;
