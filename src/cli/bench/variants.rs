//! The receivers that `bench compare` compares.

use ringest::BackendKind;
use ringest_bench::modes::campaign::{Base, name_of};
use ringest_bench::talk::link::BenchError;
use ringest_bench::wire::message::{Kind, ReceiverSpec};

use crate::cli::bench::options::GroChoice;

/// Returns the receivers with their names, the reference first.
pub(crate) fn list(
    base: &Base,
    gro: GroChoice,
    paced: bool,
    only: &[String],
) -> Result<Vec<(String, ReceiverSpec)>, BenchError> {
    let ways: &[bool] = match gro {
        GroChoice::On => &[true],
        GroChoice::Off => &[false],
        GroChoice::Both => &[false, true],
    };
    let mut variants = Vec::new();
    for &gro in ways {
        for (kind, apart) in kinds(base, gro, paced) {
            // All receivers only count, as the bare loops do.
            let receiver = ReceiverSpec { gro, tracks: false, ..base.receiver.clone() };
            let receiver = seated(ReceiverSpec { kind, ..receiver }, base, paced);
            variants.push((format!("{}{apart}", name_of(&receiver)), receiver));
        }
    }
    // The references stay: ratios are to them.
    let reference = variants[0].1.kind.clone();
    let asked = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word));
    variants.retain(|(name, receiver)| receiver.kind == reference || asked(name));
    if variants.len() <= ways.len() {
        return Err(BenchError::Usage(format!(
            "--only {}: no variant has such a name; leave it out to see all of them",
            only.join(",")
        )));
    }
    Ok(variants)
}

/// Returns the kinds of receivers, each with a suffix for its name. The first is the reference: the bare loop that a
/// careful programmer would write.
fn kinds(base: &Base, gro: bool, paced: bool) -> Vec<(Kind, &'static str)> {
    let bare = |call: &str| (Kind::Bare { call: call.to_owned() }, "");
    let engine = |backend: BackendKind, number: usize| {
        let mut kind = base.receiver.kind.clone();
        if let Kind::Engine(engine) = &mut kind {
            engine.backend = backend.to_string();
            engine.workers = number;
        }
        kind
    };
    let mut kinds = vec![
        bare(if paced { "recvmmsg_epoll" } else { "recvmmsg" }),
        bare("recvmsg"),
        (engine(BackendKind::IoUring, 1), ""),
        (engine(BackendKind::IoUring, 0), ""),
    ];
    let mut apart = engine(BackendKind::IoUring, 1);
    if let Kind::Engine(engine) = &mut apart {
        if paced {
            engine.coalesce_us = Some(0);
        } else {
            engine.arrivals = false;
        }
    }
    kinds.push((apart, if paced { ", coalesce 0" } else { ", arrivals off" }));
    kinds.extend([(engine(BackendKind::Recvmmsg, 1), ""), (engine(BackendKind::Recvmmsg, 0), "")]);
    if gro && !paced {
        // Only the system call: receives trains, copies nothing, sleeps long. The difference to an engine is the cost
        // of the work after the kernel.
        kinds.push((bare("recvmmsg_naps").0, ", no copy: the floor"));
    }
    kinds
}

/// Gives the worker a core if the receiver has only one. At full speed the worker shares the sender's core, because on
/// the receiver's it would preempt the receiver in the middle of a batch. At a fixed rate the sender spins until its
/// deadlines, and a worker on its core would wait milliseconds for a turn, so the worker shares the receiver's.
fn seated(mut receiver: ReceiverSpec, base: &Base, paced: bool) -> ReceiverSpec {
    let workers = match &receiver.kind {
        Kind::Engine(engine) => engine.workers,
        Kind::Bare { .. } => 0,
    };
    if workers > 0 && receiver.cores.len() == 1 {
        let core = if paced { receiver.cores.first() } else { base.load.cores.first() };
        receiver.cores.extend(core.copied().filter(|core| !receiver.cores.contains(core)));
    }
    receiver
}
