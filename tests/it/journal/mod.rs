//! The journal on real disks, and its tools.

/// A journal to break
pub(crate) mod rig;
/// The journal on a real disk
pub(crate) mod basics;
/// The writer killed at each of its named steps, at random moments, and while it recovers from that
#[cfg(feature = "fail-points")]
pub(crate) mod crash;
/// `ringest journal …` and a start on journals that are damaged
pub(crate) mod damage;
/// The journal on disks that stall, fill up, break and lose their power
pub(crate) mod disks;
/// Exported records in the hands of the programs they are for
pub(crate) mod export;
/// The second signal, while the journal's disk takes nothing
pub(crate) mod stops;
/// `ringest journal …` as a user runs it, on a journal of several workers whose records are of the worst sort
pub(crate) mod tools;
