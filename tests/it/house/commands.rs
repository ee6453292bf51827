//! Types every `sh` block of README.md and docs/usage.md as it stands.
//!
//! A block runs in a network namespace and an empty directory of its own, with the program under test on the PATH.
//! A command that runs until it is stopped (`ringest listen` without an end) is left in the background. It is stopped
//! at the end of its block, or when the next command takes its port, and must then exit with 0. Any other command must
//! exit with the code that its comment names, or 0.
//!
//! `cargo` and `scripts/test` are stand-ins: building a release and running all tests inside a test would take too
//! long. The stand-ins check that what they stand for is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sockets::lab::Program;
use crate::sockets::network::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Flags with which `listen` and `echo` end by themselves.
const ENDS: &[&str] = &["--plan", "--for", "--count", "--idle-timeout", "--help"];

/// A place to type a block in; removed with everything in it.
struct Shell {
    netns: String,
    dir: PathBuf,
    serving: Vec<(String, Program)>,
}

impl Shell {
    /// Returns `None`, with a printed reason, where namespaces cannot be made.
    fn open(name: &str) -> Option<Self> {
        let netns = format!("ringest-sh-{}-{name}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&netns);
        if let Err(reason) = run("ip", &format!("netns add {netns}")) {
            println!("skipped: no network namespaces here (not root?): {reason}");
            return None;
        }
        let shell = Self { netns, dir, serving: Vec::new() };
        run("ip", &format!("-n {} link set lo up", shell.netns)).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_ringest")).parent().unwrap();
        shell.script(
            "bin/cargo",
            &format!(
                "case \"$*\" in\n\
             'run --release -- '*) shift 3; exec {}/ringest \"$@\" ;;\n\
             'install --path .') exec grep -q '^name = \"ringest\"' {ROOT}/Cargo.toml ;;\n\
             esac\nexit 99\n",
                program.display()
            ),
        );
        shell.script("scripts/test", &format!("exec bash -n {ROOT}/scripts/test\n"));
        Some(shell)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self, line: &str) -> Program {
        let program = Path::new(env!("CARGO_BIN_EXE_ringest")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.netns, "bash", "-c", line])
            .current_dir(&self.dir)
            .env("PATH", format!("{}/bin:{}:{path}", self.dir.display(), program.display()));
        Program::start(&mut command)
    }

    /// Types one line.
    fn enter(&mut self, line: &str) {
        let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
        self.make_room_for(command);
        if runs_until_stopped(command) {
            let mut program = self.start(&format!("exec {command}"));
            if !command.contains(" tail ") {
                program.listening();
            }
            self.serving.push((command.to_owned(), program));
            return;
        }
        let wanted = comment.split_once("exit code ").map_or(0, |(_, code)| {
            code.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        });
        let ended = self.start(command).end();
        assert_eq!(ended.code, Some(wanted), "{command}\n{}\n{}", ended.stdout, ended.stderr);
    }

    /// Stops what holds a port that `command` wants to listen on.
    fn make_room_for(&mut self, command: &str) {
        if !runs_until_stopped(command) && !command.starts_with("ringest listen") {
            return;
        }
        let wanted = ports(command);
        let (leave, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.serving)
            .into_iter()
            .partition(|(serving, _)| ports(serving).iter().any(|port| wanted.contains(port)));
        self.serving = stay;
        leave.into_iter().for_each(|(serving, program)| stop(&serving, program));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.serving.clear();
        let _ = run("ip", &format!("netns delete {}", self.netns));
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn stop(command: &str, program: Program) {
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{command}, stopped\n{}\n{}", ended.stdout, ended.stderr);
}

fn runs_until_stopped(command: &str) -> bool {
    let serves = ["ringest listen ", "ringest echo ", "ringest bench server "];
    let follows = command.starts_with("ringest journal tail ") && command.contains(" -f");
    follows
        || serves.iter().any(|start| command.starts_with(start))
            && !ENDS.iter().any(|flag| command.contains(flag))
}

/// Ports named in a command's addresses.
fn ports(command: &str) -> Vec<u16> {
    let words = command.split([' ', '\'']);
    words.filter_map(|word| word.rsplit_once(':')?.1.parse().ok()).collect()
}

/// Returns the `sh` blocks of a page, each as the line it begins at and its commands.
fn blocks(page: &str) -> Vec<(usize, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut inside: Option<(usize, Vec<String>)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut inside, line.trim_end()) {
            (None, "```sh") => inside = Some((number + 2, Vec::new())),
            (Some(_), "```") => blocks.extend(inside.take()),
            (Some((_, lines)), line) if !line.is_empty() => lines.push(line.to_owned()),
            _ => {}
        }
    }
    blocks
}

fn type_all(page: &str) {
    let text = fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
    let blocks = blocks(&text);
    assert!(!blocks.is_empty(), "{page} has no `sh` block");
    for (line, commands) in blocks {
        println!("{page}:{line}");
        let Some(mut shell) = Shell::open(&line.to_string()) else { return };
        commands.iter().for_each(|command| shell.enter(command));
        for (command, program) in std::mem::take(&mut shell.serving) {
            stop(&command, program);
        }
    }
}

#[test]
fn commands_of_the_readme_run_as_printed() {
    type_all("README.md");
}

#[test]
fn commands_of_the_usage_page_run_as_printed() {
    type_all("docs/usage.md");
}

#[test]
fn blocks_are_found_and_ports_read() {
    let page = "a\n```sh\none\n\ntwo\n```\n```text\nthree\n```\n";
    assert_eq!(blocks(page), [(3, vec!["one".to_owned(), "two".to_owned()])]);
    assert_eq!(ports("ringest listen 0.0.0.0:9000 '[::1]:9001' --rcvbuf 64M"), [9000, 9001]);
    assert!(runs_until_stopped("ringest listen '*:9000' --sink stdout"));
    assert!(!runs_until_stopped("ringest listen '*:9000' --for 2s"));
}
