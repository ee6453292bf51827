//! One destination's thread.

/// The values that a shipper shares with the rest of the program.
pub(crate) mod context;
/// A record that was sent and is not settled yet.
mod flight;
/// Keeps records that the broker refuses for good as dead letters.
mod refusals;
/// Reports a destination's state: counts, backlog, trouble.
mod report;
/// Sends again from the cursor; passes over records that retention removed.
mod resend;
/// Applies the carrier's verdicts, settles records, writes the cursor.
mod settle;
/// The thread: reads committed records and keeps a window of them under way.
pub(crate) mod thread;
