//! The fate of datagrams, tallied over several sinks, and notices about trouble.

/// Notices for the operator, each subject at most once a minute.
pub mod notices;
/// Runs of datagrams with one fate, and the events of a journal's writer.
pub mod run;
/// The fate of one worker's datagrams, each of which goes to several sinks.
pub mod tally;
