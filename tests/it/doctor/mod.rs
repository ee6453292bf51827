//! `ringest doctor`.

/// What the doctor's tests share
pub(crate) mod rig;
/// `ringest doctor` on a host made bad in one way after another
pub(crate) mod checks;
