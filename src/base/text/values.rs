//! Sizes, durations, rates, core lists and numbers as a person types them. Each type reads the text of a flag or
//! of a settings file (`FromStr`, serde), prints text that reads back as the same value (`Display`), and says in
//! its error what it expected.
//!
//! | type | examples | units |
//! |---|---|---|
//! | `ByteSize` | `65536`, `64K`, `1.5G`, `4MiB`, `10MB` | `K M G T` and `KiB MiB GiB TiB`: powers of 1024; `KB MB GB TB`: powers of 1000 |
//! | `Span` | `250ms`, `5s`, `1m 30s` | `ns us ms s m h d …`; longer than zero |
//! | `Pause` | `0`, `250ms` | as `Span`, or zero |
//! | `Rate` | `50k`, `1.2M`, `200Mbps`, `max` | `k M G`: powers of 1000 |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::as_text;

as_text!(ByteSize, Span, Pause, Rate, Cores, Threads, Coalesce, Number, Byte);

/// The longest duration: longer than any run, and short enough that adding it to a clock cannot overflow.
const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Upper bound of core numbers: the number of bits in the kernel's `cpu_set_t`.
const CORES_MAX: usize = 1024;

/// Digits behind the point of a size. More would not fit the arithmetic, and no unit needs as many.
const FRACTION_DIGITS_MAX: usize = 18;

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the size in bytes as memory sizes are counted; the largest `usize` if it is larger.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Units of sizes and their bytes, in lower case. Upper and lower case mean the same.
const SIZE_UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = String;

    /// Reads digits, with a fraction or not, and a unit. A fraction of a byte is cut off.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected bytes, such as 65536, 64K, 4M or 1.5G (1K is 1024, 1KB is 1000)".to_owned()
        };
        let too_large = || format!("{text} is more than any host has");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let suffix = suffix.to_ascii_lowercase();
        let unit = SIZE_UNITS.iter().find(|(name, _)| *name == suffix).map(|(_, unit)| *unit);
        let unit = u128::from(unit.ok_or_else(expected)?);
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(expected()),
            Some((whole, fraction)) => (whole, fraction),
            None => (number, ""),
        };
        let is_odd =
            whole.is_empty() || fraction.contains('.') || !fraction.is_empty() && unit == 1;
        if is_odd || fraction.len() > FRACTION_DIGITS_MAX {
            return Err(expected());
        }
        // Digits that do not fit are no other error: there is nothing else in the text.
        let whole: u128 = whole.parse().map_err(|_| too_large())?;
        let part = match fraction {
            "" => 0,
            digits => {
                let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(0));
                digits.parse::<u128>().map_err(|_| expected())? * unit / scale
            }
        };
        let bytes = whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part));
        let bytes = bytes.filter(|bytes| *bytes <= MOST_BYTES).ok_or_else(too_large)?;
        u64::try_from(bytes).map(Self).map_err(|_| too_large())
    }
}

/// The largest size: memory and files are addressed with this many bits.
const MOST_BYTES: u128 = u64::MAX as u128;

impl fmt::Display for ByteSize {
    /// Prints the largest unit of 1024 that divides the size, such as `64K`, and plain bytes otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
        let fits = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.into_iter().find(|(_, shift)| fits(*shift)) {
            Some((unit, shift)) => f.pad(&format!("{}{unit}", self.0 >> shift)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

/// A duration longer than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    /// Reads numbers with their units, such as `5s`, `250ms` or `1m 30s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let span = humantime::parse_duration(text)
            .map_err(|_| "expected a duration with its unit, such as 250ms, 5s or 1m".to_owned())?;
        if span.is_zero() {
            return Err("expected longer than nothing, such as 250ms, 5s or 1m".to_owned());
        }
        if span > SPAN_MAX {
            return Err(
                "expected at most 100 years; leave it out to go on until stopped".to_owned()
            );
        }
        Ok(Self(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// A duration, or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause(pub Duration);

impl FromStr for Pause {
    type Err = String;

    /// Reads `0` or a [`Span`].
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" { Ok(Self::default()) } else { text.parse().map(|Span(span)| Self(span)) }
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.pad("0") } else { Span(self.0).fmt(f) }
    }
}

impl From<Pause> for Duration {
    fn from(pause: Pause) -> Self {
        pause.0
    }
}

/// A sending rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as the kernel takes datagrams. No datagram is ever late, so none is `unsent`.
    Max,
    /// Datagrams a second.
    Pps(f64),
    /// Payload bits a second; the mean size of the datagrams makes datagrams a second of it.
    Bps(f64),
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `max`, datagrams a second (`50000`, `50k`, `50kpps`) or bits a second (`100Mbps`).
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match scaled(text) {
            Some((number, "" | "pps" | "bps" | "bit" | "bit/s")) if number <= 0.0 => {
                Err("a rate of 0 sends nothing; leave the load out, or give a rate above 0"
                    .to_owned())
            }
            Some((pps, "" | "pps")) => Ok(Self::Pps(pps)),
            Some((bps, "bps" | "bit" | "bit/s")) => Ok(Self::Bps(bps)),
            _ => Err(
                "expected datagrams a second (50000, 50k, 1M), bits a second (100Mbps, 2.5Gbps) \
                      or max"
                    .to_owned(),
            ),
        }
    }
}

/// Splits off a decimal number with `k`, `M` or `G` for powers of 1000, and returns it with the rest. `None` if
/// the text begins with no finite number.
fn scaled(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let (factor, rest) = match rest.as_bytes().first() {
        Some(b'k' | b'K') => (1e3, &rest[1..]),
        Some(b'M') => (1e6, &rest[1..]),
        Some(b'G') => (1e9, &rest[1..]),
        _ => (1.0, rest),
    };
    let number = number * factor;
    number.is_finite().then_some((number, rest))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match *self {
            Self::Max => return f.pad("max"),
            Self::Pps(pps) => (pps, ""),
            Self::Bps(bps) => (bps, "bps"),
        };
        // Only where the shorter text reads back as the same number.
        let prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
        let shorter = prefixes
            .into_iter()
            .map(|(factor, prefix)| (number / factor, factor, prefix))
            .find(|(short, factor, _)| {
                short.fract() == 0.0 && *short >= 1.0 && short * factor == number
            });
        match shorter {
            Some((short, _, prefix)) => f.pad(&format!("{short}{prefix}{unit}")),
            None => f.pad(&format!("{number}{unit}")),
        }
    }
}

/// Cores by number, in the order given, none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

impl FromStr for Cores {
    type Err = String;

    /// Reads numbers and ranges with commas between them, such as `0,2-3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (core(first)?, core(last)?);
            if first > last {
                return Err(format!("{part} runs backwards: write {last}-{first}"));
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(format!("core {core} is given twice"));
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

fn core(text: &str) -> Result<usize, String> {
    let core = text.parse().map_err(|_| "expected core numbers, such as 0 or 0,2-3".to_owned())?;
    if core >= CORES_MAX {
        return Err(format!("core {core}: cores are numbered below {CORES_MAX}"));
    }
    Ok(core)
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&cores.join(","))
    }
}

/// A number of threads, or `auto` (`None`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threads(pub Option<usize>);

impl FromStr for Threads {
    type Err = String;

    /// Reads `auto` or a number.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let number = text.parse().map_err(|_| "expected auto or a number of threads".to_owned())?;
        Ok(Self(Some(number)))
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => f.pad(&number.to_string()),
            None => f.pad("auto"),
        }
    }
}

/// The most latency that gathering datagrams may add, or `auto` (`None`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalesce(pub Option<Duration>);

impl FromStr for Coalesce {
    type Err = String;

    /// Reads `auto`, `0` (never wait) or a [`Span`].
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        text.parse().map(|Pause(bound)| Self(Some(bound))).map_err(|_| {
            "expected auto, 0 (never wait) or a duration with its unit, such as 200us".to_owned()
        })
    }
}

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bound) => Pause(bound).fmt(f),
            None => f.pad("auto"),
        }
    }
}

/// A 32-bit number, in decimal, or in hexadecimal with `0x` before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(pub u32);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed
            .map(Self)
            .map_err(|_| "expected a number up to 4294967295, such as 7 or 0x1f".to_owned())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A byte, in decimal, or in hexadecimal with `0x` before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Byte(pub u8);

impl FromStr for Byte {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let byte = text.parse().ok().and_then(|Number(number)| u8::try_from(number).ok());
        byte.map(Self).ok_or_else(|| "expected 0 to 255, such as 184 or 0xb8".to_owned())
    }
}

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
