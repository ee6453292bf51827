//! When a writer wants to be looked at though nothing comes.

use std::time::{Duration, Instant};

use crate::journal::tests::{record, writer};

const INTERVAL: Duration = Duration::from_millis(50);

/// A commit is begun when its interval is over, counted from its first datagram, and noted when it has ended: neither
/// waits for a tick that happens to come.
#[test]
fn a_commit_is_due_after_its_interval_and_looked_after_until_it_has_ended() {
    let mut writer = writer(1 << 20, 60);
    let begun = Instant::now();
    let later = |ms: u64| begun + Duration::from_millis(ms);
    assert_eq!(writer.due_within(begun), None, "there is nothing to commit");
    writer.disk().stalled = true;
    writer.push(&record(&[7; 100]), begun);
    writer.end_datagram(begun);
    assert_eq!(writer.due_within(begun), Some(INTERVAL));
    writer.push(&record(&[7; 100]), later(30));
    writer.end_datagram(later(30));
    writer.pump(later(30));
    assert_eq!(writer.due_within(later(30)), Some(INTERVAL - Duration::from_millis(30)));
    writer.pump(later(50));
    let soon = writer.due_within(later(50)).unwrap();
    assert!(soon > Duration::ZERO && soon < INTERVAL / 10, "{soon:?}");
    assert_eq!(writer.counts().committed, 0);
    writer.disk().stalled = false;
    while writer.due_within(later(51)).is_some() {
        writer.pump(later(51));
    }
    assert_eq!(writer.counts().committed, 2);
}
