//! The traits of framings, formats and decoders, and the types they speak in.
//!
//! One decoder serves one listen address of one worker, so it needs no lock and may keep state between
//! datagrams.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::decode::held::HeldDatagram;
use ringest_engine::batch::arena::Datagram;

/// A part of a datagram that is not of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject<'a> {
    /// The rejected bytes. They lie in the datagram.
    pub bytes: &'a [u8],
    /// The cause, in a few words.
    pub reason: &'static str,
}

/// The state of a datagram after its decoder saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decoded {
    /// All records and rejects of the datagram were handed over.
    Whole,
    /// The datagram waits for others: a chunk for the rest of its message, a record for its template. It
    /// counts as `pending` until the decoder settles it: with [`Records::join`], [`Later::release`] or
    /// [`Later::refuse`]. A held datagram is held whole: none of its records has been handed over.
    Held,
}

/// Takes the results of a decoder for the datagram at hand.
///
/// A record is valid during the call only. It may lie in the datagram or in memory of the decoder.
pub trait Records: Later {
    /// Takes the next record.
    fn record(&mut self, record: &[u8]);

    /// Takes the next part that is no record.
    fn reject(&mut self, reject: Reject<'_>);

    /// Gives `datagrams` held datagrams the fate of the datagram at hand: delivered, undelivered or rejected
    /// together. The last chunk of a message joins the chunks before it.
    fn join(&mut self, datagrams: u64);
}

/// Takes the results of a decoder for datagrams that it held.
///
/// Inside `decode`, call these before handing over the current datagram's first record.
pub trait Later {
    /// Settles one held datagram, whose records and rejects `decode` hands over now.
    fn release(&mut self, held: &HeldDatagram, decode: &mut dyn FnMut(&mut dyn Records));

    /// Rejects `datagrams` held datagrams for one `reason`. `held` is one of them; the sample of rejects shows
    /// it.
    fn refuse(&mut self, held: &HeldDatagram, datagrams: u64, reason: &'static str);
}

/// Finds the records of whole datagrams.
pub trait Decoder: Debug + Send {
    /// Hands the records and rejects of `datagram` to `out`, in order.
    fn decode(&mut self, datagram: &Datagram<'_>, out: &mut dyn Records) -> Decoded;

    /// Returns how soon [`tick`](Self::tick) is due, or `None` while nothing is held.
    fn due_within(&self, _now: Instant) -> Option<Duration> {
        None
    }

    /// Settles held datagrams whose time is over.
    fn tick(&mut self, _now: Instant, _out: &mut dyn Later) {}

    /// Settles all held datagrams: the engine stops.
    fn stop(&mut self, _out: &mut dyn Later) {}
}

/// Cuts datagrams into frames. A frame never spans datagrams: UDP may have lost the next one.
pub trait Framing: Debug + Send {
    /// Calls `frame` with each frame of `payload`, and with each part that is none, in order.
    fn split<'a>(&mut self, payload: &'a [u8], frame: impl FnMut(Result<&'a [u8], Reject<'a>>));
}

/// Finds the records of frames.
pub trait Format: Debug + Send {
    /// Hands the records and rejects of `frame`, a part of `datagram`, to `out`, in order. Only a format that
    /// is used with [whole datagrams](crate::decode::framing::datagram::Whole) may return
    /// [`Decoded::Held`].
    fn decode(&mut self, frame: &[u8], datagram: &Datagram<'_>, out: &mut dyn Records) -> Decoded;

    /// See [`Decoder::due_within`].
    fn due_within(&self, _now: Instant) -> Option<Duration> {
        None
    }

    /// See [`Decoder::tick`].
    fn tick(&mut self, _now: Instant, _out: &mut dyn Later) {}

    /// See [`Decoder::stop`].
    fn stop(&mut self, _out: &mut dyn Later) {}
}

/// A decoder made of a framing and a format. The pair is compiled as one: no call in between is dynamic.
#[derive(Clone, Copy, Debug)]
pub struct Framed<F, T>(
    /// Cuts a datagram into frames.
    pub F,
    /// Finds the records of each.
    pub T,
);

impl<F: Framing, T: Format> Decoder for Framed<F, T> {
    fn decode(&mut self, datagram: &Datagram<'_>, out: &mut dyn Records) -> Decoded {
        let Self(framing, format) = self;
        let mut decoded = Decoded::Whole;
        framing.split(datagram.payload(), |frame| match frame {
            Ok(frame) => {
                if format.decode(frame, datagram, out) == Decoded::Held {
                    decoded = Decoded::Held;
                }
            }
            Err(reject) => out.reject(reject),
        });
        decoded
    }

    fn due_within(&self, now: Instant) -> Option<Duration> {
        self.1.due_within(now)
    }

    fn tick(&mut self, now: Instant, out: &mut dyn Later) {
        self.1.tick(now, out);
    }

    fn stop(&mut self, out: &mut dyn Later) {
        self.1.stop(out);
    }
}
