//! Goes back to the settled positions: to send again, or to skip what retention removed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::lane::Step;
use crate::shipper::flight::{Fate, Flight};
use crate::shipper::thread::{BACK_OFF, Shipper};
use ringest_records::journal::keep::commit_index::Gone;

/// How long to wait for verdicts before records that retention removed are given up, with everything under
/// way: a carrier without its broker may hold them for ever.
const REMOVED_GIVE_UP_AFTER: Duration = match cfg!(test) {
    false => Duration::from_secs(1),
    true => Duration::from_millis(4),
};

impl Shipper {
    /// Gives up removed records that come before all others, if the carrier neither takes nor settles
    /// anything, or `at_once`. Records under way from removed segments are counted as missing; the rest is
    /// sent again.
    pub(super) fn give_up_removed(&mut self, at_once: bool) {
        let gone = self.context.commit_index.gone(&self.settled);
        let is_stuck =
            self.window.is_empty() || self.progressed_at.elapsed() >= REMOVED_GIVE_UP_AFTER;
        if gone.is_empty() || !(at_once || is_stuck) {
            return;
        }
        if !self.window.is_empty() || self.unreadable.is_some() {
            self.carrier.reset();
        }
        self.clear_window();
        let flight = |gone: Gone| Flight {
            ticket: self.next_ticket,
            worker: gone.worker,
            step: Step { after: gone.after, own: gone.own, ends: true },
            id: None,
            records: gone.records,
            datagrams: gone.datagrams,
            bytes: 0,
            received_unix_ns: 0,
            fate: Some(Fate::Missing),
        };
        self.window.extend(gone.into_iter().map(flight));
        self.settle();
        self.rewind_lanes();
        self.write_cursor();
    }

    /// Clears the window.
    pub(super) fn clear_window(&mut self) {
        self.unreadable = None;
        self.window.clear();
        self.window_bytes = 0;
    }

    /// Moves each lane to its settled position.
    pub(super) fn rewind_lanes(&mut self) {
        for (worker, lane) in &mut self.lanes {
            lane.rewind(self.settled.get(worker).copied().unwrap_or_default());
        }
    }

    /// Clears the window, and starts again at the settled positions after a pause.
    pub(super) fn send_again(&mut self, about: &str, reason: &str) {
        self.carrier.reset();
        self.clear_window();
        self.rewind_lanes();
        self.context.account.resent();
        self.report();
        let name = &self.context.destination;
        self.context.notices.repeated(&format!("{name} {about}"), || {
            format!("{name}: {reason}; retrying; {}", self.waiting())
        });
        self.pause(self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
    }

    /// Waits for `length`, or until the shipper must stop. The carrier makes progress meanwhile.
    pub(super) fn pause(&mut self, length: Duration) {
        let until = Instant::now() + length;
        while !self.context.stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.carrier.poll(Duration::ZERO, &mut Vec::new());
            let changes = self.context.commit_index.changes();
            self.context.commit_index.wait(changes, left.min(Duration::from_millis(50)));
        }
    }
}
