//! A thread that calls write(2) and fdatasync(2), one after the other, for hosts without io_uring. A disk
//! that stalls holds up this thread and not the worker.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::journal::disk::interface::{Disk, Done, SLOTS, Write, create_durably, still_there};
use ringest_base::sys::threads::spawn_named;

/// A task for the thread. The queue is bounded by the writer's buffers.
#[derive(Debug)]
enum Task {
    Create(usize, PathBuf),
    /// With a copy of the bytes, because the worker goes on filling the buffer.
    Write(Write, Box<[u8]>),
    Sync(usize),
    /// Has no completion.
    Release(usize),
}

/// A disk that is written by a thread. See the module's description.
#[derive(Debug)]
pub(crate) struct Plain {
    buffers: Vec<Box<[u8]>>,
    /// `None` once it is dropped.
    tasks: Option<Sender<Task>>,
    done: Receiver<Done>,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Plain {
    pub(crate) fn new(buffers: Vec<Box<[u8]>>, worker: u16, device: u64) -> Self {
        let (tasks, inbox) = unbounded();
        let (outbox, done) = unbounded();
        // If the thread cannot be started, every task is refused, and the writer reports that it cannot
        // write.
        let life = move || run(&inbox, &outbox, device);
        let thread = spawn_named(format!("ringest-disk-{worker}"), None, life).ok();
        Self { buffers, tasks: Some(tasks), done, under_way: 0, thread }
    }

    fn begin(&mut self, task: Task) -> io::Result<()> {
        let sent = self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
        self.under_way += usize::from(sent);
        if sent { Ok(()) } else { Err(io::Error::other("there is no thread to write it")) }
    }
}

impl Disk for Plain {
    fn buffer(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index]
    }

    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()> {
        self.begin(Task::Create(slot, path.to_owned()))
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        let bytes = self.buffers[write.buffer][write.from..write.to].into();
        self.begin(Task::Write(write, bytes))
    }

    fn sync(&mut self, slot: usize) -> io::Result<()> {
        self.begin(Task::Sync(slot))
    }

    fn release(&mut self, slot: usize) {
        if let Some(tasks) = &self.tasks {
            // Without the thread no file is open.
            let _ = tasks.send(Task::Release(slot));
        }
    }

    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()> {
        if wait && self.under_way > 0 {
            let first = self.done.recv();
            done.push(first.map_err(|_| io::Error::other("the thread that writes it has ended"))?);
            self.under_way -= 1;
        }
        while let Ok(one) = self.done.try_recv() {
            done.push(one);
            self.under_way -= 1;
        }
        Ok(())
    }
}

impl Drop for Plain {
    /// Waits for the operations under way: a journal that is closed is not written to.
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is a bug; nothing was counted as committed because of it.
            let _ = thread.join();
        }
    }
}

/// Runs tasks in order until the sender is dropped.
fn run(inbox: &Receiver<Task>, outbox: &Sender<Done>, device: u64) {
    let mut files: [Option<File>; SLOTS] = [None, None];
    let absent = || io::Error::other("no segment is open");
    for task in inbox {
        let done = match task {
            Task::Create(slot, path) => {
                let created = create_durably(&path, device);
                let result = created.map(|file| files[slot] = Some(file));
                if result.is_err() {
                    files[slot] = None;
                }
                Done::Created(slot, result)
            }
            Task::Write(write, bytes) => {
                let file = files[write.slot].as_ref().ok_or_else(absent);
                let written = file.and_then(|file| file.write_all_at(&bytes, write.offset));
                Done::Write(write.number, written)
            }
            Task::Release(slot) => {
                files[slot] = None;
                continue;
            }
            Task::Sync(slot) => {
                let file = files[slot].as_ref().ok_or_else(absent);
                let synced =
                    file.and_then(|file| file.sync_data().and_then(|()| still_there(file)));
                Done::Sync(slot, synced)
            }
        };
        if outbox.send(done).is_err() {
            return;
        }
    }
}
