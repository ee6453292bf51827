//! What became of datagrams: runs of one outcome, tallied over several sinks.

/// What the journal has to say while it runs, at most once a minute.
pub mod alarm;
/// What a writer tells of its progress.
pub mod run;
/// What became of one worker's datagrams where each goes to several places.
pub mod tally;
