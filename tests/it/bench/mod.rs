//! `ringest bench`, its search, and its reports.

/// What the tests of `ringest bench` share
pub(crate) mod rig;
/// The control port of `ringest bench server`
pub(crate) mod control;
/// Benches between two hosts
pub(crate) mod lab;
/// Losses made on purpose are found where they were made, to the datagram.
pub(crate) mod losses;
/// `ringest bench`, every mode from end to end, its `--json` to the letter, and what it says to what cannot be.
pub(crate) mod modes;
/// Our search controller against the published one, PyPI `MLRsearch` 1.2.1, on simulated devices.
pub(crate) mod mlrsearch;
/// The report's page in a browser
pub(crate) mod report_page;
