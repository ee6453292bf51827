//! Files of the network stack.

use std::collections::BTreeMap;

/// Counters by name.
pub(crate) type Table = BTreeMap<String, u64>;

/// The counters of one protocol in /proc/net/snmp or /proc/net/netstat: a line of names, a line of
/// values (proc_net(5)). Each kernel adds some at the end: `MemErrors` came with Linux 5.11.
pub(crate) fn snmp(text: &str, protocol: &str) -> Option<Table> {
    let mut lines = text.lines().filter_map(|line| {
        line.split_once(':').filter(|(name, _)| *name == protocol).map(|(_, rest)| rest)
    });
    let (names, values) = (lines.next()?, lines.next()?);
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    Some(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

/// /proc/net/snmp6: a name and a value a line.
pub(crate) fn snmp6(text: &str) -> Table {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// /proc/net/softnet_stat, all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Softnet {
    /// Frames taken off the queues.
    pub(crate) processed: u64,
    /// Frames a full backlog had no room for.
    pub(crate) dropped: u64,
    /// Rounds that ended with frames left.
    pub(crate) squeezed: u64,
    /// Frames of one flow that a filling backlog refused (Linux 3.11).
    pub(crate) flow_limited: u64,
    /// Lines, one a core.
    pub(crate) cores: usize,
}

/// Columns of hex numbers without names: 0 processed, 1 dropped, 2 squeezed, 10 flow_limited. Kernels
/// append columns: 11 from 3.11, 13 from 5.10, 15 from 5.18; the first ones stay.
pub(crate) fn softnet(text: &str) -> Option<Softnet> {
    let mut sum = Softnet::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let columns: Option<Vec<u64>> =
            line.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok()).collect();
        let columns = columns.filter(|columns| columns.len() >= 3)?;
        let column = |index: usize| columns.get(index).copied().unwrap_or(0);
        sum.processed = sum.processed.saturating_add(column(0));
        sum.dropped = sum.dropped.saturating_add(column(1));
        sum.squeezed = sum.squeezed.saturating_add(column(2));
        sum.flow_limited = sum.flow_limited.saturating_add(column(10));
        sum.cores += 1;
    }
    (sum.cores > 0).then_some(sum)
}

/// A table of hex columns under their names, summed over the lines: /proc/net/stat/nf_conntrack, a
/// line a core. Kernels rename columns (`searched` became `clashres` in 5.10), so names decide.
pub(crate) fn hex_columns(text: &str) -> Table {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut table = Table::new();
    for line in lines {
        for (name, word) in names.iter().zip(line.split_whitespace()) {
            if let Ok(value) = u64::from_str_radix(word, 16) {
                let sum = table.entry((*name).to_owned()).or_default();
                *sum = sum.saturating_add(value);
            }
        }
    }
    table
}

/// How many entries of /proc/net/nf_conntrack are UDP, and how many of those go to `port` in their
/// first direction.
pub(crate) fn conntrack_udp(text: &str, port: Option<u16>) -> (u64, u64) {
    let wanted = port.map(|port| format!("dport={port}"));
    let (mut udp, mut ours) = (0, 0);
    for line in text.lines() {
        if line.split_whitespace().nth(2) != Some("udp") {
            continue;
        }
        udp += 1;
        let to = line.split_whitespace().find(|word| word.starts_with("dport="));
        ours += u64::from(wanted.is_some() && to == wanted.as_deref());
    }
    (udp, ours)
}

/// Pages that UDP's buffers hold now: `UDP: inuse 7 mem 3` of /proc/net/sockstat.
pub(crate) fn sockstat_udp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("UDP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}
