//! How things look: colour where it is wanted, numbers a person can read, lines that fit.

use std::io::{self, IsTerminal, Write};

pub(crate) use ringest_base::text::figures::count;
use ringest_base::text::figures::{self, group, real};

/// Says something on stderr. A stderr that cannot be written to leaves nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether `stream` is a terminal that understands escape sequences.
pub(crate) fn is_terminal(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours, or not: only on a terminal, and not if NO_COLOR is set (no-color.org).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { on: false };

    pub(crate) fn stderr() -> Self {
        Self::for_stream(&io::stderr())
    }

    pub(crate) fn stdout() -> Self {
        Self::for_stream(&io::stdout())
    }

    fn for_stream(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: !refused && is_terminal(stream) }
    }

    /// Pad before painting: the escapes have a length, but no width.
    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
}

/// A number without its decimals, grouped.
pub(crate) fn whole(number: f64) -> String {
    group(&format!("{number:.0}"))
}

/// CPU time per datagram, always in nanoseconds so that rows can be compared.
pub(crate) fn cost(nanos: f64) -> String {
    format!("{} ns", whole(nanos))
}

/// The same, where there may be none: before the first datagram, or because a handler that runs
/// inline has no CPU time of its own.
pub(crate) fn cost_or_none(nanos: Option<f64>) -> String {
    nanos.filter(|nanos| *nanos > 0.0).map_or_else(|| "-".to_owned(), cost)
}

/// Formats a time in ns: `850 ns`, `12 µs`, `3.4 ms`.
pub(crate) fn nanos(nanos: u64) -> String {
    figures::nanos(real(nanos))
}

/// Formats a size: `512 B`, `64 KiB`, `4.2 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    figures::bytes(real(bytes))
}

/// `part` of `total` in percent; a loss is never rounded to nothing.
pub(crate) fn percent(part: u64, total: u64) -> String {
    if total == 0 {
        return String::new();
    }
    let share = part as f64 * 100.0 / total as f64;
    match share {
        _ if part == 0 => "0 %".to_owned(),
        share if share < 0.01 => "< 0.01 %".to_owned(),
        share if share < 9.995 => format!("{share:.2} %"),
        share => format!("{share:.1} %"),
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters.
pub(crate) fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        if used == 0 {
            lines[last].push_str(word);
        } else if used + 1 + word.chars().count() <= width {
            lines[last].push(' ');
            lines[last].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// `text` wrapped to a readable width and indented by `indent`.
pub(crate) fn paragraph(text: &str, indent: usize) -> String {
    let width = 96usize.saturating_sub(indent);
    lines(text, width).iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([count(0), count(999), count(1000)], ["0", "999", "1,000"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(whole(1234.6), "1,235");
        assert_eq!([nanos(850), nanos(1234), nanos(12_345)], ["850 ns", "1.2 µs", "12 µs"]);
        assert_eq!([nanos(3_400_000), nanos(2_000_000_000)], ["3.4 ms", "2.0 s"]);
        assert_eq!([bytes(512), bytes(65_536), bytes(4 << 20)], ["512 B", "64 KiB", "4.0 MiB"]);
        assert_eq!([percent(0, 10), percent(1, 1_000_000)], ["0 %", "< 0.01 %"]);
        assert_eq!([percent(1, 100), percent(10, 10), percent(1, 0)], ["1.00 %", "100.0 %", ""]);
    }

    #[test]
    fn text_breaks_at_spaces() {
        assert_eq!(lines("one two three", 8), ["one two", "three"]);
        assert_eq!(lines("unbreakable x", 4), ["unbreakable", "x"]);
        assert_eq!(paragraph("a b", 2), "  a b\n");
    }

    #[test]
    fn plain_text_stays_plain() {
        assert_eq!(Paint::PLAIN.red("x"), "x");
        assert_eq!(Paint { on: true }.red("x"), "\x1b[1;31mx\x1b[0m");
    }
}
