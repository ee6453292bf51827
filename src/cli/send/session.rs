//! A run of `ringest send`: opens the input and the client, sends, and hears what comes back.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringest_client::{Client, ClientError, Heard, PAYLOAD_BYTES_MAX, PeerError, header_bytes};

use crate::cli::failure::Failure;
use crate::cli::run::signals::Signals;
use crate::cli::send::flags::{SendArgs, TIMEOUT};
use crate::cli::send::input::{Framing, Input, Next, Opened, Refusal};
use crate::cli::send::pace::{Pace, Progress};
use crate::cli::send::replies::{Missing, Output};
use crate::cli::send::report::SendTally;
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;

/// Runs `ringest send`.
pub(crate) fn run(args: &SendArgs) -> Result<(), Failure> {
    if args.hex && args.framing == Some(Framing::LengthPrefixed) {
        return Err(Failure::Usage(
            "--hex and --framing length-prefixed: a length-prefixed file holds the bytes themselves; \
             leave one out"
                .to_owned(),
        ));
    }
    // Before signals are blocked: a resolver or a pipe may block, and ^C must end that.
    let peers = args.peers.resolve(args.resolve)?;
    let opened = args.messages.is_empty().then(|| Opened::open(args.file.as_deref()));
    let signals = Signals::block()?;
    let stop = || {
        let fd = signals.as_fd().try_clone_to_owned();
        fd.map_err(|error| Failure::Failed(format!("cannot take signals: dup(2): {error}")))
    };
    let mut input = match opened.transpose()? {
        Some(opened) => {
            let framing = args.framing.unwrap_or(Framing::Lines);
            Input::stream(opened, framing, args.hex, stop()?)
        }
        None => Input::words(&args.messages, args.hex)?,
    };
    let builder = args.socket.builder()?.send_timeout(args.send_timeout).interrupt(stop()?);
    let client = builder.peers(peers).open()?;
    Session::new(args, client, &signals, &input).run(&mut input)
}

/// One run of `ringest send`.
#[derive(Debug)]
struct Session<'a> {
    args: &'a SendArgs,
    client: Client,
    peers: Vec<SocketAddr>,
    signals: &'a Signals,
    tally: SendTally,
    pace: Pace,
    progress: Progress,
    output: Output,
    /// Peers that were sent a datagram after their last error or reply, so that an error may still come.
    open: Vec<bool>,
    /// Peers that got the last message and may reply to it.
    asked: Vec<bool>,
    /// When the last datagram to each peer was sent.
    sent_at: Vec<Instant>,
    stopped: bool,
    warned: bool,
}

impl<'a> Session<'a> {
    fn new(args: &'a SendArgs, client: Client, signals: &'a Signals, input: &Input) -> Self {
        let peers = client.peers().to_vec();
        let now = Instant::now();
        Self {
            tally: SendTally::new(&peers),
            pace: Pace::new(args.rate, args.interval, now),
            progress: Progress::new(args.quiet || input.is_typed(), now),
            output: Output::new(args.output, args.json, args.quiet),
            open: vec![false; peers.len()],
            asked: vec![false; peers.len()],
            sent_at: vec![now; peers.len()],
            stopped: false,
            warned: false,
            args,
            client,
            peers,
            signals,
        }
    }

    fn run(mut self, input: &mut Input) -> Result<(), Failure> {
        if !self.args.quiet {
            self.introduce(input);
        }
        let fed = self.feed(input).and_then(|()| self.linger());
        self.progress.clear();
        if !self.args.quiet {
            // The terminal has echoed ^C at the start of the line.
            let margin = if self.stopped && paint::is_terminal(&io::stderr()) { "\n" } else { "" };
            paint::say(&format!("{margin}{}", self.tally.render()));
            self.say_what_is_odd();
        }
        let unattributed = self.client.unattributed();
        if self.args.json {
            self.tally.print_json(unattributed)?;
        }
        fed?;
        self.tally.judge(unattributed, self.args.timeout.unwrap_or(TIMEOUT))
    }

    fn introduce(&self, input: &Input) {
        for option in self.client.options().iter().filter(|option| !option.is_as_asked()) {
            paint::say(&format!("{} {option}\n", Paint::stderr().yellow("note:")));
        }
        if input.is_typed() {
            paint::say("one datagram a line; ^D ends the input\n");
        }
    }

    fn say_what_is_odd(&self) {
        if self.client.strays() > 0 {
            paint::say(&format!(
                "{} datagrams came from other addresses than the peers' and were not counted\n",
                paint::count(self.client.strays())
            ));
        }
        if self.client.unattributed() > 0 {
            paint::say(&format!(
                "{} errors came back without the address of the peer they concern\n",
                paint::count(self.client.unattributed())
            ));
        }
    }

    /// Sends all messages.
    fn feed(&mut self, input: &mut Input) -> Result<(), Failure> {
        loop {
            self.await_input(input)?;
            if self.is_stopped() {
                return Ok(());
            }
            match input.next()? {
                Next::Message => self.repeat(input.message())?,
                Next::Refused(refusal) => {
                    self.progress.clear();
                    paint::say(&format!("ringest: {}: {refusal}; not sent\n", input.place()));
                    self.tally.unsendable(matches!(refusal, Refusal::TooLong(_)));
                }
                Next::End => return Ok(()),
                Next::Stopped => self.stopped = true,
            }
        }
    }

    /// Waits until there is input. Reports errors that come meanwhile.
    fn await_input(&mut self, input: &Input) -> Result<(), Failure> {
        let Some(fd) = input.awaited() else { return Ok(()) };
        loop {
            let mut polled = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                // Only errors, which poll(2) reports without being asked.
                PollFd::new(self.client.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    return Err(Failure::Failed(format!("poll(2): {}", io::Error::from(error))));
                }
            }
            let [readable, signalled, told] = polled.map(|fd| fd.any().unwrap_or(false));
            if told {
                self.take_errors()?;
            }
            if readable || signalled {
                return Ok(());
            }
        }
    }

    fn repeat(&mut self, message: &[u8]) -> Result<(), Failure> {
        for _ in 0..self.args.repeat {
            self.take_late_replies()?;
            self.asked.fill(false);
            for index in 0..self.peers.len() {
                self.await_turn(message.len(), index == 0)?;
                if self.is_stopped() {
                    return Ok(());
                }
                self.send(index, message)?;
            }
            self.take_errors()?;
            if let Some(wanted) = self.args.wait_reply {
                self.await_replies(wanted)?;
            }
        }
        Ok(())
    }

    /// Waits until a datagram of `bytes` is due. `first`: it is the first one of its message.
    fn await_turn(&mut self, bytes: usize, first: bool) -> Result<(), Failure> {
        let due = self.pace.due(bytes, first, Instant::now());
        while !self.stopped && Instant::now() < due {
            let wake = self.progress.next().map_or(due, |tick| tick.min(due));
            match self.client.await_errors(wake) {
                Ok(false) => {}
                Ok(true) => self.take_errors()?,
                Err(error) => self.interrupted(error)?,
            }
            self.progress.tick(&self.tally);
        }
        self.progress.tick(&self.tally);
        Ok(())
    }

    fn send(&mut self, index: usize, message: &[u8]) -> Result<(), Failure> {
        let peer = self.peers[index];
        self.warn_of_fragments(peer, message.len());
        match self.client.send_to(peer, message) {
            Ok(sent) => {
                self.tally.sent(index);
                self.sent_at[index] = sent.at;
                self.open[index] = !self.client.is_for_many(peer);
                self.asked[index] = true;
            }
            Err(ClientError::Peer(error)) => {
                if self.tally.failed(index, &error) {
                    self.tell(&error);
                }
            }
            Err(error) => self.interrupted(error)?,
        }
        Ok(())
    }

    /// Takes signals. Returns whether the run is to end.
    fn is_stopped(&mut self) -> bool {
        self.stopped |= self.signals.take().is_some();
        self.stopped
    }

    /// Handles an error of a wait: a signal stops the run in order, any other error fails it.
    fn interrupted(&mut self, error: ClientError) -> Result<(), Failure> {
        match error {
            ClientError::Interrupted => {
                let _ = self.signals.take();
                self.stopped = true;
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    fn warn_of_fragments(&mut self, peer: SocketAddr, bytes: usize) {
        if self.warned || self.args.quiet || !self.client.is_fragmented(peer, bytes) {
            return;
        }
        self.warned = true;
        let mtu = self.client.path_mtu(peer).and_then(|mtu| usize::try_from(mtu).ok());
        let mtu = mtu.unwrap_or(PAYLOAD_BYTES_MAX);
        self.progress.clear();
        paint::say(&format!(
            "{} {bytes} bytes go to {peer} in fragments, and if one of them is lost, all are: a \
             datagram of up to {} bytes goes whole (path MTU {mtu}); --dont-fragment refuses longer \
             ones\n",
            Paint::stderr().yellow("warning:"),
            mtu.saturating_sub(header_bytes(peer)),
        ));
    }

    /// Reports and counts the errors that came since the last call.
    fn take_errors(&mut self) -> Result<(), Failure> {
        for error in self.client.take_errors()? {
            self.note(&error);
        }
        Ok(())
    }

    /// Counts an error of a datagram that was sent. Returns the index of its peer, or `None` if it is no peer.
    fn note(&mut self, error: &PeerError) -> Option<usize> {
        let index = self.peers.iter().position(|peer| *peer == error.peer)?;
        self.open[index] = false;
        self.asked[index] = false;
        if self.tally.heard(index, error) {
            self.tell(error);
        }
        Some(index)
    }

    fn tell(&mut self, error: &PeerError) {
        self.progress.clear();
        paint::say(&format!("{error}\n"));
    }

    /// Takes replies that came after their timeout. They answer an earlier message, so they must not count for the next
    /// one, and their round trip is unknown.
    fn take_late_replies(&mut self) -> Result<(), Failure> {
        while self.args.wait_reply.is_some() && !self.stopped {
            match self.client.receive(Instant::now()) {
                Ok(Heard::Reply(reply)) => {
                    self.progress.clear();
                    let bytes = reply.payload.len();
                    paint::say(&format!("{}: {bytes} bytes came too late\n", reply.peer));
                }
                Ok(Heard::Error(error)) => {
                    self.note(&error);
                }
                Ok(Heard::Nothing) => return Ok(()),
                Err(error) => self.interrupted(error)?,
            }
        }
        Ok(())
    }

    /// Waits for the replies to the last message.
    fn await_replies(&mut self, wanted: u64) -> Result<(), Failure> {
        let deadline = Instant::now() + self.args.timeout.unwrap_or(TIMEOUT);
        let mut missing = Missing::new(wanted, &self.asked);
        while !self.stopped && missing.any() {
            match self.client.receive(deadline) {
                Ok(Heard::Reply(reply)) => {
                    let for_many = |peer: &SocketAddr| self.client.is_for_many(*peer);
                    let index = self.peers.iter().position(|peer| *peer == reply.peer);
                    // A reply to a multicast group comes from a member's own address.
                    let index = index.or_else(|| self.peers.iter().position(for_many));
                    let Some(index) = index else { continue };
                    self.open[index] = false;
                    self.tally.replied(index);
                    missing.came(index);
                    self.progress.clear();
                    let round_trip = reply.at.saturating_duration_since(self.sent_at[index]);
                    self.output.print(&reply, round_trip)?;
                }
                Ok(Heard::Error(error)) => {
                    if let Some(index) = self.note(&error) {
                        missing.give_up(index);
                    }
                }
                Ok(Heard::Nothing) => break,
                Err(error) => self.interrupted(error)?,
            }
        }
        self.tally.missed(missing.total());
        Ok(())
    }

    /// Waits for errors of the last datagrams, up to `--linger`.
    fn linger(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.args.linger;
        self.take_errors()?;
        while self.open.contains(&true) {
            match self.client.await_errors(deadline) {
                Ok(true) => self.take_errors()?,
                Ok(false) => break,
                Err(ClientError::Interrupted) => {
                    let _ = self.signals.take();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
