//! The file with a sample of rejected parts, to find out why they were rejected: one JSON object a line, of
//! bounded size, each part escaped and cut.
//!
//! A thread of its own writes the file. A worker hands samples over without waiting, and leaves out those that
//! do not fit.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::Serialize;

use crate::decode::decoder::Reject;
use ringest_base::sys::threads::spawn_named;
use ringest_base::text::escape;
use ringest_base::text::rfc3339::Rfc3339;
use ringest_engine::batch::arena::Datagram;

/// Bytes of a rejected part that are shown.
const SAMPLE_BYTES_MAX: usize = 256;

/// Samples that may wait for the file: enough for a burst, at most 100 KiB.
const WAITING_MAX: usize = 256;

/// How long to wait at the end until the samples are written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Hands samples to the thread that writes the file. Dropping it waits until they are written, at most a
/// second.
#[derive(Debug)]
pub struct Rejects {
    /// `None` while it is being dropped: the thread then ends.
    samples: Option<Sender<Sample>>,
    /// The thread has ended: the file is full, or cannot be written.
    is_full: Arc<AtomicBool>,
    /// Closed when the thread has ended.
    written: Receiver<Infallible>,
}

/// The data of one line.
#[derive(Debug)]
struct Sample {
    received_unix_ns: u64,
    peer: SocketAddr,
    listener: usize,
    reason: &'static str,
    offset: usize,
    length: usize,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: Rfc3339,
    peer: SocketAddr,
    listener: usize,
    reason: &'a str,
    /// Where the rejected part begins in the datagram, bytes; `length` is its whole length.
    offset: usize,
    length: usize,
    /// The first bytes of the part, escaped.
    sample: &'a str,
}

impl Rejects {
    /// Opens or creates the file `path` for at most `bytes_max` bytes. Its old content stays until the first
    /// sample is written.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        // Payloads are no more public here than in a journal: others cannot read the file.
        let mut options = File::options();
        // Without O_NONBLOCK, opening a pipe that nobody reads waits for ever.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = options.append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
        let (samples, queue) = bounded(WAITING_MAX);
        let (end, written) = bounded(0);
        let is_full = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&is_full);
        let life = move || {
            write_all(file, bytes_max, &queue);
            full.store(true, Ordering::Relaxed);
            drop::<Sender<Infallible>>(end);
        };
        spawn_named("ringest-rejects".to_owned(), None, life).map_err(io::Error::other)?;
        Ok(Self { samples: Some(samples), is_full, written })
    }

    /// Hands a rejected part of `datagram` over, if there is room. Never waits.
    pub(crate) fn sample(&self, datagram: &Datagram<'_>, reject: &Reject<'_>) {
        let Some(samples) = &self.samples else { return };
        if samples.is_full() || self.is_full.load(Ordering::Relaxed) {
            return;
        }
        let shown = &reject.bytes[..reject.bytes.len().min(SAMPLE_BYTES_MAX)];
        let sample = Sample {
            received_unix_ns: datagram.unix_time_ns(),
            peer: datagram.peer(),
            listener: datagram.listener(),
            reason: reject.reason,
            offset: offset_in(datagram.payload(), reject.bytes),
            length: reject.bytes.len(),
            bytes: shown.to_vec(),
        };
        // The queue is full when another worker was faster.
        let _ = samples.try_send(sample);
    }
}

/// Returns where `part` begins in `payload`, or 0 if it lies elsewhere.
fn offset_in(payload: &[u8], part: &[u8]) -> usize {
    let offset = part.as_ptr().addr().wrapping_sub(payload.as_ptr().addr());
    if offset <= payload.len() { offset } else { 0 }
}

impl Drop for Rejects {
    fn drop(&mut self) {
        self.samples = None;
        // Nothing is ever sent: the channel closes when the thread has ended.
        let _ = self.written.recv_timeout(PATIENCE);
    }
}

/// Writes samples until the file has `bytes_max` bytes, or cannot be written.
fn write_all(mut file: File, bytes_max: u64, queue: &Receiver<Sample>) {
    let mut room_bytes = bytes_max;
    for sample in queue {
        let line = sample.line();
        // The old content is of an earlier run. A pipe or a device has no length to set.
        if room_bytes == bytes_max {
            let _ = file.set_len(0);
        }
        match room_bytes.checked_sub(line.len() as u64) {
            Some(left) if file.write_all(&line).is_ok() => room_bytes = left,
            _ => return,
        }
    }
}

impl Sample {
    fn line(&self) -> Vec<u8> {
        let mut escaped = Vec::new();
        escape::text(&mut escaped, &self.bytes);
        let line = Line {
            time: Rfc3339(self.received_unix_ns),
            peer: self.peer,
            listener: self.listener,
            reason: self.reason,
            offset: self.offset,
            length: self.length,
            sample: &String::from_utf8_lossy(&escaped),
        };
        // No field of a line can fail to be serialised.
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let refused = Rejects::create(&path, 1000).unwrap_err();
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let opened = Rejects::create(&path, 1000);
        assert_eq!(refused.raw_os_error(), Some(libc::ENXIO));
        assert!(opened.is_ok(), "{opened:?}");
        drop(reader);
    }
}
