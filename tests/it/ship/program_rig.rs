//! `ringest listen` as an operator has it: at a terminal, with a status line that is read all the time.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::client::rig::RINGEST;
use crate::load::rig::{Ended, Running};
use crate::rigs::support::until;

/// Arguments of stty(1): the terminal's size. A status line is cut where the terminal ends.
const SIZE: [&str; 4] = ["rows", "24", "columns", "250"];

/// Returns the command for the program with one receiver and one worker on a free port, and `more`.
pub(crate) fn listen<'a>(more: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(RINGEST);
    command
        .args(["listen", "127.0.0.1:0", "--receivers", "1", "--workers", "1", "--json"])
        .args(more)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The program at work. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    running: Running,
    screen: Screen,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Returns once it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let terminal = Terminal::open();
        command.stderr(terminal.slave);
        let running = Running::of(command.spawn().unwrap());
        // From here on only the program can write to the terminal.
        drop(command);
        let screen = Screen::of(terminal.master);
        let mut address = None;
        until("it to listen", || {
            let text = screen.text();
            assert!(!running.has_ended(), "it ended before it listened: {text}");
            let said = text.split_once("listening on ").map(|(_, rest)| rest);
            address = said.and_then(|rest| rest.split_once(' ')?.0.parse().ok());
            address.is_some()
        });
        Self { running, screen, address: address.unwrap() }
    }

    /// Returns how many records wait for its broker, by the last status line; `None` before the first one.
    pub(crate) fn waiting(&self) -> Option<u64> {
        self.said().rsplit('\r').find_map(waiting)
    }

    /// Returns all that it has printed.
    pub(crate) fn said(&self) -> String {
        self.screen.text()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.running.has_ended()
    }

    /// Ends it without any farewell.
    pub(crate) fn kill(self) {
        self.running.signal(Signal::SIGKILL);
        self.end();
    }

    /// Stops it; returns its summary, and all it has said.
    pub(crate) fn stop(self) -> (Value, String) {
        self.running.signal(Signal::SIGTERM);
        let ended = self.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        (serde_json::from_str(&ended.stdout).unwrap(), ended.stderr)
    }

    /// Waits for its end; what it said at its terminal is its stderr.
    pub(crate) fn end(self) -> Ended {
        let ended = self.running.end();
        Ended { stderr: self.screen.end(), ..ended }
    }
}

/// Returns the number of waiting records that a status line names. `None`: it names none.
fn waiting(line: &str) -> Option<u64> {
    if line.contains(" nothing waits") {
        return Some(0);
    }
    let (before, _) = line.split_once(" wait (")?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

/// Both ends of a terminal.
struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    fn open() -> Self {
        // Nobody else's: neither ours to control us, nor of programs that other tests start meanwhile.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave =
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        let mut widen = Command::new("stty");
        widen.args(SIZE).stdin(slave.try_clone().unwrap());
        assert!(widen.status().unwrap().success(), "stty");
        Self { master: File::from(std::os::fd::OwnedFd::from(master)), slave }
    }
}

/// All output that a terminal got.
#[derive(Debug)]
struct Screen {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Screen {
    fn of(mut master: File) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let shown = Arc::clone(&bytes);
        let read = move || {
            let mut some = [0; 4096];
            // It fails when nobody has the other end any more.
            while let Ok(count @ 1..) = master.read(&mut some) {
                shown.lock().unwrap().extend_from_slice(&some[..count]);
            }
        };
        let reader = std::thread::Builder::new().name("screen".to_owned()).spawn(read).unwrap();
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn end(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}
