//! Threads: the only place that spawns and names them, and that pins or slows the calling one.

use std::io;
use std::thread::JoinHandle;

use core_affinity::CoreId;

/// A thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start thread {name}: {source}; see `ulimit -u` and the cgroup's pids.max")]
pub struct ThreadError {
    /// Name of the thread.
    pub name: String,
    /// The kernel's answer.
    pub source: io::Error,
}

/// Starts a thread with a name (at most 15 bytes are shown by the kernel).
///
/// # Errors
/// The kernel refused the thread.
pub fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    let thread = std::thread::Builder::new().name(name.clone()).spawn(work);
    thread.map_err(|source| ThreadError { name, source })
}

/// Starts a thread that is not part of an engine: a sender, or a receive loop to compare with. Pins it to
/// `core`, if one is given.
///
/// # Errors
/// The kernel refused the thread.
pub fn spawn_named<T: Send + 'static>(
    name: String,
    core: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    spawn(name, move || {
        if let Some(core) = core {
            pin(core);
        }
        work()
    })
}

/// Runs `task` to its end on a thread of its own. A panic of the task goes on in the caller.
///
/// # Errors
/// The kernel refused the thread.
pub fn run_on_own_thread<T: Send>(
    name: &str,
    task: impl FnOnce() -> T + Send,
) -> Result<T, ThreadError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, task);
        match thread {
            Ok(thread) => match thread.join() {
                Ok(done) => Ok(done),
                Err(panic) => std::panic::resume_unwind(panic),
            },
            Err(source) => Err(ThreadError { name: name.to_owned(), source }),
        }
    })
}

/// Pins the calling thread to `core`. Does nothing if the core is no longer there.
pub fn pin(core: usize) {
    core_affinity::set_for_current(CoreId { id: core });
}

/// Nice value of background threads (nice(1)), about a tenth of a busy core. Higher, and their work is never
/// done on a host that is busy for hours; lower, and receivers wait for them.
const BACKGROUND: i32 = 10;

/// Lowers the priority of the calling thread below receivers and workers (setpriority(2), which is per thread on
/// Linux). Does nothing where that is not permitted.
pub fn lower_priority() {
    let _ = rustix::process::setpriority_process(None, BACKGROUND);
}
