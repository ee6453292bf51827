//! Figures that a person can read, and text from another host made harmless.

use std::time::{Duration, UNIX_EPOCH};

/// A count as a number to draw or divide with.
#[expect(clippy::cast_precision_loss, reason = "a figure to be looked at needs no 53 bits")]
#[must_use]
pub fn real(count: u64) -> f64 {
    count as f64
}

/// `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    group(&number.to_string())
}

/// `1,234,567/s`; a dash where there is none.
#[must_use]
pub fn pps(rate: Option<f64>) -> String {
    rate.map_or_else(dash, |rate| format!("{}/s", whole(rate)))
}

/// A number without its decimals, grouped. Beyond what a count can be, in powers of ten.
#[must_use]
pub fn whole(number: f64) -> String {
    if !number.is_finite() {
        return "?".to_owned();
    }
    if number.abs() >= 1e15 {
        return format!("{number:.1e}");
    }
    let digits = format!("{:.0}", number.abs());
    let sign = if number < 0.0 && digits != "0" { "−" } else { "" };
    format!("{sign}{}", group(&digits))
}

/// Digits in threes: `1,234,567`.
#[must_use]
pub fn group(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Shown in place of a missing figure.
#[must_use]
pub fn dash() -> String {
    "–".to_owned()
}

/// At most `decimals`, and none that say nothing: `1.5`, `2`.
pub fn trimmed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Short, for an axis: `850`, `1.2 M`.
#[must_use]
pub fn short(number: f64) -> String {
    match number.abs() {
        size if !size.is_finite() => "?".to_owned(),
        0.0 => "0".to_owned(),
        size if !(0.001..1e15).contains(&size) => format!("{number:.0e}"),
        size if size < 1e3 => trimmed(number, 3),
        size if size < 1e6 => format!("{} k", trimmed(number / 1e3, 2)),
        size if size < 1e9 => format!("{} M", trimmed(number / 1e6, 2)),
        _ => format!("{} G", trimmed(number / 1e9, 2)),
    }
}

/// For an axis whose figures are read one by one: `1,500`, and [`short`] from a million on.
#[must_use]
pub fn plain(number: f64) -> String {
    if (1e3..1e6).contains(&number) { whole(number) } else { short(number) }
}

/// Three digits that say something: `812 k`, `1.23 M`.
#[must_use]
pub fn rounded(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        size if !size.is_finite() || size >= 1e15 => return short(number),
        size if size < 999.5 => (number, ""),
        size if size < 999_500.0 => (number / 1e3, " k"),
        size if size < 999.5e6 => (number / 1e6, " M"),
        _ => (number / 1e9, " G"),
    };
    let decimals = match scaled.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{}{unit}", trimmed(scaled, decimals))
}

/// A time: `850 ns`, `1.2 µs`, `34 ms`. One decimal up to 10, none from there on.
#[must_use]
pub fn nanos(nanos: f64) -> String {
    let scaled = |value: f64, unit: &str| {
        if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
    };
    match nanos {
        time if !time.is_finite() => "?".to_owned(),
        time if time < 999.5 => format!("{time:.0} ns"),
        time if time < 999_500.0 => scaled(time / 1e3, "µs"),
        time if time < 999.5e6 => scaled(time / 1e6, "ms"),
        time => scaled((time / 1e9).min(1e12), "s"),
    }
}

/// CPU time per datagram, always in nanoseconds so that rows can be compared.
#[must_use]
pub fn cost(nanos: Option<f64>) -> String {
    nanos.filter(|cost| cost.is_finite()).map_or_else(dash, |cost| {
        if cost < 99.95 { format!("{cost:.1} ns") } else { format!("{} ns", whole(cost)) }
    })
}

/// Returns a ratio, 0 to 1, in per cent. A ratio above 0 is never shown as 0 %, and one below 1 never as 100 %.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let missing = 100.0 - percent;
    match percent.abs() {
        size if !size.is_finite() => "?".to_owned(),
        0.0 => "0 %".to_owned(),
        100.0 => "100 %".to_owned(),
        _ if missing > 0.0 && missing < 0.0001 => "> 99.9999 %".to_owned(),
        _ if missing > 0.0 && missing < 0.1 => format!("{percent:.4} %"),
        _ if missing > 0.0 && missing < 1.0 => format!("{percent:.2} %"),
        size if size < 0.0001 => "< 0.0001 %".to_owned(),
        size if size < 0.1 => format!("{percent:.4} %"),
        size if size < 9.995 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// A ratio as a round value of an axis: `2.5 %`.
#[must_use]
pub fn percent_tick(ratio: f64) -> String {
    format!("{} %", short(ratio * 100.0))
}

/// Returns `part` of `whole` in per cent; 0 % if `whole` is 0.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { percent(real(part) / real(whole)) }
}

/// `64 KiB`, `4.0 MiB`.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    let scaled = |value: f64, unit: &str| {
        if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{} {unit}", whole(value)) }
    };
    match bytes {
        size if !size.is_finite() => "?".to_owned(),
        size if size < 1024.0 => format!("{size:.0} B"),
        size if size < 1_048_576.0 => scaled(size / 1024.0, "KiB"),
        size if size < 1_073_741_824.0 => scaled(size / 1_048_576.0, "MiB"),
        size => scaled(size / 1_073_741_824.0, "GiB"),
    }
}

/// `1.23`.
#[must_use]
pub fn ratio(number: f64) -> String {
    if number.is_finite() && number.abs() < 1e6 { format!("{number:.3}") } else { short(number) }
}

/// Seconds: `2 s`, `0.5 s`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    if seconds.is_finite() { format!("{} s", trimmed(seconds, 2)) } else { "?".to_owned() }
}

/// Returns a time as `2026-10-04 12:31 UTC`, or as seconds since 1970 from the year 10000 on.
#[must_use]
pub fn date(unix_s: u64) -> String {
    // The calendar of RFC 3339 ends with the year 9999.
    if unix_s > 253_402_300_799 {
        return format!("{unix_s} s since 1970");
    }
    let time =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_s)).to_string();
    format!("{} UTC", time[..16].replace('T', " "))
}

/// Replaces characters that control a terminal or change the direction of text, so that text from another host stays
/// where it is printed.
#[must_use]
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns the text as [`printable`] does, cut to at most `most` characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Returns the text as [`printable`] does, safe within HTML text and a double-quoted attribute.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([whole(1234.6), whole(-1234.6), whole(-0.2)], ["1,235", "−1,235", "0"]);
        assert_eq!([whole(f64::NAN), whole(1e300)], ["?", "1.0e300"]);
        assert_eq!([short(0.0), short(850.0), short(1.2e6)], ["0", "850", "1.2 M"]);
        assert_eq!([short(2e4), short(3e9), short(1e300)], ["20 k", "3 G", "1e300"]);
        assert_eq!(
            [rounded(812_400.0), rounded(1_234_567.0), rounded(20.0)],
            ["812 k", "1.23 M", "20"]
        );
        assert_eq!([plain(1500.0), plain(2e6), plain(0.5)], ["1,500", "2 M", "0.5"]);
        assert_eq!([nanos(850.0), nanos(1234.0), nanos(3.4e7)], ["850 ns", "1.2 µs", "34 ms"]);
        assert_eq!([percent(0.0), percent(1e-9), percent(0.005)], ["0 %", "< 0.0001 %", "0.50 %"]);
        assert_eq!([percent(1.0), percent(0.9999)], ["100 %", "99.9900 %"]);
        assert_eq!([percent(0.51), percent(0.0001)], ["51.0 %", "0.0100 %"]);
        assert_eq!(
            [cost(Some(12.34)), cost(Some(1234.5)), cost(None)],
            ["12.3 ns", "1,234 ns", "–"]
        );
        assert_eq!([bytes(512.0), bytes(65_536.0)], ["512 B", "64 KiB"]);
        assert_eq!([seconds(2.0), seconds(0.5)], ["2 s", "0.5 s"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(date(253_402_300_799), "9999-12-31 23:59 UTC");
        assert!(date(u64::MAX).ends_with("since 1970"));
    }

    #[test]
    fn text_of_another_host_is_harmless() {
        let hostile = "<script>alert('x')</script>\x1b[2J\u{202e}&\"";
        let escaped = escape(hostile);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\x1b', '\u{202e}']), "{escaped}");
        assert!(
            escaped.contains("&lt;script&gt;") && escaped.ends_with("&amp;&quot;"),
            "{escaped}"
        );
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
