//! The journal on real disks, and its tools.

/// Tools: a journal that is written, killed and compared with what was sent.
pub(crate) mod rig;
/// Writing and reading back on a real disk, and kills between.
pub(crate) mod basics;
/// The writer killed at each of its named steps, at random moments, and while it recovers from that.
#[cfg(feature = "fail-points")]
pub(crate) mod crash;
/// `ringest journal …`, and a start, on journals that are damaged.
pub(crate) mod damage;
/// Disks that stall, fill up, break and lose their power.
pub(crate) mod disks;
/// Exported records, opened by the programs they are for: Python, DuckDB, pandas, tshark.
pub(crate) mod export;
/// The second signal while the journal's disk takes nothing.
pub(crate) mod stops;
/// `ringest journal …` as a user runs it, on a journal of several workers with hostile records.
pub(crate) mod tools;
