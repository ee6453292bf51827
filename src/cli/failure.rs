//! The failures of a command, and their exit codes.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use ringest_client::ClientError;
use ringest_load::report::LoadError;
use ringest_load::spec::SpecError;

/// Reason for which a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine could not be set up, or failed: exit code 1, or 2 for a setting.
    Engine(ringest::Error),
    /// Wrong usage: exit code 2.
    Usage(String),
    /// No datagram came in time: exit code 3.
    NothingCame(String),
    /// The reader of stdout has gone: exit code 1, except for commands that end normally that way.
    Unread,
    /// Any other failure: exit code 1. The text says what failed, why, and the next move.
    Failed(String),
}

impl Failure {
    /// Returns the failure for results that could not be written to stdout.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::Failed(format!("cannot write to stdout: {error}; what was to be printed is lost"))
    }

    /// Prints the failure on stderr and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // Cannot be reported anywhere if stderr is closed.
        let _ = writeln!(io::stderr().lock(), "ringest: {self}");
        ExitCode::from(self.code())
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NothingCame(_) => 3,
            Self::Engine(error) if error.is_usage() => 2,
            Self::Engine(_) | Self::Unread | Self::Failed(_) => 1,
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Spec(error) => error.into(),
            LoadError::Engine(error) => Self::Engine(error),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Broadcast { .. } => Self::Usage(format!("{error}: --broadcast does")),
            _ if error.is_usage() => Self::Usage(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<ringest_base::sys::threads::ThreadError> for Failure {
    fn from(error: ringest_base::sys::threads::ThreadError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<ringest::Error> for Failure {
    fn from(error: ringest::Error) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A setting has the name of its flag, so the error shows the flag as it was typed.
            Self::Engine(ringest::Error::Setting { setting: "listen", value, reason }) => {
                write!(f, "{value}: {reason}")
            }
            Self::Engine(ringest::Error::Setting { setting, value, reason }) => {
                write!(f, "--{setting} {value}: {reason}")
            }
            Self::Engine(error) => write!(f, "{error}"),
            Self::Unread => f.write_str(
                "cannot write to stdout: its reader went away; what was to be printed is lost",
            ),
            Self::Usage(text) | Self::NothingCame(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_flags_and_count_as_usage() {
        let error = ringest::Error::Setting {
            setting: "slots",
            value: "0".to_owned(),
            reason: "must be from 2 to 32768".to_owned(),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.to_string(), "--slots 0: must be from 2 to 32768");
        assert_eq!(failure.code(), 2);
        let taken = ringest::Error::PortTaken { address: "127.0.0.1:514".parse().unwrap() };
        assert_eq!(Failure::from(taken).code(), 1);
        assert_eq!(Failure::Failed(String::new()).code(), 1);
    }
}
