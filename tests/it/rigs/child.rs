//! Tests that need a process of their own: other capabilities, a filter on system calls, or nobody
//! else's descriptors and memory to count.

use std::process::{Command, Output};

/// This binary again, running one ignored test alone in a process.
#[derive(Debug)]
pub(crate) struct Child {
    prefix: Vec<&'static str>,
    test: &'static str,
    env: Vec<(&'static str, String)>,
}

impl Child {
    /// Names the test by its full path, such as `stopping::child_…`.
    pub(crate) fn new(test: &'static str) -> Self {
        Self { prefix: Vec::new(), test, env: Vec::new() }
    }

    pub(crate) fn env(mut self, key: &'static str, value: &impl ToString) -> Self {
        self.env.push((key, value.to_string()));
        self
    }

    /// Runs it without these capabilities, such as `-bpf,-sys_admin`. `None`, with a printed reason,
    /// if this process may not drop them or setpriv(1) is missing.
    pub(crate) fn without(mut self, capabilities: &'static str) -> Option<Self> {
        self.prefix = vec!["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities];
        let tried = Command::new(self.prefix[0]).args(&self.prefix[1..]).arg("true").output();
        match tried {
            Ok(output) if output.status.success() && nix::unistd::geteuid().is_root() => Some(self),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("skipped: capabilities cannot be dropped here (not root?): {reason}");
                None
            }
            Err(error) => {
                println!("skipped: setpriv cannot be run: {error}");
                None
            }
        }
    }

    pub(crate) fn run(&self) -> Output {
        let me = std::env::current_exe().unwrap();
        let mut command = match self.prefix.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(me);
                command
            }
            None => Command::new(me),
        };
        command
            .args(["--exact", self.test, "--ignored", "--nocapture", "--test-threads=1"])
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .output()
            .unwrap()
    }

    /// Runs it; it must have found its test and passed it.
    pub(crate) fn pass(&self) {
        let output = self.run();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success() && stdout.contains("1 passed"),
            "{self:?}: {}\n{stdout}\n{stderr}",
            output.status
        );
        print!("{stdout}");
    }
}
