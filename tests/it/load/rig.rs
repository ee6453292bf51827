//! Tools for the tests of `ringest load`: the real binary, run to its end or stopped, its output, and
//! captures to replay.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::rigs::support::{DEADLINE, until};

const RINGEST: &str = env!("CARGO_BIN_EXE_ringest");

/// A command of the binary under way. One that is dropped is killed.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    child: Option<Child>,
}

/// The output of a command and its exit code.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let child = Command::new(RINGEST)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self::of(child)
    }

    /// Takes over a command that was started with stdout and stderr as pipes.
    pub(crate) fn of(child: Child) -> Self {
        Self { pid: Pid::from_raw(child.id().try_into().unwrap()), child: Some(child) }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Stops it, and returns once it stands still.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", self.pid);
        until("the process to stop", || {
            let text = std::fs::read_to_string(&stat).unwrap();
            text.rsplit(") ").next().unwrap().starts_with('T')
        });
    }

    /// Tells whether it has ended, though nobody waited for it yet.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = format!("/proc/{}/stat", self.pid);
        std::fs::read_to_string(stat)
            .map_or(true, |text| text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
    }

    /// Waits for its end, and fails the test if that hangs.
    pub(crate) fn end(mut self) -> Ended {
        let child = self.child.take().unwrap();
        let (give, take) = mpsc::channel();
        let waiter = std::thread::Builder::new().name("waiter".to_owned());
        let waiter = waiter.spawn(move || give.send(child.wait_with_output())).unwrap();
        let Ok(output) = take.recv_timeout(DEADLINE) else {
            self.signal(Signal::SIGKILL);
            panic!("hung: waited for {self:?} to end");
        };
        waiter.join().unwrap().unwrap();
        Ended::of(output.unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Checks that it failed with this exit code, and said so.
    pub(crate) fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for words in said {
            assert!(self.stderr.contains(words), "{words:?} is not in {self:?}");
        }
    }

    /// Returns the report, and checks that it balances.
    pub(crate) fn report(&self) -> Report {
        assert_eq!(self.code, Some(0), "{self:?}");
        let report = Report(serde_json::from_str(&self.stdout).unwrap());
        let failed = report.get("send_failed");
        assert_eq!(report.get("version"), 1);
        assert_eq!(
            report.get("intended"),
            report.sent() + report.get("unsent") + failed,
            "{self:?}"
        );
        report
    }
}

/// The output of `--json`.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// Returns a number by the names on the way to it, such as `lateness_ns max`.
    pub(crate) fn get(&self, path: &str) -> u64 {
        let value = path.split(' ').fold(&self.0, |value, key| &value[key]);
        value.as_u64().unwrap_or_else(|| panic!("{path} in {self:?}"))
    }

    pub(crate) fn sent(&self) -> u64 {
        self.get("sent")
    }
}

/// Starts `ringest load TARGET …`.
pub(crate) fn start_load(target: SocketAddr, args: &str) -> Running {
    let target = target.to_string();
    let args = args.split_whitespace();
    Running::start(&["load", &target].into_iter().chain(args).collect::<Vec<_>>())
}

/// Runs `ringest load TARGET …` to its end.
pub(crate) fn load(target: SocketAddr, args: &str) -> Ended {
    start_load(target, args).end()
}

/// Starts `ringest echo` on a free port.
pub(crate) fn start_echo() -> (Running, SocketAddr) {
    let mut echo = Running::start(&["echo", "127.0.0.1:0"]);
    let child = echo.child.as_mut().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address = line.split_whitespace().find_map(|word| word.parse().ok());
    // Nobody reads on: what it says in the end fits the pipe, which must stay open.
    child.stderr = Some(stderr.into_inner());
    (echo, address.unwrap_or_else(|| panic!("no address in {line:?}")))
}

/// A file of this test's own; gone when dropped.
#[derive(Debug)]
pub(crate) struct TempFile(tempfile::NamedTempFile);

impl TempFile {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        Self(file)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

/// A capture being written (pcap, Ethernet, microseconds).
#[derive(Debug)]
pub(crate) struct Pcap(Vec<u8>);

impl Pcap {
    pub(crate) fn new() -> Self {
        let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
        let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        bytes.extend([2, 0, 4, 0]);
        bytes.extend(words([0, 0, 262_144, 1]));
        Self(bytes)
    }

    /// Adds a frame captured at this time.
    pub(crate) fn frame(&mut self, at_us: u64, frame: &[u8]) -> &mut Self {
        let len = u32::try_from(frame.len()).unwrap();
        let half = |number: u64| u32::try_from(number).unwrap();
        let head = [half(1_700_000_000 + at_us / 1_000_000), half(at_us % 1_000_000), len, len];
        self.0.extend(head.map(u32::to_le_bytes).concat());
        self.0.extend(frame);
        self
    }

    /// Adds a UDP datagram of a sender with this last byte of its address, and this port.
    pub(crate) fn udp(&mut self, at_us: u64, (host, port): (u8, u16), payload: &[u8]) -> &mut Self {
        let len = u16::try_from(payload.len() + 8).unwrap();
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((len + 20).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([192, 0, 2, host, 198, 51, 100, 1]);
        frame.extend([port, 514, len, 0].map(u16::to_be_bytes).concat());
        frame.extend(payload);
        self.frame(at_us, &frame)
    }

    pub(crate) fn save(&self) -> TempFile {
        TempFile::new(&self.0)
    }
}

/// Returns the loopback address with a port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
