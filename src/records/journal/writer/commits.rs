//! Handles completions, in order: writes, then the sync that covers them, then commits the groups it
//! covers.

use std::io::ErrorKind;

use crate::journal::disk::interface::{Disk, Done};
use crate::journal::writer::parts::{OpenSegment, Refused};
use crate::journal::writer::segment_writer::Writer;
use crate::settle::run::{Event, Run};

impl<D: Disk> Writer<D> {
    /// Handles completions, and begins the syncs that are ready. Waits for a completion if `wait`.
    pub(crate) fn progress(&mut self, wait: bool) -> Result<(), Refused> {
        self.sync_ready()?;
        let mut done = std::mem::take(&mut self.done);
        let reaped = self.disk.reap(wait, &mut done);
        let mut failure = None;
        for one in done.drain(..) {
            self.note(&one);
            match one {
                Done::Sync(slot, Ok(())) => self.synced(slot),
                Done::Created(_, result) | Done::Write(_, result) | Done::Sync(_, result) => {
                    failure = failure.or_else(|| result.err());
                }
            }
        }
        self.done = done;
        match failure.or_else(|| reaped.err()) {
            Some(error) => Err(Refused::Failed(error)),
            None => self.sync_ready(),
        }
    }

    /// Notes that an operation has ended, whether or not it succeeded.
    pub(crate) fn note(&mut self, done: &Done) {
        match *done {
            // The file existed before, so it is not this writer's to cut.
            Done::Created(slot, Err(ref error)) if error.kind() == ErrorKind::AlreadyExists => {
                self.segments[slot] = None;
            }
            Done::Created(slot, _) => {
                if let Some(open) = &mut self.segments[slot] {
                    open.creating = false;
                }
            }
            Done::Write(number, _) => self.write_ended(number),
            Done::Sync(..) => self.syncing = false,
        }
    }

    fn write_ended(&mut self, number: u64) {
        step!("write-ended");
        let place = self.writes.front().and_then(|(first, ..)| number.checked_sub(*first));
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some((_, buffer, ended)) = place.and_then(|place| self.writes.get_mut(place)) {
            *ended = true;
            self.buffers[*buffer].under_way -= 1;
        }
        while self.writes.front().is_some_and(|(.., ended)| *ended) {
            self.writes.pop_front();
        }
    }

    /// Begins a sync for the groups in front whose writes have all ended. One sync at a time, so that the
    /// next one covers all groups that gathered meanwhile.
    fn sync_ready(&mut self) -> Result<(), Refused> {
        let ended = self.writes.front().map_or(self.writes_begun, |(number, ..)| *number);
        let Some(first) = self.groups.front().filter(|_| !self.syncing) else { return Ok(()) };
        let slot = first.slot;
        if first.writes > ended {
            return Ok(());
        }
        self.disk.sync(slot).map_err(Refused::Failed)?;
        step!("sync-begun");
        self.syncing = true;
        for group in &mut self.groups {
            group.syncing |= group.slot == slot && group.writes <= ended;
        }
        Ok(())
    }

    fn synced(&mut self, slot: usize) {
        step!("sync-ended");
        if std::mem::take(&mut self.is_failing) {
            self.events.push(Event::Resumed);
        }
        while let Some(group) = self.groups.pop_front_if(|group| group.syncing) {
            let datagrams = group.appended - self.committed;
            Run::note(&mut self.runs, Run { datagrams, lost: false });
            self.committed = group.appended;
            if let Some(open) = &mut self.segments[slot] {
                open.committed = group.holds.offset;
            }
            self.events.push(Event::Committed(group.holds));
        }
        step!("committed");
        // A group still queued for this slot would be taken for one of the slot's next segment.
        let queued = self.groups.iter().any(|group| group.slot == slot);
        let complete =
            |open: &OpenSegment| open.closing && open.committed == open.offset && !queued;
        if self.segments[slot].as_ref().is_some_and(complete)
            && let Some(open) = self.segments[slot].take()
        {
            step!("segment-complete");
            self.disk.release(slot);
            self.events.push(Event::Complete(open.header.sequence, open.path));
        }
    }
}
