//! `ringest journal export`: writes records in the formats of other programs.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use ringest_records::journal::export::{Csv, Exporter, Ndjson, Pcapng};
use ringest_records::journal::read::merge::{Merge, Step};

use crate::cli::args::named::named;
use crate::cli::failure::Failure;
use crate::cli::journal::segments::segments;
use crate::cli::journal::select::{SelectArgs, Troubles};
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;
use crate::cli::show::paint::count;

/// Write the records for other programs
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest journal export DIR --format ndjson | jq .peer
  ringest journal export DIR --format csv --since 1h --out last-hour.csv
  ringest journal export DIR --format parquet --out day.parquet    for DuckDB, pandas, Spark
  ringest journal export DIR --format pcapng --out day.pcapng      for Wireshark and tshark
  ringest journal export DIR --format pcapng --listener 192.0.2.80:514 --out day.pcapng

The order is that of `cat`. The file gets its name when it is complete; until then it has a temporary name in the same \
directory. A new file is readable by its owner and group, as segments are; a replaced file keeps its permissions.

csv: payloads as text, escaped as `cat` prints them. A leading =, +, - or @ is escaped too: a spreadsheet would \
read it as a formula.
parquet: columns received (UTC, ns), peer_ip, peer_port, listener, length, payload (binary).
pcapng: each record gets generated IP and UDP headers, with the peer as the source. The journal stores \
a listener's number, not its address. --listener gives the address; without it the destination is 192.0.2.1 or \
2001:db8::1, port 60000 for the first listener, 60001 for the second and so on.")]
pub(crate) struct ExportArgs {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The format to write
    #[arg(long, value_parser = named::<ExportFormat>())]
    format: ExportFormat,
    /// The file to write, or - for stdout
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    out: PathBuf,
    /// The address of a listener, for pcapng; repeat it for each listener, in the order given to `listen`
    #[arg(long, value_name = "IP:PORT")]
    listener: Vec<SocketAddr>,
    #[command(flatten)]
    select: SelectArgs,
    /// Say nothing on stderr but errors
    #[arg(long)]
    quiet: bool,
}

/// Formats of exported records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExportFormat {
    Ndjson,
    Csv,
    Parquet,
    Pcapng,
}

ringest_base::names!(ExportFormat {
    "ndjson" => Ndjson;
    "csv" => Csv;
    "parquet" => Parquet;
    "pcapng" => Pcapng
});

pub(crate) fn run(args: &ExportArgs) -> Result<(), Failure> {
    if !args.listener.is_empty() && args.format != ExportFormat::Pcapng {
        let text = "--listener: only pcapng has destination addresses; add --format pcapng";
        return Err(Failure::Usage(text.to_owned()));
    }
    let mut merge = Merge::of(segments(&args.dir)?, args.select.selection()?);
    let target = Target::open(args)?;
    let failed = |error: io::Error| target.failed(&error);
    let out = target.file.try_clone().map_err(failed)?;
    let mut sheet = args.sheet(BufWriter::with_capacity(1 << 20, out), failed)?;
    // A signal must remove an unfinished file. Output to a pipe needs no removal, so signals end the process.
    let signals = target.place.is_some().then(Signals::block).transpose()?;
    let mut progress = Progress::new(args.quiet);
    let mut troubles = Troubles::default();
    while let Some(step) = merge.next_step() {
        let is_due = match step {
            Step::Record(record) => {
                let fits = sheet.add(&record).map_err(failed)?;
                progress.count(record.payload.len(), fits);
                progress.is_due()
            }
            Step::Trouble(trouble) => {
                progress.clear();
                troubles.tell(&trouble);
                progress.is_due()
            }
            Step::Pause => progress.show(),
        };
        if is_due && let Some(signal) = signals.as_ref().and_then(Signals::take) {
            progress.clear();
            return Err(Failure::Failed(format!(
                "{signal}: stopped before the end; {} was not written",
                args.out.display()
            )));
        }
    }
    sheet.finish().map_err(failed)?;
    drop(sheet);
    progress.end();
    target.keep()?;
    troubles.judge()
}

impl ExportArgs {
    fn sheet(
        &self,
        out: BufWriter<File>,
        failed: impl Fn(io::Error) -> Failure,
    ) -> Result<Box<dyn Exporter>, Failure> {
        Ok(match self.format {
            ExportFormat::Ndjson => Box::new(Ndjson::new(out)),
            ExportFormat::Csv => Box::new(Csv::new(out).map_err(failed)?),
            ExportFormat::Pcapng => {
                Box::new(Pcapng::new(out, self.listener.clone()).map_err(failed)?)
            }
            ExportFormat::Parquet => return parquet(out, failed),
        })
    }
}

#[cfg(feature = "parquet")]
fn parquet(
    out: BufWriter<File>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<Box<dyn Exporter>, Failure> {
    Ok(Box::new(ringest_records::journal::export::Parquet::new(out).map_err(failed)?))
}

#[cfg(not(feature = "parquet"))]
fn parquet(
    _: BufWriter<File>,
    _: impl Fn(io::Error) -> Failure,
) -> Result<Box<dyn Exporter>, Failure> {
    Err(Failure::Failed(
        "--format parquet: this ringest was built without it; build one with `cargo build --release \
         --features parquet`, or export ndjson, which DuckDB and pandas read too"
            .to_owned(),
    ))
}

/// The output of an export.
struct Target {
    file: File,
    name: String,
    /// The temporary file, if the output is a regular file.
    place: Option<Unfinished>,
}

/// A file under a temporary name. Dropping it removes the file, unless it got its final name before.
struct Unfinished {
    path: PathBuf,
    target: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Fails if the file was renamed to its final name, and then nothing is left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

impl Target {
    fn open(args: &ExportArgs) -> Result<Self, Failure> {
        if args.out == Path::new("-") {
            return Self::stdout(args.format);
        }
        let name = args.out.display().to_string();
        let failed = |error: io::Error| {
            Failure::Failed(format!("cannot write {name}: {error}; is its directory there?"))
        };
        // A device or a pipe is written to directly. A symbolic link stays: its target is replaced.
        let target = fs::canonicalize(&args.out).unwrap_or_else(|_| args.out.clone());
        if target.is_dir() {
            return Err(Failure::Usage(format!(
                "--out {name}: this is a directory; give the name of a file in it"
            )));
        }
        if fs::metadata(&target).is_ok_and(|facts| !facts.is_file()) {
            let file = OpenOptions::new().write(true).open(&target).map_err(failed)?;
            return Ok(Self { file, name, place: None });
        }
        let (file, path) = unfinished(&target).map_err(failed)?;
        Ok(Self { file, name, place: Some(Unfinished { path, target }) })
    }

    fn stdout(format: ExportFormat) -> Result<Self, Failure> {
        let binary = matches!(format, ExportFormat::Parquet | ExportFormat::Pcapng);
        if binary && io::stdout().is_terminal() {
            let text =
                "this format is binary and not for a terminal; give --out FILE, or write to a pipe";
            return Err(Failure::Usage(text.to_owned()));
        }
        let fd = io::stdout().as_fd().try_clone_to_owned();
        let file = File::from(fd.map_err(|error| Failure::stdout(&error))?);
        Ok(Self { file, name: "-".to_owned(), place: None })
    }

    fn failed(&self, error: &io::Error) -> Failure {
        match &self.name[..] {
            "-" => Failure::stdout(error),
            name => Failure::Failed(format!("cannot write {name}: {error}; nothing of it is kept")),
        }
    }

    /// Gives the complete file its final name.
    fn keep(self) -> Result<(), Failure> {
        let Some(place) = &self.place else { return Ok(()) };
        let kept = self.file.sync_all().and_then(|()| fs::rename(&place.path, &place.target));
        kept.map_err(|error| self.failed(&error))
    }
}

/// Creates a file beside `target` and returns it with its path. It gets the permissions of `target` if that exists,
/// and else those of a segment: peers' data must not become more public.
fn unfinished(target: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 0;
    let (file, path) = loop {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}-{number}.partial", std::process::id()));
        let path = target.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path) {
            // A killed process left a file of this name: process ids repeat, in containers above all.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            file => break (file?, path),
        }
    };
    if let Ok(facts) = fs::metadata(target) {
        file.set_permissions(facts.permissions())?;
    }
    Ok((file, path))
}

/// The progress line on a terminal.
struct Progress {
    quiet: bool,
    live: bool,
    records: u64,
    bytes: u64,
    left_out: u64,
    steps: u64,
    next: Instant,
    shown: bool,
}

/// How often the progress line changes.
const EVERY: Duration = Duration::from_millis(200);
/// Records between two reads of the clock.
const STRIDE: u64 = 1024;

impl Progress {
    fn new(quiet: bool) -> Self {
        Self {
            quiet,
            live: !quiet && paint::is_terminal(&io::stderr()),
            records: 0,
            bytes: 0,
            left_out: 0,
            steps: 0,
            next: Instant::now() + EVERY,
            shown: false,
        }
    }

    fn count(&mut self, bytes: usize, fits: bool) {
        if !fits {
            self.left_out += 1;
            return;
        }
        self.records += 1;
        self.bytes += bytes as u64;
    }

    fn text(&self) -> String {
        format!("{} records, {} of payload", count(self.records), paint::bytes(self.bytes))
    }

    /// Counts a step. Returns whether signals should be checked now, and updates the line then.
    fn is_due(&mut self) -> bool {
        self.steps += 1;
        self.steps.is_multiple_of(STRIDE) && self.show()
    }

    /// Updates the line if it is due. Returns `true`: signals should be checked.
    fn show(&mut self) -> bool {
        if self.live && Instant::now() >= self.next {
            self.next = Instant::now() + EVERY;
            self.shown = true;
            paint::say(&format!("\r{}\x1b[K", self.text()));
        }
        true
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            paint::say("\r\x1b[K");
        }
    }

    fn end(&mut self) {
        self.clear();
        if self.left_out > 0 {
            let left_out = count(self.left_out);
            paint::say(&format!(
                "{left_out} records were left out: they are longer than a datagram can be\n"
            ));
        }
        if !self.quiet {
            paint::say(&format!("{}\n", self.text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_a_killed_process_left_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("day.csv");
        let mode = |file: &File| file.metadata().unwrap().permissions().mode() & 0o777;
        let (first, left) = unfinished(&target).unwrap();
        let first_mode = mode(&first);
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        let (second, path) = unfinished(&target).unwrap();
        let second_mode = mode(&second);
        assert_ne!(left, path);
        assert_eq!((first_mode & 0o007, second_mode), (0, 0o600));
    }
}
