//! What is measured: the rows of the table, and in each the variants beside one another.

use std::fmt;

use ringest::BackendChoice;

use super::engine::EngineSpec;
use crate::peers::{Call, PeerSpec};

/// A load, and the question asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Singles64,
    Trains64,
    Paced50k,
    Paced100k,
    Paced100,
    Singles1400,
    Trains1400,
    Idle,
}

/// What the sender does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) size: usize,
    pub(crate) train: usize,
    pub(crate) rate_pps: Option<u64>,
}

/// Datagrams a saturating sender puts into one send (UDP_SEGMENT): one core then overruns any
/// receiver. A socket without UDP_GRO is given them one by one.
const TRAIN: usize = 32;

impl Row {
    pub(crate) const ALL: [Self; 8] = [
        Self::Singles64,
        Self::Trains64,
        Self::Paced50k,
        Self::Paced100k,
        Self::Paced100,
        Self::Singles1400,
        Self::Trains1400,
        Self::Idle,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Singles64 => "(a) flat out, one by one, 64 B",
            Self::Trains64 => "(b) flat out, trains of 32 x 64 B",
            Self::Paced50k => "(c) 50 000/s, 64 B",
            Self::Paced100k => "(c) 100 000/s, 64 B",
            Self::Paced100 => "(d) 100/s, 64 B",
            Self::Singles1400 => "(e) flat out, one by one, 1400 B",
            Self::Trains1400 => "(e) flat out, trains of 32 x 1400 B",
            Self::Idle => "(f) no traffic",
        }
    }

    /// `None`: no sender at all.
    pub(crate) fn load(self) -> Option<Load> {
        let flat_out = |size| Some(Load { size, train: TRAIN, rate_pps: None });
        let paced = |rate| Some(Load { size: 64, train: 1, rate_pps: Some(rate) });
        match self {
            Self::Singles64 | Self::Trains64 => flat_out(64),
            Self::Singles1400 | Self::Trains1400 => flat_out(1400),
            Self::Paced50k => paced(50_000),
            Self::Paced100k => paced(100_000),
            Self::Paced100 => paced(100),
            Self::Idle => None,
        }
    }

    /// Whether the sender sends as fast as it can, rather than at a rate or not at all.
    pub(crate) fn is_flat_out(self) -> bool {
        self.load().is_some_and(|load| load.rate_pps.is_none())
    }

    /// Off where single datagrams are the question, else the default.
    pub(crate) fn engine_gro(self) -> bool {
        !matches!(self, Self::Singles64 | Self::Singles1400)
    }

    fn is_trains(self) -> bool {
        matches!(self, Self::Trains64 | Self::Trains1400)
    }

    /// What the others are divided by.
    pub(crate) fn reference(self) -> Option<Subject> {
        match self {
            Self::Singles64 | Self::Singles1400 => Some(peer(Call::Recvmmsg, false)),
            Self::Trains64 | Self::Trains1400 => Some(peer(Call::Recvmmsg, true)),
            Self::Paced50k | Self::Paced100k | Self::Paced100 => {
                Some(peer(Call::RecvmmsgEpoll, false))
            }
            Self::Idle => None,
        }
    }

    fn subjects(self) -> Vec<Subject> {
        let [uring, mmsg] = [IO_URING, RECVMMSG].map(Subject::Engine);
        let uring_at_once = Subject::Engine(EngineSpec { coalesces: false, ..IO_URING });
        let inline = Subject::Engine(EngineSpec { inline: true, ..IO_URING });
        let uncounted = Subject::Engine(EngineSpec { arrivals: false, ..IO_URING });
        let calls = [Call::Recvmsg, Call::Recvmmsg].map(|call| peer(call, self.is_trains()));
        match self {
            Self::Singles64 => [&calls[..], &[uring, uncounted, inline, mmsg]].concat(),
            Self::Trains64 => [&calls[..], &[FLOOR, uring, uncounted, inline, mmsg]].concat(),
            Self::Paced50k | Self::Paced100k | Self::Paced100 => {
                vec![peer(Call::RecvmmsgEpoll, false), uring, uring_at_once, mmsg]
            }
            Self::Singles1400 => [&calls[..], &[uring, inline, mmsg]].concat(),
            Self::Trains1400 => [&calls[..], &[FLOOR, uring, inline, mmsg]].concat(),
            Self::Idle => vec![uring, mmsg],
        }
    }
}

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Peer(PeerSpec),
    Engine(EngineSpec),
}

/// The engine as it comes, one worker.
pub(crate) const IO_URING: EngineSpec =
    EngineSpec { backend: BackendChoice::IoUring, inline: false, coalesces: true, arrivals: true };

/// The same engine on recvmmsg(2), which has nothing to coalesce with.
pub(crate) const RECVMMSG: EngineSpec = EngineSpec { backend: BackendChoice::Recvmmsg, ..IO_URING };

/// The receive call alone: takes trains, but neither copies nor indexes, and is woken twice a
/// millisecond at most. What an engine costs more than this is what happens after the kernel.
pub(crate) const FLOOR: Subject =
    Subject::Peer(PeerSpec { call: Call::RecvmmsgNap, gro: true, copies: false });

/// A bare loop that copies.
pub(crate) fn peer(call: Call, gro: bool) -> Subject {
    Subject::Peer(PeerSpec { call, gro, copies: true })
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(spec) => {
                f.write_str(match spec.call {
                    Call::Recvmsg => "bare recvmsg",
                    Call::Recvmmsg => "bare recvmmsg(64)",
                    Call::RecvmmsgEpoll => "bare recvmmsg(64) + epoll",
                    Call::RecvmmsgNap => "bare recvmmsg(64) + naps",
                })?;
                f.write_str(if spec.gro { ", UDP_GRO" } else { "" })?;
                f.write_str(if spec.copies { "" } else { ", no copy (the floor)" })
            }
            Self::Engine(spec) => {
                let ring = spec.backend == BackendChoice::IoUring;
                write!(f, "**ringest** {}", if ring { "io_uring" } else { "recvmmsg" })?;
                f.write_str(if spec.inline { ", inline" } else { "" })?;
                f.write_str(if spec.arrivals { "" } else { ", arrivals off" })?;
                f.write_str(if spec.coalesces { "" } else { ", coalesce 0" })
            }
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) row: Row,
    pub(crate) subject: Subject,
}

impl Case {
    /// Every case whose name contains `only`.
    pub(crate) fn list(only: &str) -> Vec<Self> {
        let cases = Row::ALL
            .iter()
            .flat_map(|&row| row.subjects().into_iter().map(move |subject| Self { row, subject }));
        cases.filter(|case| case.to_string().contains(only)).collect()
    }

    /// Whether the receiver takes trains whole.
    pub(crate) fn gro(&self) -> bool {
        match self.subject {
            Subject::Peer(spec) => spec.gro,
            Subject::Engine(_) => self.row.engine_gro(),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row.title(), self.subject)
    }
}
