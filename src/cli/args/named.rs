//! Flags that take one of a few names.

use std::ffi::OsStr;
use std::marker::PhantomData;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use ringest_base::text::named::Named;

/// Reads a value by its name. Help and errors list all names.
#[derive(Clone, Debug)]
pub(crate) struct NamedParser<T>(PhantomData<T>);

/// Returns the parser for a flag of type `T`.
pub(crate) fn named<T: Named>() -> NamedParser<T> {
    NamedParser(PhantomData)
}

fn possible_values<T: Named>() -> impl Iterator<Item = PossibleValue> {
    T::NAMES.iter().zip(T::HELP).map(|(name, help)| match *help {
        "" => PossibleValue::new(*name),
        help => PossibleValue::new(*name).help(help),
    })
}

impl<T: Named + Send + Sync> TypedValueParser for NamedParser<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let names = PossibleValuesParser::new(possible_values::<T>());
        let name = names.parse_ref(command, arg, value)?;
        T::from_name(&name).ok_or_else(|| Error::new(ErrorKind::InvalidValue).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(possible_values::<T>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ringest::{Overload, PathMtu};

    #[derive(Debug, Parser)]
    struct Line {
        /// Reaction to overload
        #[arg(long, value_parser = named::<Overload>(), default_value = "wait")]
        overload: Overload,
        /// Treatment of the path MTU
        #[arg(long, value_parser = named::<PathMtu>())]
        mtu: Option<PathMtu>,
    }

    #[test]
    fn help_and_errors_list_the_names() {
        use clap::CommandFactory;
        let help = Line::command().render_long_help().to_string();
        assert!(help.contains("[possible values: wait, drop]"), "{help}");
        assert!(help.contains("- dont:      Let it be fragmented anywhere"), "{help}");
        let line = Line::try_parse_from(["x", "--mtu", "omit"]).unwrap();
        assert_eq!((line.overload, line.mtu), (Overload::Wait, Some(PathMtu::Omit)));
        let error = Line::try_parse_from(["x", "--overload", "dro"]).unwrap_err().to_string();
        assert!(error.contains("possible values: wait, drop"), "{error}");
        assert!(error.contains("a similar value exists: 'drop'"), "{error}");
    }
}
