//! The flags of `ringest send`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringest::Resolve;
use ringest_base::text::values::Rate;
use ringest_records::sink::lines::Format;

use crate::cli::args::named::named;
use crate::cli::args::values;
use crate::cli::send::input::Framing;
use crate::cli::send::options::SendSocketArgs;
use crate::cli::send::peers;
use crate::cli::send::peers::PeerList;

const EXAMPLES: &str = "\
Examples:
  ringest send 127.0.0.1:9000 hello                 one datagram
  ringest send 127.0.0.1:9000,[::1]:9000 a 'b c'    two datagrams to each of two peers
  journalctl -f | ringest send loghost:514          one datagram a line
  ringest send 127.0.0.1:9001 ping --wait-reply --repeat 5 --interval 1s
  ringest send 127.0.0.1:9000 --hex 'de ad be ef'
  ringest send 127.0.0.1:9000 --file datagrams.bin --framing length-prefixed --rate 1k
  ringest send 239.1.2.3:9000 hello --multicast-interface eth0 --multicast-ttl 4
  ringest send 192.0.2.7:9000 hello --dscp ef --ttl 8 --source-port 5000

Sent does not mean received: UDP has no acknowledgement, and a datagram can be lost on the way or \
dropped by a full receive buffer. Some failures are reported by ICMP: nothing is bound to the port, the \
host or its network cannot be reached, a firewall forbids it, or the datagram is too long for the path. \
Each such error is printed with the peer it concerns.

Exit codes: 0 everything was sent and no error came back, 1 otherwise, 2 wrong usage, 3 everything was \
sent but replies (--wait-reply) did not come in time. ^C ends it early; datagrams sent until then count.";

/// Send datagrams, one per message, and report errors and replies that come back
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SendArgs {
    /// Where to send: HOST:PORT or [IP6]:PORT, several with commas; each peer gets every message
    #[arg(value_name = "ADDR[,ADDR…]", value_parser = peers::peers)]
    pub(crate) peers: PeerList,
    /// Messages to send, one datagram each; without any, lines are read from stdin and sent without
    /// their line end
    #[arg(value_name = "MESSAGE", conflicts_with = "file")]
    pub(crate) messages: Vec<OsString>,

    /// Read messages from a file, or from stdin if PATH is -
    #[arg(long, value_name = "PATH", help_heading = "What to send")]
    pub(crate) file: Option<PathBuf>,
    /// How a file or stdin is divided into messages: one a line, or each after its length in 4 bytes,
    /// big endian [default: lines]
    #[arg(long, value_parser = named::<Framing>(), conflicts_with = "messages", help_heading = "What to send")]
    pub(crate) framing: Option<Framing>,
    /// Read messages as hexadecimal, such as 0aff, 0x0aff or '0a ff'
    #[arg(long, help_heading = "What to send")]
    pub(crate) hex: bool,
    /// Send each message N times, or until ^C
    #[arg(long, value_name = "N|forever", default_value = "1", value_parser = repeat,
        help_heading = "What to send")]
    pub(crate) repeat: u64,
    /// Time from one message to the next, repetitions included
    #[arg(long, value_name = "DURATION", value_parser = values::duration,
        conflicts_with = "rate", help_heading = "What to send")]
    pub(crate) interval: Option<Duration>,
    /// Datagrams a second (500, 1k) or payload bits a second (1Mbps), on average [default: as fast as
    /// this host accepts them]
    #[arg(long, value_name = "PPS|RATEbps|max", help_heading = "What to send")]
    pub(crate) rate: Option<Rate>,
    /// Which address of a name to use [default: the first that the resolver gives; with all, each is a peer]
    #[arg(long, value_parser = named::<Resolve>(), value_name = "WHICH", help_heading = "What to send")]
    pub(crate) resolve: Option<Resolve>,

    /// After each message wait for N replies from each peer (1 if no N is given; write it after the
    /// messages, or as --wait-reply=N), and print them with their round trips. Any datagram from that
    /// peer counts: UDP does not say which message it answers
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1",
        value_parser = replies, help_heading = "Replies")]
    pub(crate) wait_reply: Option<u64>,
    /// How long to wait for the replies to a message [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration,
        requires = "wait_reply", help_heading = "Replies")]
    pub(crate) timeout: Option<Duration>,
    /// How replies are printed on stdout: text (escaped where it does not print), hex, or json (peer,
    /// round trip, length, payload) [default: text]
    #[arg(long, value_parser = named::<Format>(), requires = "wait_reply", help_heading = "Replies")]
    pub(crate) output: Option<Format>,

    #[command(flatten)]
    pub(crate) socket: SendSocketArgs,

    /// How long to wait while the send buffer or the queue of the interface is full; after that the
    /// datagram counts as not sent. 0: not at all
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::pause,
        help_heading = "Ending")]
    pub(crate) send_timeout: Duration,
    /// How long to wait for ICMP errors after the last datagram, unless every peer has answered before.
    /// The kernel takes 3 seconds to report a neighbour that does not answer ARP
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = values::pause,
        help_heading = "Ending")]
    pub(crate) linger: Duration,

    /// Print the result as one JSON object on stdout; replies go to stderr then
    #[arg(long, conflicts_with = "output", help_heading = "Output")]
    pub(crate) json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// The default of `--timeout`.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Reads a number from 1 up, or `forever`.
fn repeat(text: &str) -> Result<u64, String> {
    match (text, text.parse()) {
        ("forever", _) => Ok(u64::MAX),
        (_, Ok(number @ 1..)) => Ok(number),
        _ => Err("expected how many times, from 1 up, or forever".to_owned()),
    }
}

fn replies(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
        "expected a number of replies, from 1 up; to leave it out, write --wait-reply after the \
         messages"
            .to_owned()
    })
}
