//! Handles a disk failure: gives up what is not committed, and waits for nothing that was begun before.

use std::io;
use std::time::Instant;

use crate::journal::disk::interface::Disk;
use crate::journal::writer::parts::Buffer;
use crate::journal::writer::segment_writer::Writer;
use crate::settle::run::Event;

impl<D: Disk> Writer<D> {
    /// Gives up everything uncommitted, and leaves the disk alone for a while.
    pub(crate) fn fail(&mut self, error: io::Error, now: Instant) {
        let lost = self.appended - self.committed;
        self.give_up(lost);
        self.appended = self.committed;
        self.groups.clear();
        self.since = None;
        self.failed_at = Some(now);
        self.is_failing = true;
        self.is_draining = true;
        self.events.push(Event::Failed(error, lost));
        self.drain();
    }

    /// Frees the buffers and releases the segments, to be cut, once every operation begun before the
    /// failure has ended.
    pub(crate) fn drain(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        // These datagrams are counted as lost already, whether their operations fail or succeed.
        let _ = self.disk.reap(false, &mut done);
        done.drain(..).for_each(|one| self.note(&one));
        self.done = done;
        if self.is_under_way() {
            return;
        }
        self.is_draining = false;
        self.buffers.fill(Buffer::default());
        self.current = 0;
        for (slot, open) in self.segments.iter_mut().enumerate() {
            let Some(open) = open.take() else { continue };
            self.disk.release(slot);
            let sequence = open.header.sequence;
            self.events.push(Event::GivenUp(sequence, open.path, open.committed));
        }
    }

    pub(crate) fn await_drained(&mut self) {
        while self.is_draining && self.is_under_way() {
            let mut done = std::mem::take(&mut self.done);
            let reaped = self.disk.reap(true, &mut done);
            done.drain(..).for_each(|one| self.note(&one));
            self.done = done;
            if reaped.is_err() {
                return;
            }
        }
        if self.is_draining {
            self.drain();
        }
    }

    fn is_under_way(&self) -> bool {
        let creating = self.segments.iter().flatten().any(|open| open.creating);
        self.syncing || creating || !self.writes.is_empty()
    }
}
