//! Tools for the tests of `ringest bench`: the real program, here or in a host of the lab, its reports, and
//! the checks that every trial in a report must pass.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::Value;

use crate::rigs::support::until;

/// Only a hung program says nothing and goes on for so long; the longest here takes seconds.
const PATIENCE_MS: u16 = 60_000;

/// Waits until no other bench runs: two cores are hardly enough for one.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A directory of this test's own; gone when dropped.
#[derive(Debug)]
pub(crate) struct Desk(PathBuf);

impl Desk {
    pub(crate) fn new() -> Self {
        let name = format!("bench-{}-{}", std::process::id(), number());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a program runs.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    Here,
    /// In this network namespace.
    Lab(String),
}

/// The real program, running; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    desk: Desk,
    what: String,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts `ringest bench …`; words are split at spaces.
    pub(crate) fn bench(host: &Host, args: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_ringest");
        let mut command = match host {
            Host::Here => Command::new(program),
            Host::Lab(netns) => {
                let mut command = Command::new("ip");
                // `ip` becomes the program (execvp), so a signal meets the program.
                command.args(["netns", "exec", netns, program]);
                command
            }
        };
        let desk = Desk::new();
        let child = command
            .arg("bench")
            .args(args.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(desk.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, desk, what: format!("bench {args}") }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.desk.path("stderr")).unwrap()
    }

    /// Sends SIGKILL, as in a crash: nothing can be tidied up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end, without taking a core from it.
    pub(crate) fn end(mut self) -> Ended {
        let mut pipe = self.child.stdout.take().unwrap();
        let mut stdout = Vec::new();
        loop {
            let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PATIENCE_MS) {
                Ok(0) => panic!("hung: {}\n{}", self.what, self.stderr()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => panic!("poll(2): {error}"),
            }
            let mut chunk = [0; 4096];
            match pipe.read(&mut chunk).unwrap() {
                0 => break,
                count => stdout.extend_from_slice(&chunk[..count]),
            }
        }
        let status = self.child.wait().unwrap();
        Ended { status, stdout: String::from_utf8(stdout).unwrap(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `ringest bench …` to its end.
pub(crate) fn bench(args: &str) -> Ended {
    Running::bench(&Host::Here, args).end()
}

/// A bench server, ready.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) running: Running,
    /// Its control port.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server with `args`: ADDR and options.
    pub(crate) fn start(host: &Host, args: &str) -> Self {
        let mut running = Running::bench(host, &format!("server {args}"));
        let mut address = None;
        until("the server to say where it listens", || {
            assert!(!running.has_ended(), "the server ended: {}", running.stderr());
            let said = running.stderr();
            let line = said.lines().find_map(|line| line.strip_prefix("bench server on "));
            address = line.and_then(|line| line.split(' ').next()?.parse().ok());
            address.is_some()
        });
        Self { running, address: address.unwrap() }
    }

    /// Waits until it has said this.
    pub(crate) fn await_said(&mut self, text: &str) {
        until(text, || {
            assert!(!self.running.has_ended(), "the server ended: {}", self.running.stderr());
            self.running.stderr().contains(text)
        });
    }
}

/// Runs a mode with `--json` and returns what it wrote.
pub(crate) fn report(host: &Host, args: &str) -> Value {
    let desk = Desk::new();
    let file = desk.path("report.json");
    let args = format!("{args} --quiet --json {}", file.display());
    let ended = Running::bench(host, &args).end();
    assert!(ended.status.success(), "bench {args}: {ended:?}");
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "--quiet");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Returns a count in a document.
pub(crate) fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no count {key} in {value}"))
}

/// Returns the trials of a report.
pub(crate) fn trials(report: &Value) -> &[Value] {
    report["trials"].as_array().unwrap()
}

/// Returns how many datagrams were lost at one place, over all trials.
pub(crate) fn lost(report: &Value, place: &str) -> u64 {
    trials(report).iter().map(|trial| count(&trial["lost"], place)).sum()
}

/// Returns the sum of a count over all trials.
pub(crate) fn sum(report: &Value, key: &str) -> u64 {
    trials(report).iter().map(|trial| count(trial, key)).sum()
}

/// Checks that nothing was lost anywhere but here, and by the sender, which on a busy host is late.
pub(crate) fn lost_only(report: &Value, place: &str) {
    for trial in trials(report) {
        for (name, count) in trial["lost"].as_object().unwrap() {
            let allowed = name == place || name == "unsent" || *count == 0;
            assert!(allowed, "{count} lost at {name}, expected only {place}: {trial}");
        }
    }
}

/// Checks the lines of a trial's account, as `TrialRecord` documents them.
pub(crate) fn balances(trial: &Value) {
    let lost = |place: &str| count(&trial["lost"], place);
    let before = lost("unsent") + lost("send_failed") + lost("qdisc");
    let between = lost("network") + lost("nic") + lost("backlog") + lost("checksum");
    let after = lost("truncated") + lost("pool") + lost("queue");
    let extra = count(trial, "foreign") + count(trial, "duplicates");
    assert_eq!(count(trial, "intended"), before + count(trial, "sent"), "{trial}");
    assert_eq!(count(trial, "unsent"), lost("unsent"), "{trial}");
    assert_eq!(
        count(trial, "sent") + extra,
        between + lost("socket") + lost("unread") + count(trial, "received"),
        "{trial}"
    );
    assert_eq!(count(trial, "received"), after + count(trial, "handled"), "{trial}");
}

/// Checks that every trial is sound and balances.
pub(crate) fn all_balance(report: &Value) {
    assert!(!trials(report).is_empty());
    for trial in trials(report) {
        assert_eq!(trial["void"], Value::Bool(false), "{trial}");
        balances(trial);
    }
}
