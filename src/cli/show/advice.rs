//! One sentence for every loss: what happened, and what to do next.

use std::fs;

use ringest::{Summary, Unit};

use crate::cli::show::paint;

/// A loss, or a warning sign, with its explanation.
#[derive(Debug)]
pub(crate) struct Advice {
    /// As the ledger calls it.
    pub(crate) name: &'static str,
    pub(crate) count: u64,
    pub(crate) unit: &'static str,
    pub(crate) text: String,
    /// Whether datagrams or replies are gone, or only may be one day.
    pub(crate) is_loss: bool,
}

impl Advice {
    fn new(name: &'static str, count: u64, unit: &'static str, text: &str) -> Self {
        Self { name, count, unit, text: text.to_owned(), is_loss: true }
    }
}

/// What to say about a summary, losses first; empty if there is nothing to say. `undelivered`: why datagrams
/// can be that.
pub(crate) fn advise(summary: &Summary, undelivered: &str) -> Vec<Advice> {
    let ways =
        [receiving(summary), handling(summary, undelivered), replying(summary), signs(summary)];
    ways.into_iter().flatten().filter(|advice| advice.count > 0).collect()
}

/// Lost before a handler saw them.
fn receiving(summary: &Summary) -> Vec<Advice> {
    let (ledger, dropped) = (&summary.ledger, &summary.ledger.dropped);
    let datagrams = |name, count, text| Advice::new(name, count, "datagrams", text);
    vec![
        Advice::new("kernel", dropped.kernel, ledger.kernel_unit.as_str(), &kernel(summary)),
        datagrams("denied", dropped.denied, "An access list refused their peer."),
        datagrams("rate_limited", dropped.rate_limited, "Their peer sent more than it may."),
        datagrams(
            "truncated",
            dropped.truncated,
            "They were longer than a slot or came with more control data than there is room for, \
             and half a datagram is not delivered as a whole one. Next: report how they were sent.",
        ),
        datagrams(
            "pool_empty",
            dropped.pool_empty,
            "All batches were in use, so --overload drop dropped what came. Next: a larger \
             --pool-bytes rides out longer bursts; more --workers or a faster handler is needed if \
             it lasts.",
        ),
        datagrams(
            "queue_full",
            dropped.queue_full,
            "A worker's queue was full, so --overload drop dropped whole batches. Next: more \
             --workers, or --dispatch spread if a single peer sends it all.",
        ),
        datagrams(
            "unread_at_stop",
            ledger.unread_at_stop,
            "They were still in the sockets when those were closed: more came in than could be \
             taken within the time a stop may take. Next: stop the senders first.",
        ),
    ]
}

/// Lost on the way to the handler, or in it.
fn handling(summary: &Summary, undelivered: &str) -> Vec<Advice> {
    let ledger = &summary.ledger;
    let datagrams = |name, count, text| Advice::new(name, count, "datagrams", text);
    vec![
        datagrams(
            "queued",
            ledger.queued,
            "They were received and abandoned on their way to the handler: the second signal stops \
             at once. Next: send one signal and wait.",
        ),
        datagrams("rejected", ledger.rejected, "The handler refused them as malformed."),
        datagrams("undelivered", ledger.undelivered, undelivered),
    ]
}

fn replying(summary: &Summary) -> Vec<Advice> {
    let replies = &summary.replies;
    vec![
        Advice::new(
            "send_timed_out",
            replies.send_timed_out,
            "replies",
            "The send buffer stayed full until the reply's deadline. Next: a faster link or fewer \
             answers; `ss -uamn` shows the buffer.",
        ),
        Advice::new(
            "failed",
            replies.failed,
            "replies",
            "The kernel refused them (no route, a firewall), or there was no room for them. Next: \
             `ip route get PEER`, `nft list ruleset`.",
        ),
    ]
}

/// Not losses, but signs of what may become one.
fn signs(summary: &Summary) -> Vec<Advice> {
    let times =
        |name, count, text| Advice { is_loss: false, ..Advice::new(name, count, "times", text) };
    vec![
        times(
            "ring_exhausted",
            summary.ring_exhausted,
            "All slots were full; nothing is lost by that, the socket buffer holds what comes. \
             Next, if the kernel dropped too: more --slots.",
        ),
        times(
            "cq_overflow",
            summary.cq_overflow,
            "The completion queue overflowed; nothing is lost by that, receiving was armed again.",
        ),
        times(
            "socket_errors",
            summary.socket_errors,
            "A socket reported an error and receiving went on; nothing is lost by that. Next, if it \
             keeps growing: `ss -uamn` and the kernel's log.",
        ),
    ]
}

/// Drops before us: the buffer was too small for a burst, or we were too slow for too long.
fn kernel(summary: &Summary) -> String {
    let granted = summary.receivers.iter().map(|r| r.rcvbuf_bytes as u64 / 2).min().unwrap_or(0);
    let sockets = summary.listen.len().max(1) as u64;
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    let limit: u64 = limit.trim().parse().unwrap_or(0);
    let mut text = format!(
        "The receive buffer ({} each) was full when they came. Next: a larger --rcvbuf rides out \
         longer bursts (net.core.rmem_max is {}, above it --rcvbuf takes CAP_NET_ADMIN); if it \
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
