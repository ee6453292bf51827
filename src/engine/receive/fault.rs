//! Faults that a test plants, to see that the ledger and the simulation notice them. They exist only with the feature
//! `fault-skip-rearm`, and even then only where a test has planted one, on the thread that planted it.

/// A fault that a test can plant.
#[cfg(feature = "fault-skip-rearm")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A receive that ended is never armed again.
    SkipRearm,
}

#[cfg(feature = "fault-skip-rearm")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Runs `run` on this thread with a fault planted.
#[cfg(all(test, feature = "fault-skip-rearm"))]
pub(crate) fn with<T>(fault: Fault, run: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(fault));
    let result = run();
    PLANTED.set(None);
    result
}

/// Returns whether the end of a receive is to be forgotten.
#[cfg(feature = "fault-skip-rearm")]
pub(crate) fn skips_rearm() -> bool {
    PLANTED.get() == Some(Fault::SkipRearm)
}

/// Returns whether the end of a receive is to be forgotten: never.
#[cfg(not(feature = "fault-skip-rearm"))]
pub(crate) const fn skips_rearm() -> bool {
    false
}
