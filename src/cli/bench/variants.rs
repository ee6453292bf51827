//! The ways to receive that `bench compare` puts beside each other.

use ringest_bench::modes::campaign::{Base, name_of};
use ringest_bench::talk::link::BenchError;
use ringest_bench::wire::message::{Kind, ReceiverSpec};

use crate::cli::bench::options::GroChoice;

/// Names and receivers, the reference first.
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
            // All only count, as the bare loops do.
            let receiver = ReceiverSpec { gro, tracks: false, ..base.receiver.clone() };
            let receiver = seated(ReceiverSpec { kind, ..receiver }, base, paced);
            variants.push((format!("{}{apart}", name_of(&receiver)), receiver));
        }
    }
    // The references stay: without one there is nothing to divide by.
    let reference = variants[0].1.kind.clone();
    let asked = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word));
    variants.retain(|(name, receiver)| receiver.kind == reference || asked(name));
    if variants.len() <= ways.len() {
        return Err(BenchError::Usage(format!(
            "--only {}: no variant is called so; leave it out to see them all",
            only.join(",")
        )));
    }
    Ok(variants)
}

/// The reference first: the bare loop that a careful programmer would write. With each what its name does
/// not say.
fn kinds(base: &Base, gro: bool, paced: bool) -> Vec<(Kind, &'static str)> {
    let bare = |call: &str| (Kind::Bare { call: call.to_owned() }, "");
    let engine = |name: &str, number: usize| {
        let mut kind = base.receiver.kind.clone();
        if let Kind::Engine(engine) = &mut kind {
            name.clone_into(&mut engine.backend);
            engine.workers = number;
        }
        kind
    };
    let mut kinds = vec![
        bare(if paced { "recvmmsg_epoll" } else { "recvmmsg" }),
        bare("recvmsg"),
        (engine("io_uring", 1), ""),
        (engine("io_uring", 0), ""),
    ];
    let mut apart = engine("io_uring", 1);
    if let Kind::Engine(engine) = &mut apart {
        if paced {
            engine.coalesce_us = Some(0);
        } else {
            engine.arrivals = false;
        }
    }
    kinds.push((apart, if paced { ", coalesce 0" } else { ", arrivals off" }));
    kinds.extend([(engine("recvmmsg", 1), ""), (engine("recvmmsg", 0), "")]);
    if gro && !paced {
        // The call alone: takes trains, copies nothing, sleeps long. What an engine costs more than this
        // is what happens after the kernel.
        kinds.push((bare("recvmmsg_naps").0, ", no copy: the floor"));
    }
    kinds
}

/// Gives a worker a core. On a host with a core for it, that one. Else: flat out it shares the sender's,
/// since beside the receiver it would preempt it in the middle of a batch; paced, the sender spins to its
/// deadlines and a worker there would wait milliseconds for a turn, so it shares the receiver's.
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
