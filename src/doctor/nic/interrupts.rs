//! Compares the cores of a card's interrupts with those that the plan gives to receivers and workers.

use std::collections::BTreeSet;

use crate::check::{Check, Status, counted, on_cores};
use crate::files::Files;
use crate::nic::interface::{Interface, sys};
use crate::parse;
use crate::parse::Irq;
use crate::wanted::Wanted;

/// Returns `None` if the interface has no interrupts of its own.
pub(crate) fn check(files: &Files, interface: &Interface, wanted: &Wanted) -> Option<Check> {
    if !interface.physical {
        return None;
    }
    let check = interface.check("irq", "/proc/interrupts, /proc/irq/*/effective_affinity_list");
    let text = match files.read("/proc/interrupts") {
        Ok(text) => text,
        Err(why) => return Some(check.unknown(&why)),
    };
    let irqs = receiving(files, interface, parse::interrupts(&text));
    if irqs.is_empty() {
        return Some(check.unknown("none is known to be of this interface"));
    }
    let mut cores = BTreeSet::new();
    for irq in &irqs {
        match affinity(files, irq.number) {
            Ok(on) => cores.extend(on),
            Err(why) => return Some(check.unknown(&format!("/proc/irq/{}: {why}", irq.number))),
        }
    }
    Some(judge(check, &irqs, &cores, wanted))
}

/// Returns the interrupts of the interface: by the device's own list, else by name. Of these it returns the receiving
/// ones, if their names show which they are.
fn receiving(files: &Files, interface: &Interface, all: Vec<Irq>) -> Vec<Irq> {
    // A virtio device has its interrupts on the PCI device above it.
    let mut numbers = files.names(&sys(&interface.name, "device/msi_irqs"));
    numbers.extend(files.names(&sys(&interface.name, "device/../msi_irqs")));
    let numbers: Vec<u32> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let ours = |irq: &Irq| {
        if numbers.is_empty() {
            irq.name.contains(&interface.name)
        } else {
            numbers.contains(&irq.number)
        }
    };
    let ours: Vec<Irq> = all.into_iter().filter(ours).collect();
    let receives = |irq: &Irq| {
        let name = irq.name.to_ascii_lowercase();
        name.contains("rx")
            || name.contains("input")
            || name.contains("comp")
            || name.contains("queue")
    };
    if ours.iter().any(receives) { ours.into_iter().filter(receives).collect() } else { ours }
}

/// Returns the cores of an interrupt: the effective ones (Linux 4.13), else those asked for.
fn affinity(files: &Files, irq: u32) -> Result<Vec<usize>, String> {
    let read = |file: &str| files.read(&format!("/proc/irq/{irq}/{file}"));
    let text = read("effective_affinity_list").ok().filter(|text| !text.trim().is_empty());
    let text = text.map_or_else(|| read("smp_affinity_list"), Ok)?;
    parse::core_list(&text).ok_or_else(|| format!("not a list of cores: {}", text.trim()))
}

fn judge(check: Check, irqs: &[Irq], cores: &BTreeSet<usize>, wanted: &Wanted) -> Check {
    let list = on_cores(&cores.iter().copied().collect::<Vec<_>>());
    let found = format!("{} on {list}", counted(irqs.len(), "receive interrupt"));
    let receivers = &wanted.receiver_cores;
    let spread = || {
        let each = irqs.iter().zip(receivers.iter().cycle());
        let set = |(irq, core): (&Irq, &usize)| {
            format!("echo {core} > /proc/irq/{}/smp_affinity_list", irq.number)
        };
        each.map(set).collect::<Vec<_>>().join("; ")
    };
    if irqs.len() > 1 && cores.len() == 1 && receivers.len() > 1 {
        return check
            .says(
                Status::Warning,
                &found,
                "All queues of the card interrupt one core: it does the kernel's work for every \
                 frame.",
            )
            .mended_by(&spread());
    }
    let apart = |core: &usize| wanted.worker_cores.contains(core) && !receivers.contains(core);
    if cores.iter().any(apart) {
        return check
            .says(
                Status::Info,
                &found,
                &format!(
                    "The card interrupts cores of workers; the receivers are planned on {}.",
                    on_cores(receivers)
                ),
            )
            .mended_by(&spread());
    }
    check.says(Status::Ok, &found, "The card does not interrupt the cores of workers.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_held_against_the_plan() {
        let irq = |number| Irq { number, counts: vec![], name: "eth0-rx".into() };
        let wanted = Wanted {
            addresses: vec![],
            any: false,
            receiver_cores: vec![0, 1],
            worker_cores: vec![2, 3],
            rcvbuf_bytes: 1,
        };
        let judge = |irqs: &[Irq], cores: &[usize]| {
            judge(Check::of("nic.eth0.irq", ""), irqs, &cores.iter().copied().collect(), &wanted)
        };
        let one = judge(&[irq(30), irq(31), irq(32)], &[0]);
        assert_eq!(one.status, Status::Warning);
        assert_eq!(
            one.fix,
            "echo 0 > /proc/irq/30/smp_affinity_list; echo 1 > /proc/irq/31/smp_affinity_list; \
             echo 0 > /proc/irq/32/smp_affinity_list"
        );
        assert_eq!(judge(&[irq(30), irq(31)], &[0, 1]).status, Status::Ok);
        assert_eq!(judge(&[irq(30)], &[2]).status, Status::Info);
        assert_eq!(judge(&[irq(30)], &[7]).status, Status::Ok);
    }
}
