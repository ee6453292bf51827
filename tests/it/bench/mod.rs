//! `ringest bench`, its search, and its reports.

/// Tools: the real program, here or in a host of the lab, and the checks of each trial in its reports.
pub(crate) mod rig;
/// The control port of `ringest bench server`: requests that are wrong, late or hostile.
pub(crate) mod control;
/// Benches between two hosts.
pub(crate) mod lab;
/// Losses made on purpose are found where they were made, to the datagram.
pub(crate) mod losses;
/// Every mode of `ringest bench` from end to end, the exact keys of its `--json`, and its refusals.
pub(crate) mod modes;
/// Our search controller beside the published one, PyPI `MLRsearch` 1.2.1, on simulated devices.
pub(crate) mod mlrsearch;
/// The report's page in a browser.
pub(crate) mod report_page;
