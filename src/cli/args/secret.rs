//! Reads names and passwords from the environment or from files; never from the command line, which every user of
//! the host can read.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::error::ContextValue;

/// Most bytes of a file that holds a name or a password.
const SECRET_BYTES_MAX: u64 = 4 << 10;

/// Returns the value of the environment variable `name`, or the content of the file that the variable `name_FILE`
/// names; `None` if neither is set. The value is never part of an error.
pub(crate) fn secret(
    name: &str,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, String> {
    let file = format!("{name}_FILE");
    match (env(name), env(&file)) {
        (Some(_), Some(_)) => Err(format!("{name} and {file} are both set; unset one")),
        (Some(text), None) => {
            let text = text.into_string().map_err(|_| format!("{name} is not UTF-8"))?;
            Ok(Some(text))
        }
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let text = read(&path, SECRET_BYTES_MAX)
                .map_err(|reason| format!("{file} ({}): {reason}", path.display()))?;
            // Editors end the last line. A password does not end with a line end.
            Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// Returns the error without the text before an `@` in any value that was typed: that text may be a password.
pub(crate) fn hide(mut error: clap::Error) -> clap::Error {
    let hidden = |value: &ContextValue| match value {
        ContextValue::String(text) => hide_in(text).map(ContextValue::String),
        ContextValue::Strings(texts) => {
            let hidden = |text: &String| hide_in(text).unwrap_or_else(|| text.clone());
            Some(ContextValue::Strings(texts.iter().map(hidden).collect()))
        }
        // Suggestions repeat what was typed.
        ContextValue::StyledStrs(texts) => {
            let is_told = texts.iter().any(|text| text.to_string().contains('@'));
            is_told.then_some(ContextValue::None)
        }
        _ => None,
    };
    let context = error.context();
    let hidden: Vec<_> = context.filter_map(|(kind, value)| Some((kind, hidden(value)?))).collect();
    for (kind, value) in hidden {
        error.insert(kind, value);
    }
    error
}

/// Returns the text with the part before an `@` hidden; `None` if it has no `@`.
fn hide_in(text: &str) -> Option<String> {
    text.rsplit_once('@').map(|(_, rest)| format!("…@{rest}"))
}

/// Returns the content of a text file of at most `bytes_max` bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot read it: {error}"))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("it is larger than {bytes_max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
