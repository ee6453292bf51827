//! Numbers, and lists and masks of cores.

/// Cores are numbered below this; the kernel's own limit is 8192 (NR_CPUS).
const CORES_MOST: usize = 8192;

/// Reads a file that is one number.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Reads the numbers of a line, up to the first word that is none.
pub(crate) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// Reads a cpulist, `0-3,8` (Documentation/admin-guide/cputopology.rst). An empty one is empty.
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

/// Reads a cpumask, `00000000,0000000f`, the highest cores first.
pub(crate) fn core_mask(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for (index, word) in text.trim().split(',').rev().enumerate().take(CORES_MOST / 32) {
        let bits = u32::from_str_radix(word, 16).ok()?;
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| index * 32 + bit));
    }
    Some(cores)
}
