//! Tools for the doctor's tests: the program run in a place made for the test, its answer, and its fix run as
//! printed.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::rigs::support::DEADLINE;
use crate::sockets::network::{Cable, ENGINE_IP};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ringest");

/// The doctor's answer and its exit code.
#[derive(Debug)]
pub(crate) struct Report {
    checks: Vec<Value>,
    pub(crate) code: Option<i32>,
}

/// One check of it.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) status: String,
    pub(crate) found: String,
    pub(crate) fix: String,
}

impl Report {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{said}"));
        assert_eq!(value["version"], 1);
        let checks = value["checks"].as_array().unwrap().clone();
        Self { checks, code: output.status.code() }
    }

    pub(crate) fn check(&self, id: &str) -> Finding {
        let check = self.checks.iter().find(|check| check["id"] == id);
        let check = check.unwrap_or_else(|| panic!("no check {id} in {self:#?}"));
        let text = |key: &str| check[key].as_str().unwrap().to_owned();
        assert!(!text("meaning").is_empty() && !text("source").is_empty(), "{check}");
        Finding { status: text("status"), found: text("found"), fix: text("fix") }
    }
}

/// Tells whether a program that a fix needs is installed, and prints it if not.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// A program beside the test; ended with it, however it ends.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where commands run: what stands before each of them.
#[derive(Clone, Debug)]
pub(crate) struct Place(Vec<String>);

impl Place {
    pub(crate) fn here() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn netns(name: &str) -> Self {
        Self(["ip", "netns", "exec", name].map(ToOwned::to_owned).into())
    }

    /// Returns the same place without these capabilities, such as `-ipc_lock`.
    pub(crate) fn without(&self, capabilities: &str) -> Self {
        let drop = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities];
        Self(self.0.iter().cloned().chain(drop.map(ToOwned::to_owned)).collect())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut words =
            self.0.iter().map(String::as_str).chain([program]).chain(args.iter().copied());
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
    }

    /// Starts a program that runs beside the test.
    pub(crate) fn start(&self, program: &str, args: &[&str]) -> Running {
        Running(self.command(program, args).spawn().unwrap())
    }

    /// Runs what a user would type.
    pub(crate) fn shell(&self, line: &str) -> Output {
        self.command("sh", &["-c", line]).output().unwrap()
    }

    /// Runs a command, which must succeed.
    pub(crate) fn run(&self, line: &str) {
        let output = self.shell(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?}: {line}: {} {said}", output.status);
    }

    /// Asks the doctor, after `before` in the same shell.
    pub(crate) fn examine_after(&self, before: &str, args: &[&str]) -> Report {
        let args: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
        let line = format!("{before} exec {PROGRAM} doctor --json {}", args.join(" "));
        Report::of(&self.shell(&line))
    }

    pub(crate) fn examine(&self, args: &[&str]) -> Report {
        self.examine_after("", args)
    }

    /// Checks that the doctor finds a fault and says what mends it, runs that as printed, and checks that it
    /// helped.
    pub(crate) fn find_and_mend(&self, args: &[&str], id: &str, status: &str) -> Finding {
        let report = self.examine(args);
        let sick = report.check(id);
        println!("{id}: {} ({}): {}", sick.status, sick.found, sick.fix);
        assert_eq!(sick.status, status, "{report:#?}");
        assert_eq!(report.code, Some(i32::from(status == "failure")), "{report:#?}");
        self.run(&sick.fix);
        let report = self.examine(args);
        assert_eq!(report.check(id).status, "ok", "{sick:?}\n{report:#?}");
        assert_eq!(report.code, Some(0), "nothing else is wrong: {report:#?}");
        sick
    }
}

/// Datagrams from the other end of the cable arrive at `to`: a receiver of its own takes one and ends.
///
/// No socket of this process is bound to the port: a program that another test starts at the same time
/// would hold it for a moment, and the doctor would call it taken.
pub(crate) fn arrives(cable: &Cable, to: SocketAddr) {
    let listen = ["listen", &to.to_string(), "--count", "1", "--quiet"];
    let mut receiver = Place::netns(&cable.engine).start(PROGRAM, &listen);
    let sender = Cable::inside(&cable.client, || UdpSocket::bind("0.0.0.0:0").unwrap());
    heard(&sender, to, &mut receiver);
}

/// Sends until the receiver has taken one.
pub(crate) fn heard(sender: &UdpSocket, to: SocketAddr, receiver: &mut Running) {
    let deadline = Instant::now() + DEADLINE;
    let ended = loop {
        // A datagram that no socket listens for yet comes back as an error.
        let _ = sender.send_to(b"well", to);
        if let Some(ended) = receiver.0.try_wait().unwrap() {
            break ended;
        }
        assert!(Instant::now() < deadline, "hung: waited for a datagram to arrive at {to}");
        std::thread::yield_now();
    };
    assert!(ended.success(), "{to}: {ended}");
}

/// Returns where the engine of a cable would listen.
pub(crate) fn engine_at(port: u16) -> SocketAddr {
    (ENGINE_IP, port).into()
}

/// Files that stand in for settings of the whole machine, which no test may touch: in a mount
/// namespace of this thread alone each lies over the real one, for the doctor to read and for its fix
/// to write. Gone with the thread.
#[derive(Debug)]
pub(crate) struct StandIns(PathBuf);

impl StandIns {
    /// Runs `work` among them. `false`, with a printed reason, where that cannot be made.
    pub(crate) fn with(work: impl FnOnce(&Self) + Send) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let done = std::thread::scope(|scope| {
            let alone = scope.spawn(|| {
                if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
                    println!("skipped: no mount namespace here (not root?): {error}");
                    return false;
                }
                // Nothing mounted from here on is seen by anybody else.
                Place::here().run("mount --make-rprivate /");
                work(&Self(dir.path().to_owned()));
                true
            });
            alone.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Lays `value` over the setting, and makes sure that it is what is read and written there.
    pub(crate) fn lay(&self, path: &str, value: &str) {
        let file = self.0.join(path.replace('/', "_"));
        fs::write(&file, format!("{value}\n")).unwrap();
        let real = fs::metadata(path).unwrap().dev();
        Place::here().run(&format!("mount --bind {} {path}", file.display()));
        let now = fs::metadata(path).unwrap().dev();
        assert!(now != real && now == fs::metadata(&file).unwrap().dev(), "{path} is the real one");
        assert_eq!(fs::read_to_string(path).unwrap().trim(), value);
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(Path::new(name))
    }
}

/// Settings of the whole machine, bad ones, and what the doctor calls each.
pub(crate) const SETTINGS: [(&str, &str, &str); 7] = [
    ("/proc/sys/net/core/rmem_max", "212992", "rmem_max"),
    ("/proc/sys/net/core/rmem_default", "4096", "rmem_default"),
    ("/proc/sys/net/core/wmem_max", "4096", "wmem_max"),
    ("/proc/sys/net/core/netdev_max_backlog", "100", "netdev_max_backlog"),
    ("/proc/sys/net/ipv4/udp_mem", "100\t200\t300", "udp_mem"),
    ("/proc/sys/kernel/io_uring_disabled", "2", "io_uring_disabled"),
    ("/proc/sys/net/netfilter/nf_conntrack_max", "1000", "conntrack_table"),
];

/// Lays the bad settings of this kernel over the real ones. Returns what the doctor calls them.
pub(crate) fn spoil(stand_ins: &StandIns) -> Vec<&'static str> {
    let there = SETTINGS.iter().filter(|(path, ..)| fs::exists(path).unwrap_or(false));
    there
        .map(|(path, value, id)| {
            stand_ins.lay(path, value);
            if *id == "conntrack_table" {
                stand_ins.lay("/proc/sys/net/netfilter/nf_conntrack_count", "999");
            }
            *id
        })
        .collect()
}

/// The port that the tests ask for.
pub(crate) const PORT: u16 = 9000;

/// The engine's side of a cable, and the address asked for there.
pub(crate) fn ward() -> Option<(Cable, Place, String)> {
    let cable = Cable::lay()?;
    let place = Place::netns(&cable.engine);
    Some((cable, place, engine_at(PORT).to_string()))
}
