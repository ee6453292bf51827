//! Intervals as text.

use crate::document::report::Interval;
use ringest_base::text::figures::dash;

/// Formats a median and its interval: `12.0 ns [11.2 – 13.1]`. A unit that all three share is written
/// once.
#[must_use]
pub fn interval(interval: Option<&Interval>, figure: fn(f64) -> String) -> String {
    let Some(found) = interval else { return dash() };
    let [median, low, high] = [found.median, found.low, found.high].map(figure);
    let unit = |text: &str| text.rsplit_once(' ').map(|(_, unit)| unit.to_owned());
    let bare = |text: &str| text.rsplit_once(' ').map_or(text, |(bare, _)| bare).to_owned();
    if unit(&median) == unit(&low) && unit(&low) == unit(&high) && !median.starts_with('<') {
        return format!("{median} [{} – {}]", bare(&low), bare(&high));
    }
    format!("{median} [{low} – {high}]")
}

#[cfg(test)]
mod tests {
    use ringest_base::text::figures::{cost, nanos, whole};

    use super::*;

    #[test]
    fn a_unit_is_said_once_where_it_is_one() {
        let found = Interval { median: 12.0, low: 9.0, high: 2000.0, samples: 7 };
        assert_eq!(interval(Some(&found), nanos), "12 ns [9 ns – 2.0 µs]");
        assert_eq!(interval(Some(&found), whole), "12 [9 – 2,000]");
        assert_eq!(interval(Some(&found), |time| cost(Some(time))), "12.0 ns [9.0 – 2,000]");
    }
}
