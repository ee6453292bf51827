//! Socket options read back after they were set: the kernel clamps some values silently.

use std::fmt;

/// A socket option: the value asked for, and the value the kernel granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// The option, as its man page calls it.
    pub option: &'static str,
    /// The value asked for.
    pub asked: String,
    /// The value that getsockopt(2) reports now.
    pub granted: String,
}

impl ReadBack {
    /// Returns whether the kernel granted the value asked for.
    #[must_use]
    pub fn is_as_asked(&self) -> bool {
        self.asked == self.granted
    }
}

impl fmt::Display for ReadBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.option, self.granted)?;
        if self.is_as_asked() { Ok(()) } else { write!(f, " (asked for {})", self.asked) }
    }
}
