//! The thread that seals complete segments and lets old ones go, beside the workers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crossbeam_channel::Receiver;

use super::alarm::Alarms;
use super::seal::seal;
use super::segment;

/// How long segments are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The oldest sealed segments go when all together are larger.
    pub bytes: Option<u64>,
    /// A sealed segment goes when it is older.
    pub age: Option<Duration>,
}

/// Seals what is complete until nobody can send any more.
pub(super) fn run(dir: &Path, complete: &Receiver<PathBuf>, retention: Retention, alarms: &Alarms) {
    for path in complete {
        if let Err(error) = seal(&path) {
            // It stays readable as it is; the next start tries again.
            alarms.say(&format!("cannot seal {}: {error}", path.display()));
        }
        let_go(dir, retention, alarms);
    }
}

/// Removes the oldest complete segments that retention does not keep. A worker's newest one is never
/// removed: it may be written to.
pub(super) fn let_go(dir: &Path, retention: Retention, alarms: &Alarms) {
    if retention == Retention::default() {
        return;
    }
    let Ok(segments) = segment::list(dir) else { return };
    let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut old = Vec::new();
    for (index, one) in segments.iter().enumerate() {
        let newest = segments.get(index + 1).is_none_or(|next| next.worker != one.worker);
        let written = fs::metadata(&one.path).and_then(|facts| facts.modified());
        if let (false, Ok(written)) = (newest, written) {
            old.push((written, one));
        }
    }
    old.sort_by_key(|(written, _)| *written);
    let now = SystemTime::now();
    for (written, one) in old {
        let age = now.duration_since(written).unwrap_or_default();
        let too_old = retention.age.is_some_and(|kept| age > kept);
        let too_large = retention.bytes.is_some_and(|kept| total > kept);
        if !too_old && !too_large {
            continue;
        }
        match fs::remove_file(&one.path) {
            Ok(()) => total -= one.bytes,
            Err(error) => {
                alarms.say(&format!("cannot remove {}: {error}", one.path.display()));
                return;
            }
        }
    }
}
