//! Closed sets of values, each with one name, as flags, settings files and reports write it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};

/// A type with a fixed list of values, each with one name. Implement it with [`names!`](crate::names).
pub trait Named: Copy + PartialEq + 'static {
    /// All values, in the order that help texts list them.
    const ALL: &'static [Self];
    /// The names of [`ALL`](Self::ALL), in the same order.
    const NAMES: &'static [&'static str];
    /// A description of each value for help texts, in the same order; empty where none is needed.
    const HELP: &'static [&'static str];

    /// Returns the value that has this name, or `None` if no value has it. Upper and lower case differ.
    fn from_name(name: &str) -> Option<Self> {
        let index = Self::NAMES.iter().position(|known| *known == name)?;
        Self::ALL.get(index).copied()
    }
}

/// Returns the error text for a word that is no name of `T`, such as `expected wait or drop`.
#[must_use]
pub fn expected<T: Named>() -> String {
    match T::NAMES {
        [first @ .., last] if !first.is_empty() => {
            format!("expected {} or {last}", first.join(", "))
        }
        names => format!("expected {}", names.join("")),
    }
}

/// Gives an enum its names: implements [`Named`](crate::text::named::Named), `name()`, `FromStr`, `Display` and
/// serde's traits (as a string). A variant without a name does not compile.
///
/// ```
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Side { Left, Right }
/// ringest_base::names!(Side { "left" => Left; "right" => Right, "the other one" });
/// assert_eq!("left".parse(), Ok(Side::Left));
/// assert_eq!("up".parse::<Side>(), Err("expected left or right".to_owned()));
/// ```
#[macro_export]
macro_rules! names {
    ($type:ident { $($name:literal => $variant:ident $(, $help:literal)?);+ $(;)? }) => {
        impl $crate::text::named::Named for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            const NAMES: &'static [&'static str] = &[$($name),+];
            const HELP: &'static [&'static str] = &[$(concat!($($help)?)),+];
        }

        impl $type {
            /// Returns the name, as flags and settings files write it.
            #[must_use]
            #[allow(unreachable_pub, reason = "the type may be private")]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> ::std::result::Result<Self, String> {
                <Self as $crate::text::named::Named>::from_name(text)
                    .ok_or_else($crate::text::named::expected::<Self>)
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        $crate::as_text!($type);
    };
}

/// Implements serde's traits by `Display` and `FromStr`: a value is written as a string, and read from a string
/// or a number.
#[macro_export]
macro_rules! as_text {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::serde::Serialize for $type {
            fn serialize<S: $crate::serde::Serializer>(&self, to: S) -> ::std::result::Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $type {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(from: D) -> ::std::result::Result<Self, D::Error> {
                $crate::text::named::parse(from)
            }
        }
    )+};
}

/// Reads a string or a number, and parses its text as a `T`.
///
/// # Errors
/// The input is neither a string nor a number, or `T` does not take it.
pub fn parse<'de, D: Deserializer<'de>, T>(from: D) -> Result<T, D::Error>
where
    T: std::str::FromStr,
    T::Err: fmt::Display,
{
    Word::deserialize(from)?.0.parse().map_err(D::Error::custom)
}

/// A string, or a number as text.
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WordVisitor)
    }
}

struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Word, E> {
        Ok(Word(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Side {
        Left,
        Right,
        Both,
    }

    names!(Side { "left" => Left; "right" => Right, "the other side"; "both" => Both });

    #[test]
    fn each_value_has_one_name_that_reads_back() {
        for (value, name) in Side::ALL.iter().zip(Side::NAMES) {
            assert_eq!((value.to_string().as_str(), value.name()), (*name, *name));
            assert_eq!(name.parse(), Ok(*value));
            let json = serde_json::to_string(value).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Side>(&json).unwrap(), *value);
        }
        assert_eq!(Side::HELP, ["", "the other side", ""]);
        for text in ["", "LEFT", "up", "left "] {
            assert_eq!(text.parse::<Side>(), Err("expected left, right or both".to_owned()));
        }
        assert!(serde_json::from_str::<Side>("1").is_err());
        assert!(serde_json::from_str::<Side>("[]").is_err());
    }
}
