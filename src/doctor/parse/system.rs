//! Files of the rest of the kernel.

/// Reads a kernel release: `6.18.44-fc` is (6, 18).
pub(crate) fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Returns the value after `Name:` in a file like /proc/self/status.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim())
}

/// Reads the effective capabilities in /proc/self/status, a bit each (capabilities(7)).
pub(crate) fn capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff")?, 16).ok()
}

/// One of the two values of a line of /proc/self/limits; `None`: unlimited.
pub(crate) type Limit = Option<u64>;

/// Reads the soft and the hard limit of `name` in /proc/self/limits.
pub(crate) fn limit(text: &str, name: &str) -> Option<(Limit, Limit)> {
    let value = |word: &str| match word {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    Some((value(words.next()?)?, value(words.next()?)?))
}

/// Reads a line of /proc/meminfo, in bytes (`kB` there means KiB) or as a plain number.
pub(crate) fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?;
    match value.strip_suffix("kB") {
        Some(kib) => kib.trim().parse::<u64>().ok()?.checked_mul(1024),
        None => value.parse().ok(),
    }
}

/// Returns the word in brackets: `always [madvise] never`.
pub(crate) fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

/// Returns the systemd unit of a process, from /proc/PID/cgroup.
pub(crate) fn unit(cgroup: &str) -> Option<&str> {
    let names = cgroup.lines().filter_map(|line| line.rsplit('/').next());
    let mut units = names.filter(|name| name.ends_with(".service"));
    units.find(|name| !name.starts_with("user@"))
}

/// A line of /proc/interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Irq {
    pub(crate) number: u32,
    /// Interrupts since boot, a column for each core that is online.
    pub(crate) counts: Vec<u64>,
    /// Last word of the line: `eth0-TxRx-0`, `virtio2-input.0`.
    pub(crate) name: String,
}

/// Reads the device lines of /proc/interrupts. Only cores that are online have a column, so the first line tells their
/// number; the words between counts and name differ by controller and kernel.
pub(crate) fn interrupts(text: &str) -> Vec<Irq> {
    let mut lines = text.lines();
    let cores = lines.next().unwrap_or_default().split_whitespace().count();
    lines.filter_map(|line| interrupt(line, cores)).collect()
}

fn interrupt(line: &str, cores: usize) -> Option<Irq> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let counts: Option<Vec<u64>> = words.iter().take(cores).map(|word| word.parse().ok()).collect();
    let name = words.get(cores..)?.last()?;
    Some(Irq { number, counts: counts?, name: (*name).to_owned() })
}
