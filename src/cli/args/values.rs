//! Single values as they are typed, for flags that take a plain number or duration of the library. The types that
//! read them are in [`ringest_base::text::values`]. Each reader says what it expected.

use std::time::Duration;

use ringest_base::text::values::{ByteSize, Pause, Span};
use ringest_load::spec::{Gso, PAYLOAD_BYTES_MAX, Sizes, TRAIN_MAX};

/// Reads a [`ByteSize`] and returns it in bytes.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    text.parse().map(ByteSize::as_usize)
}

/// Reads a [`Span`], such as `5s`, `250ms` or `1m 30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|Span(span)| span)
}

/// Reads a [`Pause`]: `0` or a duration.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    text.parse().map(|Pause(pause)| pause)
}

/// Reads how many records may be on their way to a broker. With too few, each waits for the one before it; with
/// too many, memory has no bound.
pub(crate) fn window(text: &str) -> Result<usize, String> {
    let window = text.parse().ok().filter(|window| (1..=1 << 20).contains(window));
    window.ok_or_else(|| "expected a number from 1 to 1048576".to_owned())
}

/// Returns the first of some flags that was given, or `None` if none was.
pub(crate) fn given<const N: usize>(flags: [(&'static str, bool); N]) -> Option<&'static str> {
    flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
}

/// Reads a factor of speed: `2`, `0.5`, `10`.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(speed) if plain && speed > 0.0 && speed.is_finite() => Ok(speed),
        Ok(0.0) => Err("at a speed of 0 it never ends; give one above 0".to_owned()),
        _ => Err("expected how many times as fast, such as 0.5, 2 or 10".to_owned()),
    }
}

/// Reads sizes of payloads: `64`, `64-1400` or `imix`.
pub(crate) fn sizes(text: &str) -> Result<Sizes, String> {
    let number = |text: &str| -> Result<usize, String> {
        let size = text
            .parse()
            .map_err(|_| "expected bytes (64), a range (64-1400) or imix".to_owned())?;
        if size > PAYLOAD_BYTES_MAX {
            return Err(format!("a UDP datagram carries at most {PAYLOAD_BYTES_MAX} bytes"));
        }
        Ok(size)
    };
    match text.split_once('-') {
        None if text == "imix" => Ok(Sizes::Imix),
        None => number(text).map(Sizes::Fixed),
        Some((low, high)) => {
            let (low, high) = (number(low)?, number(high)?);
            if low > high {
                return Err(format!("{text} runs backwards: write {high}-{low}"));
            }
            Ok(Sizes::Range(low, high))
        }
    }
}

/// Reads how many datagrams go into one send: `auto`, `off` or a number.
pub(crate) fn gso(text: &str) -> Result<Gso, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Gso::Auto),
        ("off", _) | (_, Ok(1)) => Ok(Gso::Off),
        (_, Ok(train @ 2..=TRAIN_MAX)) => Ok(Gso::Trains(train)),
        _ => Err(format!("expected auto, off or 2 to {TRAIN_MAX} datagrams per send")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        for (text, bytes) in [("0", 0), ("64K", 65_536), ("4MiB", 4 << 20), ("1.5G", 3 << 29)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("4MM").is_err() && size("17179869185G").is_err());
    }

    #[test]
    fn only_a_pause_may_be_nothing() {
        assert_eq!((pause("0"), duration("5s")), (Ok(Duration::ZERO), Ok(Duration::from_secs(5))));
        assert!(duration("0").is_err() && duration("0s").is_err() && pause("5").is_err());
    }

    #[test]
    fn sizes_are_one_a_range_or_a_mix() {
        assert_eq!(sizes("64"), Ok(Sizes::Fixed(64)));
        assert_eq!(sizes("0-1400"), Ok(Sizes::Range(0, 1400)));
        assert_eq!(sizes("imix"), Ok(Sizes::Imix));
        for text in ["", "65508", "2-1", "-", "1-", "64K", "0-65508"] {
            assert!(sizes(text).is_err(), "{text}");
        }
        assert_eq!((gso("auto"), gso("off")), (Ok(Gso::Auto), Ok(Gso::Off)));
        assert_eq!((gso("1"), gso("64")), (Ok(Gso::Off), Ok(Gso::Trains(64))));
        assert!(gso("0").is_err() && gso("65").is_err() && gso("on").is_err());
        assert_eq!((speed("2"), speed("0.5")), (Ok(2.0), Ok(0.5)));
        for text in ["", ".", "0", "-1", "nan", "inf", "1e3", "2x", "+2"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in any::<String>()) {
            let _ = (size(&text), duration(&text), pause(&text), sizes(&text), gso(&text));
            let _ = (speed(&text), window(&text));
        }

        #[test]
        fn a_size_is_its_number_shifted(number in 0usize..1 << 30, suffix in 0usize..4) {
            let text = format!("{number}{}", ["", "K", "M", "G"][suffix]);
            prop_assert_eq!(size(&text), Ok(number << (10 * suffix)));
        }
    }
}
