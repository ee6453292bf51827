//! Explains losses: the cause of each, and the next move. The texts stand in the ledger table; the one about the
//! receive buffer depends on this host and is made here.

use std::fs;

use ringest::{ROWS, Row, Summary, Unit};
use ringest_engine::count::row::Help;

use crate::cli::show::paint;

/// Explanation of a count above 0.
#[derive(Debug)]
pub(crate) struct Advice {
    /// Name of the count in the ledger table.
    pub(crate) name: &'static str,
    pub(crate) count: u64,
    /// Unit of `count`, in the plural.
    pub(crate) unit: &'static str,
    /// The cause, and the next move.
    pub(crate) text: String,
    /// Whether datagrams or replies are lost. `false`: a sign that some may be lost later.
    pub(crate) is_loss: bool,
}

/// Explains every count of a summary that needs it: drops first, then other losses, then signs. `undelivered` is the
/// text for datagrams that the sink gave up.
pub(crate) fn advise(summary: &Summary, undelivered: &str) -> Vec<Advice> {
    let is_sign = |row: &Row| matches!(row.help, Help::Sign(_));
    let (drops, others): (Vec<_>, Vec<_>) = ROWS.iter().partition(|row| row.is_drop());
    let (signs, losses): (Vec<_>, Vec<_>) = others.into_iter().partition(|row| is_sign(row));
    let rows = drops.into_iter().chain(losses).chain(signs);
    rows.filter(|row| row.count(summary) > 0)
        .filter_map(|row| {
            let text = match row.help {
                Help::None => return None,
                Help::Loss(text) | Help::Sign(text) => text.to_owned(),
                Help::Buffers => kernel(summary),
                Help::Sink => undelivered.to_owned(),
            };
            Some(Advice {
                name: row.name,
                count: row.count(summary),
                unit: row.unit.word(summary.ledger.kernel_unit),
                text,
                is_loss: !is_sign(&row),
            })
        })
        .collect()
}

/// Explains drops of the kernel: the receive buffer was too small for a burst, or receivers were too slow for too
/// long.
fn kernel(summary: &Summary) -> String {
    let granted = summary.receivers.iter().map(|r| r.rcvbuf_bytes as u64 / 2).min().unwrap_or(0);
    let sockets = summary.listen.len().max(1) as u64;
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    let limit: u64 = limit.trim().parse().unwrap_or(0);
    let mut text = format!(
        "The receive buffer ({} each) was full when they came. Next: a larger --rcvbuf rides out \
         longer bursts (up to net.core.rmem_max = {}; more takes CAP_NET_ADMIN); if it \
         lasts, more --receivers, or more --workers where those are behind (a receiver waits for \
         them, unless --overload drop).",
        paint::bytes(granted / sockets),
        paint::bytes(limit),
    );
    if summary.ring_exhausted > 0 {
        text += " Slots ran out as well: more --slots.";
    }
    if summary.ledger.kernel_unit == Unit::Buffers {
        text += " Counted in the kernel's buffers, and one buffer may be a whole train of \
                 datagrams, so how many datagrams that is cannot be known; root (CAP_BPF) or \
                 --no-gro makes it exact.";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::table::tests::summary;

    #[test]
    fn every_loss_is_explained_and_nothing_else() {
        let names: Vec<_> =
            advise(&summary(), "So it is.").iter().map(|advice| advice.name).collect();
        let wanted = [
            "kernel",
            "truncated",
            "pool_empty",
            "queue_full",
            "unread_at_stop",
            "rejected",
            "undelivered",
        ];
        assert_eq!(names, wanted);
        assert!(advise(&summary(), "So it is.").iter().all(|advice| advice.text.ends_with('.')));
    }

    #[test]
    fn buffers_are_never_sold_as_datagrams() {
        let mut summary = summary();
        summary.ledger.kernel_unit = Unit::Buffers;
        let advice = advise(&summary, "");
        assert_eq!((advice[0].name, advice[0].unit), ("kernel", "buffers"));
        assert!(advice[0].text.contains("cannot be known"), "{}", advice[0].text);
    }
}
