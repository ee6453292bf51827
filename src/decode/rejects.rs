//! A sample of what was refused, for whoever has to find out why: one JSON object a line, a bounded
//! number of them, each escaped and cut.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::Reject;
use crate::datapath::batch::Datagram;
use crate::sink::escape;
use crate::sink::rfc3339::Rfc3339;

/// Bytes of a refused part that are shown.
const SAMPLE_BYTES_MAX: usize = 256;

/// The file, and the room left in it.
#[derive(Debug)]
pub struct Rejects {
    file: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    room_bytes: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    time: Rfc3339,
    peer: SocketAddr,
    listener: usize,
    reason: &'a str,
    /// Of the refused part, in the datagram.
    offset: usize,
    length: usize,
    /// Its first bytes, escaped.
    sample: &'a str,
}

impl Rejects {
    /// Opens `path` anew for at most `bytes_max`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        // What peers sent is no more public here than in a segment.
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o640).open(path)?;
        Ok(Self { file: Mutex::new(Open { file, room_bytes: bytes_max }) })
    }

    /// Writes down what was refused, while there is room. A file that takes no more ends the sample:
    /// counting goes on, and nothing waits.
    pub(crate) fn sample(&self, datagram: &Datagram<'_>, reject: &Reject<'_>) {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if open.room_bytes == 0 {
            return;
        }
        let shown = &reject.bytes[..reject.bytes.len().min(SAMPLE_BYTES_MAX)];
        let mut escaped = Vec::new();
        escape::text(&mut escaped, shown);
        let line = Line {
            time: Rfc3339(datagram.unix_time_ns()),
            peer: datagram.peer(),
            listener: datagram.listener(),
            reason: reject.reason,
            offset: reject.bytes.as_ptr().addr() - datagram.payload().as_ptr().addr(),
            length: reject.bytes.len(),
            sample: &String::from_utf8_lossy(&escaped),
        };
        // Nothing in a line can fail to be serialised.
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        let room = usize::try_from(open.room_bytes).unwrap_or(usize::MAX);
        let fits = text.len() <= room && open.file.write_all(&text).is_ok();
        open.room_bytes = if fits { open.room_bytes - text.len() as u64 } else { 0 };
    }
}
