//! The sending side of a bench: finds the server, runs the trials, writes the results.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ringest_bench::document::report::{Mode, Report};
use ringest_bench::modes::campaign::{Campaign, CampaignStep};
use ringest_bench::talk::link::{BenchError, Link};

use crate::cli::bench::options::{CommonArgs, PORT};
use crate::cli::bench::server::Announcement;
use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;
use crate::cli::show::paint::{Paint, count};

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Load(error) => error.into(),
            BenchError::Usage(message) => Self::Usage(message),
            BenchError::Refused { ref message, usage: true } => Self::Usage(message.clone()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Finds the server, runs the trials of `mode` that `ask` asks for, and writes the results. If the trials end early,
/// the results so far are written too, with a warning that they are incomplete.
pub(crate) fn run(
    mode: Mode,
    args: &CommonArgs,
    ask: impl FnOnce(&mut Campaign<'_>) -> Result<(), BenchError>,
) -> Result<(), Failure> {
    // Fails before minutes of trials if the results cannot be written.
    let outputs = Outputs::open(args)?;
    let signals = Signals::block()?;
    let stop = Cell::new(false);
    let stopped = || {
        stop.set(stop.get() || signals.take().is_some());
        stop.get()
    };
    let (mut link, _child) = connect(args, &stopped)?;
    let args = if mode == Mode::Curve { args.with_one_flow() } else { args.clone() };
    let base = args.base(link.loopback, &link.host.cores)?;
    let mut progress = Progress::new(args.quiet);
    let mut show = |step: &CampaignStep<'_>| progress.show(step);
    let mut campaign = Campaign::new(&mut link, mode, base, &mut show, &stopped);
    let asked = ask(&mut campaign);
    let mut report = campaign.finish();
    progress.clear();
    if report.trials.is_empty() {
        return asked.map_err(Failure::from);
    }
    report.command = command_line();
    if let Err(error) = &asked {
        let number = report.trials.len();
        let warning = format!("incomplete: ended after {number} trials: {error}");
        report.warnings.insert(0, warning);
    }
    outputs.write(&report)?;
    if !args.quiet && args.json.as_deref() != Some(Path::new("-")) {
        print(&crate::cli::bench::table::render(&report, Paint::stdout()))?;
    }
    asked?;
    if report.trials.iter().all(|trial| trial.void) {
        return Err(Failure::Failed(
            "no trial balanced, so there is no result; the report says why".to_owned(),
        ));
    }
    Ok(())
}

/// Prints on stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::stdout(&error))
}

/// Connects to the server on `host`, or to one started as a child.
fn connect(
    args: &CommonArgs,
    stopped: &dyn Fn() -> bool,
) -> Result<(Link, Option<Server>), Failure> {
    match &args.host {
        Some(host) => {
            let link = Link::connect(&resolve(host)?, args.token.clone(), stopped)?;
            Ok((link, None))
        }
        None => {
            let server = Server::start()?;
            let link = Link::connect(&[server.address], None, stopped)?;
            Ok((link, Some(server)))
        }
    }
}

/// Returns the addresses of `HOST` or `HOST:PORT`.
fn resolve(host: &str) -> Result<Vec<SocketAddr>, Failure> {
    let found = host.to_socket_addrs().or_else(|_| (host, PORT).to_socket_addrs());
    let failed = |why: String| {
        Failure::Failed(format!(
            "cannot find {host}: {why}; HOST is a name or address, or HOST:PORT"
        ))
    };
    Ok(found.map_err(|error| failed(error.to_string()))?.collect())
}

/// A bench server on loopback, as a child process. Dropping it kills and reaps the child.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Result<Self, Failure> {
        let failed = |why: String| Failure::Failed(format!("cannot start the bench server: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["bench", "server", "127.0.0.1:0", "--quiet", "--parent"])
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // ^C on the terminal must not reach the child; this process ends it.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let announced: Result<Announcement, _> = serde_json::from_str(&line);
        match (read, announced) {
            (Some(Ok(1..)), Ok(Announcement { address })) => Ok(Self { child, address }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed("it ended before it was ready; its own message is above".to_owned()))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the child has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The outputs, opened before the trials. A file is written under a temporary name in the same directory, and gets
/// its name when it is complete: a failed run does not destroy an older report.
#[derive(Default)]
struct Outputs {
    json: Option<Output>,
    page: Option<Output>,
}

enum Output {
    Stdout,
    File { place: PathBuf, beside: PathBuf },
}

impl Output {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let (place, beside) = (path.to_owned(), PathBuf::from(beside));
        if path.is_dir() {
            return Err(Failure::Failed(format!("cannot write {}: a directory", path.display())));
        }
        std::fs::File::create(&beside).map_err(|error| cannot_write(path, &error))?;
        Ok(Self::File { place, beside })
    }

    fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        match &self {
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
                written.map_err(|error| Failure::stdout(&error))
            }
            Self::File { place, beside } => std::fs::write(beside, bytes)
                .and_then(|()| std::fs::rename(beside, place))
                .map_err(|error| cannot_write(place, &error)),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Self::File { beside, .. } = self {
            // Fails if the file was written and renamed.
            let _ = std::fs::remove_file(beside);
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}

impl Outputs {
    fn open(args: &CommonArgs) -> Result<Self, Failure> {
        if args.quiet && args.json.is_none() && args.report.is_none() {
            return Err(Failure::Usage(
                "--quiet without --json or --report gives no output at all; add one, or leave --quiet out".to_owned(),
            ));
        }
        if args.report.as_deref() == Some(Path::new("-")) {
            return Err(Failure::Usage(
                "--report takes a file; --json - writes JSON to stdout".to_owned(),
            ));
        }
        Ok(Self {
            json: args.json.as_deref().map(Output::open).transpose()?,
            page: args.report.as_deref().map(Output::open).transpose()?,
        })
    }

    fn write(self, report: &Report) -> Result<(), Failure> {
        if let Some(output) = self.json {
            let mut text = serde_json::to_vec(report)
                .map_err(|error| Failure::Failed(format!("cannot write the report: {error}")))?;
            text.push(b'\n');
            output.write(&text)?;
        }
        match self.page {
            Some(output) => output.write(ringest_bench::report::page(report).as_bytes()),
            None => Ok(()),
        }
    }
}

/// Returns the command line, quoted so that a shell reads it the same way.
fn command_line() -> String {
    let quote = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%[]".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let mut hidden = false;
    let words = std::env::args().skip(1).map(|word| {
        // The token must not be in a report that is passed on.
        let secret = std::mem::replace(&mut hidden, word == "--token");
        match word.strip_prefix("--token=") {
            Some(_) => "--token=WORD".to_owned(),
            None if secret => "WORD".to_owned(),
            None => quote(word),
        }
    });
    std::iter::once("ringest".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The progress on stderr: one line that is overwritten on a terminal, and a line for each trial elsewhere.
struct Progress {
    quiet: bool,
    live: bool,
    shown: bool,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        Self { quiet, live: paint::is_terminal(&std::io::stderr()), shown: false }
    }

    fn show(&mut self, step: &CampaignStep<'_>) {
        if self.quiet {
            return;
        }
        let total = step.total.map(|total| format!("/{total}")).unwrap_or_default();
        let found = step.last.map(|last| match &last.void_reason {
            Some(why) => format!(": void: {why}"),
            None => format!(
                ": {}/s handled, lost {} of {}",
                paint::whole(last.handled_pps),
                count(last.lost.total()),
                count(last.intended)
            ),
        });
        let line = format!(
            "trial {}{total}  {}{}",
            step.done,
            step.what,
            found.clone().unwrap_or_default()
        );
        if self.live {
            let width = terminal_size::terminal_size_of(std::io::stderr());
            let width = width.map_or(80, |(width, _)| usize::from(width.0));
            let cut: String = line.chars().take(width.saturating_sub(1)).collect();
            paint::say(&format!("\r{cut}\x1b[K"));
            self.shown = true;
        } else if found.is_some() {
            paint::say(&format!("{line}\n"));
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            paint::say("\r\x1b[K");
        }
    }
}
