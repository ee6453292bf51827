//! The flags of `--sink journal:DIR`.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use ringest_records::journal::keep::compress::{LEVEL_DEFAULT, levels};
use ringest_records::journal::keep::janitor::Retention;
use ringest_records::journal::open::{Journal, JournalSpec};
use ringest_records::journal::repair::Repaired;

use crate::cli::args::values;
use crate::cli::args::values::given;
use crate::cli::failure::Failure;
use crate::cli::show::paint;
use crate::cli::show::paint::{Paint, count};

/// How the journal is written.
#[derive(Args, Debug)]
pub(crate) struct JournalArgs {
    /// Commit at least this often: what is delivered is on disk, and this is how long that takes
    /// [default: 50ms]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Journal")]
    commit_interval: Option<Duration>,
    /// And whenever a worker has gathered so much [default: 4M]
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Journal")]
    commit_bytes: Option<usize>,
    /// Begin a new segment before one gets larger [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Journal")]
    segment_bytes: Option<usize>,
    /// And close one when it gets older [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Journal")]
    segment_age: Option<Duration>,
    /// Remove the oldest segments when all together are larger; each worker's last one stays
    /// [default: keep all]
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Journal")]
    retain_bytes: Option<usize>,
    /// Remove segments that are older; each worker's last one stays until it has begun another
    /// [default: keep all]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Journal")]
    retain_age: Option<Duration>,
    /// Compress segments once they are sealed, at a level from 1 (fast) to 22 (small); those that earlier
    /// runs left plain, too, in the background [default: they stay as they are; level 3]
    #[arg(long, value_name = "zstd[:LEVEL]", value_parser = compress, help_heading = "Journal")]
    compress: Option<i32>,
    /// Memory for what the disk has not taken yet; when it is full, --overload says what follows
    /// [default: 32M]
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Journal")]
    journal_buffer: Option<usize>,
}

/// `zstd` or `zstd:LEVEL`.
fn compress(text: &str) -> Result<i32, String> {
    let levels = levels();
    let level = match text.split_once(':') {
        None if text == "zstd" => Some(LEVEL_DEFAULT),
        Some(("zstd", level)) => level.parse().ok().filter(|level| levels.contains(level)),
        _ => None,
    };
    level.ok_or_else(|| {
        format!(
            "expected zstd, or zstd:LEVEL with a level from {} to {}",
            levels.start(),
            levels.end()
        )
    })
}

/// A segment smaller than this would hold a handful of the largest datagrams.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// The default of --journal-buffer.
const BUFFER_BYTES: usize = 32 << 20;

impl JournalArgs {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let Self {
            commit_interval,
            commit_bytes,
            segment_bytes,
            segment_age,
            retain_bytes,
            retain_age,
            compress,
            journal_buffer,
        } = self;
        given([
            ("--commit-interval", commit_interval.is_some()),
            ("--commit-bytes", commit_bytes.is_some()),
            ("--segment-bytes", segment_bytes.is_some()),
            ("--segment-age", segment_age.is_some()),
            ("--retain-bytes", retain_bytes.is_some()),
            ("--retain-age", retain_age.is_some()),
            ("--compress", compress.is_some()),
            ("--journal-buffer", journal_buffer.is_some()),
        ])
    }

    /// Returns how long segments are kept, and whether they are compressed.
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            bytes: self.retain_bytes.map(|bytes| bytes as u64),
            age: self.retain_age,
            compress: self.compress,
            ..Retention::default()
        }
    }

    /// Returns the memory for records that the disk has not taken yet, bytes, of `workers` workers together.
    pub(crate) fn buffer_bytes(&self, workers: usize) -> Result<usize, Failure> {
        let range = Journal::buffer_bytes(workers);
        match self.journal_buffer {
            Some(bytes) if !range.contains(&bytes) => Err(Failure::Usage(format!(
                "--journal-buffer {bytes}: with workers: {workers}, it can be {} to {}",
                range.start(),
                range.end()
            ))),
            Some(bytes) => Ok(bytes),
            None => Ok(BUFFER_BYTES.clamp(*range.start(), *range.end())),
        }
    }

    /// Describes the journal in `dir`.
    pub(crate) fn spec(
        &self,
        dir: &Path,
        buffer_bytes: usize,
        retention: Retention,
    ) -> Result<JournalSpec, Failure> {
        let mut spec = JournalSpec::new(dir);
        let segment_bytes = self.segment_bytes.map_or(spec.writer.segment_bytes, |b| b as u64);
        if segment_bytes < SEGMENT_BYTES_MIN {
            return Err(Failure::Usage(format!(
                "--segment-bytes {segment_bytes}: must be at least 1M"
            )));
        }
        if let Some(spool) = retention.spool_bytes
            && spool < 2 * segment_bytes
        {
            return Err(Failure::Usage(format!(
                "--spool-bytes {spool}: must be at least twice --segment-bytes ({segment_bytes}), as \
                 whole segments go; make segments smaller"
            )));
        }
        let writer = &mut spec.writer;
        writer.segment_bytes = segment_bytes;
        writer.commit_interval = self.commit_interval.unwrap_or(writer.commit_interval);
        writer.commit_bytes = self.commit_bytes.map_or(writer.commit_bytes, |bytes| bytes as u64);
        writer.segment_age = self.segment_age.unwrap_or(writer.segment_age);
        Ok(JournalSpec { buffer_bytes, retention, ..spec })
    }
}

/// Says what had to be repaired in a journal. A loss is told also where `quiet`.
pub(crate) fn tell_repaired(journal: &Journal, quiet: bool) {
    for one in journal.repaired().iter().filter(|one| !quiet || one.is_loss()) {
        paint::say(&format!("journal: {}\n", describe(one)));
    }
}

fn describe(one: &Repaired) -> String {
    let name = one.path.file_name().unwrap_or_default().to_string_lossy();
    if let (Some(reason), Some(aside)) = (&one.left, &one.aside) {
        let aside = aside.file_name().unwrap_or_default().to_string_lossy();
        return Paint::stderr().red(&format!(
            "{name} cannot be read ({reason}): it is set aside as {aside}, and its records are not carried on; once it \
             can be read, move it to a directory of its own as {name}: `ringest journal replay` sends what it holds"
        ));
    }
    if let Some(reason) = &one.left {
        return format!(
            "{name} could not be repaired ({reason}): it is read as it is, and the next start tries again"
        );
    }
    if let Some(aside) = &one.aside {
        let aside = aside.file_name().unwrap_or_default().to_string_lossy();
        return Paint::stderr().red(&format!(
            "the beginning of {name} is damaged, so that nothing of it can be read: it is set aside as {aside}"
        ));
    }
    let Some(found) = &one.found else {
        return format!("{name} was begun and holds nothing that was committed");
    };
    let mut text = format!(
        "{name} was not sealed: {} records kept, {} torn bytes cut off",
        count(found.records),
        count(found.torn_bytes)
    );
    if let Some(offset) = found.first_damage {
        text += &Paint::stderr()
            .red(&format!(", {} damaged places, the first at byte {offset}", count(found.damaged)));
    }
    text
}
