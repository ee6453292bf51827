//! A datagram that is kept after its batch went home.

use ringest_engine::batch::arena::{Batch, Datagram};

/// A copy of a datagram, with its peer, time, listener and headers. A decoder that holds datagrams keeps
/// these, so that the batch can go home; it must bound their number and their bytes.
#[derive(Debug)]
pub struct HeldDatagram {
    /// Holds exactly one datagram.
    batch: Batch,
}

impl HeldDatagram {
    /// Copies a datagram.
    #[must_use]
    pub fn new(datagram: &Datagram<'_>) -> Self {
        Self { batch: datagram.to_batch() }
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.batch.iter().next().map_or(&[], |datagram| datagram.payload())
    }

    /// Returns the memory it takes, bytes.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        Batch::footprint_bytes(self.payload().len(), 1)
    }

    /// Calls `use_it` with the datagram.
    pub(crate) fn with(&self, mut use_it: impl FnMut(&Datagram<'_>)) {
        self.batch.iter().for_each(|datagram| use_it(&datagram));
    }
}
