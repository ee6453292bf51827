//! A sample of what was refused, for whoever has to find out why: one JSON object a line, a bounded
//! number of them, each escaped and cut.
//!
//! A thread of its own writes them: a worker hands over what it can without waiting, and goes on.

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

use crate::decode::Reject;
use ringest_base::sys::threads::spawn_named;
use ringest_base::text::escape;
use ringest_base::text::rfc3339::Rfc3339;
use ringest_engine::batch::arena::Datagram;

/// Bytes of a refused part that are shown.
const SAMPLE_BYTES_MAX: usize = 256;

/// Samples that may wait for the file: enough for a burst, and 100 KiB at most.
const WAITING_MAX: usize = 256;

/// How long the file is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the file. When it is dropped, what was handed over is written, unless the file stands still.
#[derive(Debug)]
pub struct Rejects {
    /// `None` once it is dropped.
    samples: Option<Sender<Sample>>,
    /// No more is written.
    is_full: Arc<AtomicBool>,
    /// Closed when all is written.
    written: Receiver<Infallible>,
}

/// What is shown of a refused part.
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
    /// Of the refused part, in the datagram.
    offset: usize,
    length: usize,
    /// Its first bytes, escaped.
    sample: &'a str,
}

impl Rejects {
    /// Opens `path` for at most `bytes_max`. What an earlier run left there goes with the first sample.
    ///
    /// # Errors
    /// The file cannot be opened, or there can be no thread.
    pub fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        // What peers sent is no more public here than in a segment.
        let mut options = File::options();
        // Of a pipe that nobody reads, it would wait for ever.
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

    /// Hands over what was refused, while there is room. What the file does not keep up with is left out:
    /// counting goes on, and nothing waits.
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
            offset: reject.bytes.as_ptr().addr() - datagram.payload().as_ptr().addr(),
            length: reject.bytes.len(),
            bytes: shown.to_vec(),
        };
        // Full: another worker was faster.
        let _ = samples.try_send(sample);
    }
}

impl Drop for Rejects {
    fn drop(&mut self) {
        self.samples = None;
        // It never says anything but that it has ended.
        let _ = self.written.recv_timeout(PATIENCE);
    }
}

/// Writes what comes while there is room. A file that takes no more ends the sample.
fn write_all(mut file: File, bytes_max: u64, queue: &Receiver<Sample>) {
    let mut room_bytes = bytes_max;
    for sample in queue {
        let line = sample.line();
        // What is there is of an earlier run. A pipe or a device has no length.
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
        // Nothing in a line can fail to be serialised.
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
        let path = std::env::temp_dir().join(format!("ringest-pipe-{}", std::process::id()));
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let refused = Rejects::create(&path, 1000).unwrap_err();
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let opened = Rejects::create(&path, 1000);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::ENXIO));
        assert!(opened.is_ok(), "{opened:?}");
        drop(reader);
    }
}
