//! The two phases of the demo: datagrams sent one by one, and in trains.

/// One phase of the demo.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) title: &'static str,
    pub(crate) explanation: &'static str,
    pub(crate) train: usize,
    /// Whether UDP_GRO is on. If it is off, the kernel's drop counter is exact in datagrams, without any capability.
    pub(crate) gro: bool,
}

pub(crate) const PHASES: [Phase; 2] = [
    Phase {
        title: "one by one",
        explanation: "One datagram a packet: each takes its own way through the kernel, and that is \
                      the cost.",
        train: 1,
        gro: false,
    },
    Phase {
        title: "in trains of 32",
        explanation: "Trains of 32: the sender segments late (UDP_SEGMENT), the receiver takes \
                      whole trains (UDP_GRO), and the kernel's cost is shared by 32.",
        train: 32,
        gro: true,
    },
];
