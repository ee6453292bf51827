//! One finding: its status, text and fix.

use serde::Serialize;

use ringest_base::text::figures::printable;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to fix.
    Ok,
    /// A fact to know.
    Info,
    /// The check could not be made.
    Unknown,
    /// Datagrams are lost under load, or some were lost already.
    Warning,
    /// Receiving is impossible.
    Failure,
}

/// The part of the host that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The address to listen on.
    Address,
    /// Packet filter and connection tracking, before the sockets.
    Firewall,
    /// The kernel, and what io_uring can do in it.
    Kernel,
    /// Limits of this process.
    Limits,
    /// Socket buffers and the queues before them.
    Buffers,
    /// Losses since boot.
    Lost,
    /// Network interfaces.
    Interfaces,
    /// Cores and memory.
    Cpu,
}

impl Area {
    /// Returns the heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Address => "Address",
            Self::Firewall => "Firewall and connection tracking",
            Self::Kernel => "Kernel and io_uring",
            Self::Limits => "Limits of this process",
            Self::Buffers => "Socket buffers and queues",
            Self::Lost => "Lost since boot",
            Self::Interfaces => "Network interfaces",
            Self::Cpu => "Cores and memory",
        }
    }
}

/// A kernel setting to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Such as `net.core.rmem_max`.
    pub key: &'static str,
    /// Value to set.
    pub value: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the check for scripts: `rmem_max`, `nic.eth0.gro`.
    pub id: String,
    /// Part of the host.
    pub area: Area,
    /// Severity.
    pub status: Status,
    /// Value that was read, with its unit.
    pub found: String,
    /// Source of the value: a file, a system call or a command.
    pub source: String,
    /// Meaning, in a sentence.
    pub meaning: String,
    /// Command that fixes it, to be run as it stands by root; empty if there is nothing to fix or no command does it.
    pub fix: String,
    /// The fix as a kernel setting, where it is one.
    pub sysctl: Option<Sysctl>,
}

/// The buffer to try for a socket that was full at the usual size, MiB.
pub(crate) const MORE_RCVBUF_MIB: u64 = 16;

/// A finding longer than this is cut: files and programs of a host may say anything.
const TEXT_MOST: usize = 600;

/// Returns the text cut to a bound and harmless to a terminal.
fn plain(text: &str) -> String {
    let mut text = printable(text);
    if text.chars().count() > TEXT_MOST {
        text = text.chars().take(TEXT_MOST - 1).chain(['…']).collect();
    }
    text
}

impl Check {
    /// Starts a check without a result.
    pub(crate) fn of(id: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            id: plain(&id.into()),
            area: Area::Kernel,
            status: Status::Unknown,
            found: String::new(),
            source: plain(&source.into()),
            meaning: String::new(),
            fix: String::new(),
            sysctl: None,
        }
    }

    /// Sets the result and its meaning.
    pub(crate) fn says(mut self, status: Status, found: &str, meaning: &str) -> Self {
        (self.status, self.found, self.meaning) = (status, plain(found), plain(meaning));
        self
    }

    /// Sets the result of a check that could not be made, with the reason.
    pub(crate) fn unknown(self, why: &str) -> Self {
        self.says(Status::Unknown, why, "Not readable here, so nothing can be said about it.")
    }

    /// Sets the command that fixes it. A command that cannot be shown unaltered is left out.
    pub(crate) fn mended_by(mut self, command: &str) -> Self {
        if plain(command) == command {
            command.clone_into(&mut self.fix);
        }
        self
    }

    /// Sets the kernel setting that fixes it.
    pub(crate) fn mended_by_sysctl(self, key: &'static str, value: &str) -> Self {
        let set = if value.contains(' ') {
            format!("sysctl -w {key}=\"{value}\"")
        } else {
            format!("sysctl -w {key}={value}")
        };
        let sysctl = Some(Sysctl { key, value: value.to_owned() });
        Self { sysctl, ..self.mended_by(&set) }
    }

    pub(crate) fn in_area(mut self, area: Area) -> Self {
        self.area = area;
        self
    }
}

/// Returns a word of a shell command, in quotes if it needs them.
pub(crate) fn word(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_-.:/@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `512 B`, `64 KiB`, `4 MiB`, `4.2 MiB`: exact sizes without decimals.
pub(crate) fn bytes(bytes: u64) -> String {
    let (shift, unit) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (10, "KiB"),
        1_048_576..1_073_741_824 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    let (whole, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
    match (rest * 10) >> shift {
        0 => format!("{whole} {unit}"),
        tenths => format!("{whole}.{tenths} {unit}"),
    }
}

/// `part` of `total` in percent; a loss is never rounded to nothing.
pub(crate) fn share(part: u64, total: u64) -> String {
    if part == 0 || total == 0 {
        return "0 %".to_owned();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(total);
    match hundredths {
        0 => "< 0.01 %".to_owned(),
        1..1000 => format!("{}.{:02} %", hundredths / 100, hundredths % 100),
        _ => format!("{} %", hundredths / 100),
    }
}

/// `1 receiver`, `2 receivers`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `core 1`, `cores 0,2-3`.
pub(crate) fn on_cores(cores: &[usize]) -> String {
    format!("{} {}", if cores.len() == 1 { "core" } else { "cores" }, core_list(cores))
}

/// `0,2-3`.
pub(crate) fn core_list(cores: &[usize]) -> String {
    let mut cores = cores.to_vec();
    cores.sort_unstable();
    cores.dedup();
    let runs = cores.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// Returns cores in the form of `rps_cpus`: groups of 32 bits in hex, the highest first.
pub(crate) fn core_mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |most| most / 32 + 1);
    let mut words = vec![0_u32; groups];
    for core in cores {
        words[core / 32] |= 1 << (core % 32);
    }
    let (highest, rest) = words.split_last().map_or((0, &[][..]), |(last, rest)| (*last, rest));
    let rest = rest.iter().rev().map(|word| format!(",{word:08x}"));
    std::iter::once(format!("{highest:x}")).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_neither_steers_a_terminal_nor_becomes_a_command() {
        let check = Check::of("nic.a\x1b[2J", "f").says(Status::Info, "x\x1b]0;t\x07", "\u{202e}");
        let all = format!("{}{}{}", check.id, check.found, check.meaning);
        assert!(!all.contains(['\x1b', '\x07', '\u{202e}']), "{all:?}");
        assert_eq!(check.mended_by("ip link set dev 'a\x1b' up").fix, "");
        assert_eq!(word("eth0.100"), "eth0.100");
        assert_eq!(word("a; rm -rf ~"), "'a; rm -rf ~'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(""), "''");
        let long = Check::of("x", "y").says(Status::Info, &"a".repeat(9999), "");
        assert_eq!(long.found.chars().count(), TEXT_MOST);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!([bytes(512), bytes(212_992), bytes(4 << 20)], ["512 B", "208 KiB", "4 MiB"]);
        assert_eq!([bytes((4 << 20) + (300 << 10)), bytes(1 << 30)], ["4.2 MiB", "1 GiB"]);
        assert_eq!(
            [share(0, 10), share(1, 1_000_000), share(1, 100)],
            ["0 %", "< 0.01 %", "1.00 %"]
        );
        assert_eq!([share(1, 2), share(u64::MAX, u64::MAX)], ["50 %", "100 %"]);
        assert_eq!(core_list(&[3, 0, 2, 5]), "0,2-3,5");
        assert_eq!([core_mask(&[]), core_mask(&[0, 1])], ["0", "3"]);
        assert_eq!(core_mask(&[4, 33]), "2,00000010");
    }

    #[test]
    fn a_setting_of_several_numbers_is_one_argument() {
        let check = Check::of("udp_mem", "").mended_by_sysctl("net.ipv4.udp_mem", "1 2 3");
        assert_eq!(check.fix, r#"sysctl -w net.ipv4.udp_mem="1 2 3""#);
    }
}
