//! Reads messages: words of the command line, lines, or frames with a length before them.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ringest_client::PAYLOAD_BYTES_MAX;

use crate::cli::failure::Failure;
use crate::cli::run::signals;
use crate::cli::send::pieces::{Piece, read_frame, read_line};

/// How a stream is divided into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One message a line, without the line end.
    Lines,
    /// Each after its length, 4 bytes big endian.
    LengthPrefixed,
}

ringest_base::names!(Framing {
    "lines" => Lines, "One a line; the line's end is not sent";
    "length-prefixed" => LengthPrefixed, "Each after its length, 4 bytes big endian"
});

/// The result of reading a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A message, which [`Input::message`] returns.
    Message,
    /// A message that cannot be sent.
    Refused(Refusal),
    /// No more messages.
    End,
    /// A signal came during the wait.
    Stopped,
}

/// Why a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has this many bytes, more than a datagram carries.
    TooLong(usize),
    /// It is not hexadecimal; the text says where.
    NotHex(String),
    /// The input ended within a frame.
    Torn {
        /// Bytes that the frame's length announces.
        wanted: usize,
        /// Bytes that were read.
        got: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(
                f,
                "{bytes} bytes; one datagram carries at most {PAYLOAD_BYTES_MAX}, so split it"
            ),
            Self::NotHex(why) => write!(f, "not hexadecimal: {why}"),
            Self::Torn { wanted, got } => write!(
                f,
                "torn: {got} of {wanted} bytes are there; is it length-prefixed (4 bytes, big \
                 endian, before each datagram)?"
            ),
        }
    }
}

/// A source of messages, read one after the other.
#[derive(Debug)]
pub(crate) struct Input {
    source: Source,
    hex: bool,
    /// Its name in errors.
    name: String,
    number: u64,
    buffer: Vec<u8>,
    message: Vec<u8>,
}

#[derive(Debug)]
enum Source {
    Words(std::vec::IntoIter<Vec<u8>>),
    Stream(BufReader<Stream>, Framing),
}

/// An opened file, or stdin, with its name for errors.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    name: String,
}

impl Opened {
    /// Opens a file, or stdin (`None`, or `-`). Call it before signals are blocked: opening a named pipe blocks until a
    /// writer opens it.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let path = path.filter(|path| path.as_os_str() != "-");
        let name = path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        let failed = |error: io::Error| Failure::Failed(format!("cannot read {name}: {error}"));
        let file = match path {
            Some(path) => File::open(path),
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        let file = file.map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::Error::other("it is a directory")));
        }
        Ok(Self { file, name })
    }
}

impl Input {
    /// Returns the words as messages. All of them are checked before any is sent.
    pub(crate) fn words(words: &[OsString], hex: bool) -> Result<Self, Failure> {
        let mut messages = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            let bytes = word.as_bytes();
            let message = if hex { unhex(bytes) } else { Ok(bytes.to_vec()) };
            let refuse = |why| Failure::Usage(format!("message {}: {why}", index + 1));
            let message = message.and_then(fits).map_err(refuse)?;
            messages.push(message);
        }
        // The words are decoded already.
        Ok(Self::new(Source::Words(messages.into_iter()), false, "message".to_owned()))
    }

    /// Returns the messages of an opened stream. Reading ends when `stop` becomes readable.
    pub(crate) fn stream(opened: Opened, framing: Framing, hex: bool, stop: OwnedFd) -> Self {
        let Opened { file, name } = opened;
        let stream = BufReader::with_capacity(1 << 16, Stream { file, stop });
        Self::new(Source::Stream(stream, framing), hex, name)
    }

    fn new(source: Source, hex: bool, name: String) -> Self {
        Self { source, hex, name, number: 0, buffer: Vec::new(), message: Vec::new() }
    }

    /// Returns whether the input is a terminal.
    pub(crate) fn is_typed(&self) -> bool {
        matches!(&self.source, Source::Stream(reader, _) if reader.get_ref().file.is_terminal())
    }

    /// Returns the descriptor that must become readable before the next message can be read; `None` if no wait is
    /// needed.
    pub(crate) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Stream(reader, _) if reader.buffer().is_empty() => {
                Some(reader.get_ref().file.as_fd())
            }
            _ => None,
        }
    }

    /// Returns the message that was read last.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Returns the place of the last message, such as `stdin: line 7`.
    pub(crate) fn place(&self) -> String {
        let Self { name, number, .. } = self;
        match &self.source {
            Source::Words(_) => format!("{name} {number}"),
            Source::Stream(_, Framing::Lines) => format!("{name}: line {number}"),
            Source::Stream(_, Framing::LengthPrefixed) => format!("{name}: datagram {number}"),
        }
    }

    /// Reads the next message.
    pub(crate) fn next(&mut self) -> Result<Next, Failure> {
        self.number += 1;
        let read = match &mut self.source {
            Source::Words(words) => {
                return Ok(match words.next() {
                    Some(word) => {
                        self.message = word;
                        Next::Message
                    }
                    None => Next::End,
                });
            }
            Source::Stream(reader, Framing::Lines) => {
                read_line(reader, &mut self.buffer, line_room(self.hex))
            }
            Source::Stream(reader, Framing::LengthPrefixed) => read_frame(reader, &mut self.buffer),
        };
        match read {
            Ok(Piece::Whole) => Ok(self.take_whole()),
            Ok(Piece::TooLong(bytes)) => {
                // Two hexadecimal digits are a byte.
                let bytes = if self.hex { bytes / 2 } else { bytes };
                Ok(Next::Refused(Refusal::TooLong(bytes)))
            }
            Ok(Piece::Torn { wanted, got }) => Ok(Next::Refused(Refusal::Torn { wanted, got })),
            Ok(Piece::End) => Ok(Next::End),
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Stopped>()) => {
                Ok(Next::Stopped)
            }
            Err(error) => Err(Failure::Failed(format!("cannot read {}: {error}", self.name))),
        }
    }

    fn take_whole(&mut self) -> Next {
        let decoded = if self.hex {
            unhex(&self.buffer)
        } else {
            std::mem::swap(&mut self.message, &mut self.buffer);
            return Next::Message;
        };
        match decoded.and_then(fits) {
            Ok(message) => {
                self.message = message;
                Next::Message
            }
            Err(refusal) => Next::Refused(refusal),
        }
    }
}

fn fits(message: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    if message.len() > PAYLOAD_BYTES_MAX {
        Err(Refusal::TooLong(message.len()))
    } else {
        Ok(message)
    }
}

/// Returns how many bytes a line may have. Hexadecimal has two digits a byte, and may have a space after each.
fn line_room(hex: bool) -> usize {
    if hex { PAYLOAD_BYTES_MAX * 3 + 2 } else { PAYLOAD_BYTES_MAX }
}

/// Decodes hexadecimal digits, with or without `0x` before them, and with or without spaces or colons between bytes.
fn unhex(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    let (mut bytes, mut high) = (Vec::with_capacity(digits.len() / 2), None);
    for &byte in digits {
        match (char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()), high) {
            (Some(digit), None) => high = Some(digit),
            (Some(digit), Some(before)) => {
                bytes.push(before << 4 | digit);
                high = None;
            }
            (None, None) if matches!(byte, b' ' | b':' | b'\t') => {}
            (None, _) => {
                let what = char::from(byte).escape_default();
                return Err(Refusal::NotHex(format!("'{what}' after {} bytes", bytes.len())));
            }
        }
    }
    if high.is_some() {
        return Err(Refusal::NotHex(format!("one digit is left over after {} bytes", bytes.len())));
    }
    Ok(bytes)
}

/// A file whose reads also wait for signals. Signals are blocked, so they would not interrupt a plain read.
#[derive(Debug)]
struct Stream {
    file: File,
    stop: OwnedFd,
}

/// The error of a read that a signal interrupted.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = signals::wait([self.file.as_fd(), self.stop.as_fd()], None)
                .map_err(|failure| io::Error::other(failure.to_string()))?;
            match ready {
                [_, true] => return Err(io::Error::other(Stopped)),
                [true, _] => return self.file.read(buffer),
                // Neither is readable: the wait was interrupted.
                [false, false] => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hexadecimal_reads_as_people_write_it() {
        for text in ["0aff00", "0x0AFF00", " 0a ff 00\n", "0a:ff:00", "0aff 00"] {
            assert_eq!(unhex(text.as_bytes()).unwrap(), [0x0a, 0xff, 0], "{text}");
        }
        assert!(unhex(b"").unwrap().is_empty());
        for (text, word) in
            [("0", "left over"), ("0g", "'g'"), ("0 a", "' '"), ("zz", "'z'"), ("\x1b", "u{1b}")]
        {
            let Err(Refusal::NotHex(why)) = unhex(text.as_bytes()) else { panic!("{text}") };
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn words_are_looked_at_before_any_is_sent() {
        let words = |words: &[&str], hex| {
            Input::words(&words.iter().map(OsString::from).collect::<Vec<_>>(), hex)
        };
        let mut input = words(&["6869", "00"], true).unwrap();
        assert_eq!((input.next().unwrap(), input.message()), (Next::Message, &b"hi"[..]));
        assert_eq!((input.next().unwrap(), input.message()), (Next::Message, &b"\0"[..]));
        assert_eq!(input.next().unwrap(), Next::End);
        let error = words(&["ok", &"x".repeat(PAYLOAD_BYTES_MAX + 1)], false).unwrap_err();
        assert!(error.to_string().contains("message 2: 65508 bytes"), "{error}");
        assert!(matches!(words(&["zz"], true).unwrap_err(), Failure::Usage(_)));
    }

    proptest! {
        #[test]
        fn no_digits_make_the_decoder_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = unhex(&bytes);
        }
    }
}
