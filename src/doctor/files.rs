//! Files of /proc and /sys, under a root that a test can choose.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Most bytes read of one file. /proc/net/nf_conntrack of a busy host is the longest of them.
const BYTES_MOST: u64 = 16 << 20;

/// The host's files, or a tree that stands in for them.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    pub(crate) fn host() -> Self {
        Self { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Reads a file as text.
    ///
    /// # Errors
    /// Why it cannot be read, in words for a report.
    pub(crate) fn read(&self, path: &str) -> Result<String, String> {
        let why = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => "not there".to_owned(),
            ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        let file = File::open(self.path(path)).map_err(why)?;
        let mut bytes = Vec::new();
        file.take(BYTES_MOST).read_to_end(&mut bytes).map_err(why)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a file that holds one number.
    ///
    /// # Errors
    /// Why there is none, in words for a report.
    pub(crate) fn number(&self, path: &str) -> Result<u64, String> {
        let text = self.read(path)?;
        crate::parse::number(&text).ok_or_else(|| format!("not a number: {}", text.trim()))
    }

    /// Returns the names in a directory, sorted; none if it is not there.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> =
            names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Returns the last part of a link's target.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Returns a link's target, not resolved.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let target: PathBuf = fs::read_link(self.path(path)).ok()?;
        Some(Path::new(&target).to_string_lossy().into_owned())
    }
}
