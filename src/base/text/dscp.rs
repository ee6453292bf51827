//! DSCP classes by their names, as the registry of RFC 2474 has them.

use std::fmt;
use std::str::FromStr;

/// The six bits of a DSCP (RFC 2474), 0 to 63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dscp(u8);

crate::as_text!(Dscp);

impl Dscp {
    /// Returns the six bits, as a number up to 63.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl FromStr for Dscp {
    type Err = String;

    /// Reads the name of a class, in upper or lower case, or a number.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        if let Some((_, value)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*value));
        }
        match (class(&name), name.parse()) {
            (Some(value), _) | (None, Ok(value @ 0..=63)) => Ok(Self(value)),
            _ => {
                Err("expected a class (ef, af11 to af43, cs0 to cs7, le, va) or 0 to 63".to_owned())
            }
        }
    }
}

impl fmt::Display for Dscp {
    /// Prints the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Expedited forwarding (RFC 3246), voice admit (RFC 5865), lower effort (RFC 8622), and best effort, the
/// default.
const NAMED: [(&str, u8); 6] =
    [("ef", 46), ("va", 44), ("voice-admit", 44), ("le", 1), ("be", 0), ("default", 0)];

/// Returns the value of `cs0` to `cs7` (class selectors, RFC 2474) and `af11` to `af43` (assured forwarding class 1 to 4,
/// with drop precedence 1 to 3, RFC 2597); `None` for any other name.
fn class(name: &str) -> Option<u8> {
    let digits = |text: &str| text.bytes().map(|byte| byte.wrapping_sub(b'0')).collect::<Vec<_>>();
    if let Some(rest) = name.strip_prefix("cs") {
        return match digits(rest)[..] {
            [class @ 0..=7] => Some(class << 3),
            _ => None,
        };
    }
    match digits(name.strip_prefix("af")?)[..] {
        [class @ 1..=4, precedence @ 1..=3] => Some((class << 3) | (precedence << 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_and_numbers_are_six_bits() {
        for (text, value) in [
            ("ef", 46),
            ("EF", 46),
            ("af11", 10),
            ("af41", 34),
            ("af43", 38),
            ("cs0", 0),
            ("cs6", 48),
            ("le", 1),
            ("0", 0),
            ("63", 63),
        ] {
            assert_eq!(text.parse(), Ok(Dscp(value)), "{text}");
        }
        for text in ["", "64", "-1", "cs8", "cs", "af", "af51", "af14", "af111", "gold", "0x2e"] {
            assert!(text.parse::<Dscp>().unwrap_err().contains("af11"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_none_is_over_six_bits(text in any::<String>()) {
            prop_assert!(text.parse::<Dscp>().is_ok_and(|dscp| dscp.bits() > 63).eq(&false));
        }
    }
}
