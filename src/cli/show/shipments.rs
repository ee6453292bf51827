//! The part of the summary about brokers, in records.

use ringest_ship::fleet::ShipStats;

use crate::cli::show::paint;
use crate::cli::show::paint::{Paint, count};

/// Returns the backlog of one destination for the status line, named by its stream or topic.
pub(crate) fn brief(stats: &ShipStats) -> String {
    let mut words = stats.name.rsplit('/');
    let last = words.next().unwrap_or_default();
    // The name ends in STREAM/SUBJECT.
    let name = if stats.name.starts_with("nats:") { words.next().unwrap_or(last) } else { last };
    if stats.backlog.records == 0 {
        return format!("{name} nothing waits");
    }
    let age = stats.oldest_age().unwrap_or_default();
    let (records, bytes) = (count(stats.backlog.records), paint::bytes(stats.backlog.bytes));
    format!("{name} {records} wait ({bytes}, {:.1} s)", age.as_secs_f64())
}

fn waiting(stats: &ShipStats) -> String {
    if stats.backlog.records == 0 {
        return "nothing waits".to_owned();
    }
    let age = stats.oldest_age().unwrap_or_default();
    format!(
        "{} records wait ({}, the oldest for {:.1} s)",
        count(stats.backlog.records),
        paint::bytes(stats.backlog.bytes),
        age.as_secs_f64()
    )
}

/// Renders the part of the summary about brokers; empty without brokers.
pub(crate) fn render(shipped: &[ShipStats], paint: Paint) -> String {
    if shipped.is_empty() {
        return String::new();
    }
    let mut text = format!("\n  {}\n", paint.bold("Brokers, in records"));
    for one in shipped {
        let counts = &one.counts;
        text += &format!("  {}\n", one.name);
        text += &format!("    {:<26}{:>16}\n", "acknowledged", count(counts.acknowledged));
        let losses = [("dead letters", counts.dead_lettered), ("undelivered", counts.undelivered)];
        for (name, figure) in losses.into_iter().filter(|(_, figure)| *figure > 0) {
            let line = format!("    {name:<26}{:>16}", count(figure));
            text += &format!("{}\n", paint.yellow(&line));
        }
        if one.backlog.records > 0 {
            let line = format!("    {}; they are sent at the next start", waiting(one));
            text += &format!("{}\n", paint.yellow(&line));
        }
        if let Some(trouble) = &counts.trouble {
            text += &paint::paragraph(trouble, 4);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringest_records::journal::keep::commit_index::Backlog;
    use ringest_ship::account::ShipCounts;

    /// Two destinations have different names, and both fit the line.
    #[test]
    fn what_waits_is_told_in_a_few_words_by_stream_or_topic() {
        let stats = |name: &str, records| ShipStats {
            name: name.to_owned(),
            counts: ShipCounts::default(),
            backlog: Backlog { records, bytes: records * 1024 },
        };
        let nats = brief(&stats("nats:nats://one:4222/LOGS/logs.syslog", 5750));
        assert_eq!(nats, "LOGS 5,750 wait (5.6 MiB, 0.0 s)");
        assert_eq!(brief(&stats("kafka:one:9092/syslog", 0)), "syslog nothing waits");
    }
}
