//! The way of a datagram, one file per step, in the order a datagram meets them. Nothing here knows
//! the control plane, the command line, a sink or a format: values pass, not handles.

// Before the first datagram: what the host can do.
pub mod probe;
pub mod tryout;
pub mod clock;

// In: socket → backend → slots → frame → batch → queue.
pub(crate) mod sockopt;
pub mod options;
pub mod multicast;
pub mod steer;
pub mod socket;
pub(crate) mod bpf;
pub mod arrivals;
pub mod sockaddr;
pub mod headers;
pub mod cmsg;
pub mod backend;
pub mod ring;
pub(crate) mod record;
pub(crate) mod tag;
pub(crate) mod slots;
pub mod mmsg;
pub mod coalesce;
pub mod batch;
pub mod pool;
pub mod dispatch;
pub mod receiver;

// Across: worker and handler.
pub mod waker;
pub mod worker;

// Back: replies.
pub mod reply;
pub(crate) mod outgoing;

// Beside the way: what is counted.
pub mod counters;
pub mod histogram;

#[cfg(test)]
pub(crate) mod sim;
