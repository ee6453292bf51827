//! The journal as a sink: a delivered datagram is on disk.

use std::time::{Duration, Instant};

use crate::journal::format::Record;
use crate::journal::journal_writer::JournalWriter;
use crate::journal::open::Journal;
use crate::settle::run::Run;
use crate::sink::handler::{Sink, SinkEnd};
use crate::sink::open::OpenSink;
use ringest_engine::batch::arena::Datagram;

impl Sink for JournalWriter {
    fn record(&mut self, datagram: &Datagram<'_>, record: &[u8], now: Instant) {
        let record = Record {
            received_unix_ns: datagram.unix_time_ns(),
            peer: datagram.peer(),
            listener: u16::try_from(datagram.listener()).unwrap_or(u16::MAX),
            // The writer sets it.
            continued: false,
            payload: record,
        };
        self.push(&record, now);
    }

    fn end_datagram(&mut self, now: Instant) {
        Self::end_datagram(self, now);
    }

    fn pump(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        Self::pump(self, now, tell);
    }

    fn due_within(&self, now: Instant) -> Option<Duration> {
        Self::due_within(self, now)
    }

    fn finish(&mut self, now: Instant, tell: &mut dyn FnMut(Run)) {
        Self::finish(self, now, tell);
    }
}

impl OpenSink for Journal {
    fn end(&self, worker: usize, workers: usize) -> SinkEnd {
        SinkEnd { sink: Box::new(self.writer(worker, workers)), carriers: 0 }
    }

    fn idle_tick(&self) -> Option<Duration> {
        Some(self.commit_interval())
    }

    fn close(self: Box<Self>) {
        Self::close(*self);
    }
}
