//! What the kernel writes under /proc and /sys, read by pure functions: text in, value out. No text
//! makes one panic; a field that is not there is `None`, because kernels differ in what they write.

/// Files of the network stack.
mod net;
/// Files of the rest of the kernel.
mod system;
#[cfg(test)]
mod tests;

pub(crate) use crate::parse::net::{
    Softnet, Table, conntrack_udp, hex_columns, snmp, snmp6, sockstat_udp_pages, softnet,
};
pub(crate) use crate::parse::system::{
    Irq, capabilities, chosen, field, interrupts, limit, meminfo_bytes, release, unit,
};
pub(crate) use ringest_base::host::holders::{UdpSocket, udp_sockets};

/// Cores are numbered below this; the kernel's own limit is 8192 (NR_CPUS).
const CORES_MOST: usize = 8192;

/// The number a file consists of.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The numbers of a line.
pub(crate) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// `0-3,8`: a cpulist (Documentation/admin-guide/cputopology.rst). An empty one is empty.
pub(crate) fn core_list(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let mut cores = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CORES_MOST {
            return None;
        }
        cores.extend(first..=last);
        cores.truncate(CORES_MOST);
    }
    Some(cores)
}

/// `00000000,0000000f`: a cpumask, the highest cores first.
pub(crate) fn core_mask(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for (index, word) in text.trim().split(',').rev().enumerate().take(CORES_MOST / 32) {
        let bits = u32::from_str_radix(word, 16).ok()?;
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| index * 32 + bit));
    }
    Some(cores)
}
