//! Facts that a driver reports by ethtool (SIOCETHTOOL, linux/ethtool.h): rings, channels, offloads, hashing. Only
//! commands that read are used.
#![expect(unsafe_code, reason = "SIOCETHTOOL has no safe wrapper")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Room for the answer of every command below. The largest is the hash table, whose size we state;
/// the largest of fixed size is ETHTOOL_GDRVINFO with 49 words.
const WORDS: usize = 2 + TABLE_WORDS;
const TABLE_WORDS: usize = 2048;

const GDRVINFO: u32 = 0x03;
const GRINGPARAM: u32 = 0x10;
const GRXFH: u32 = 0x29;
const GGRO: u32 = 0x2b;
const GRXFHINDIR: u32 = 0x38;
const GCHANNELS: u32 = 0x3c;
const UDP_V4_FLOW: u32 = 0x02;
/// Hash bits of both ports (RXH_L4_B_0_1, RXH_L4_B_2_3).
const PORTS: u32 = 1 << 6 | 1 << 7;

/// Facts that an interface's driver reports; `None`: it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Driver {
    pub(crate) name: Option<String>,
    pub(crate) rings: Option<Rings>,
    pub(crate) channels: Option<Channels>,
    pub(crate) gro: Option<bool>,
    /// Whether the hash that chooses the queue of an IPv4 UDP datagram includes the ports.
    pub(crate) hashes_ports: Option<bool>,
    /// Queues in the hash table, one per entry.
    pub(crate) table: Option<Vec<u32>>,
}

/// Descriptors of the receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rings {
    pub(crate) now: u32,
    pub(crate) most: u32,
}

/// Receive queues, including those that also transmit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) now: u32,
    pub(crate) most: u32,
    pub(crate) combined: bool,
}

impl Driver {
    /// Asks the driver of the interface.
    pub(crate) fn of(interface: &str) -> Self {
        let Ok(door) = UdpSocket::bind("0.0.0.0:0") else { return Self::default() };
        let ask = |head: &[u32]| ask(&door, interface, head).ok();
        let rings = ask(&[GRINGPARAM]).map(|words| Rings { most: words[1], now: words[5] });
        Self {
            name: ask(&[GDRVINFO]).map(|words| driver_name(&words[1..9])),
            rings: rings.filter(|rings| rings.most > 0),
            channels: ask(&[GCHANNELS]).map(|words| {
                let combined = words[4] > 0;
                let (most, now) =
                    if combined { (words[4], words[8]) } else { (words[1], words[5]) };
                Channels { now, most, combined }
            }),
            gro: ask(&[GGRO]).map(|words| words[1] != 0),
            hashes_ports: ask(&[GRXFH, UDP_V4_FLOW])
                .filter(|words| words[2] != 0)
                .map(|words| words[2] & PORTS == PORTS),
            table: ask(&[GRXFHINDIR, u32::try_from(TABLE_WORDS).unwrap_or(0)])
                .map(|words| {
                    let len = usize::try_from(words[1]).unwrap_or(0).min(TABLE_WORDS);
                    words[2..2 + len].to_vec()
                })
                .filter(|table| !table.is_empty()),
        }
    }
}

/// Reads a text of at most 32 bytes that ends with a zero.
fn driver_name(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Runs one command. The answer begins with the words of the request.
fn ask(door: &UdpSocket, interface: &str, head: &[u32]) -> io::Result<Box<[u32; WORDS]>> {
    let mut words = Box::new([0_u32; WORDS]);
    words.iter_mut().zip(head).for_each(|(word, asked)| *word = *asked);
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, byte) in name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    let data = libc::__c_anonymous_ifr_ifru { ifru_data: words.as_mut_ptr().cast() };
    let mut request = libc::ifreq { ifr_name: name, ifr_ifru: data };
    // SAFETY: the request names `words`, which lives through the call. The kernel writes there the
    // structure of the command, and of all commands this file has the largest fits: those of fixed
    // size into 49 words, the hash table into the length stated in its second word.
    let done = unsafe { libc::ioctl(door.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_what_is_not_there_are_asked_without_harm() {
        let lo = Driver::of("lo");
        assert!(lo.gro.is_some(), "{lo:?}");
        assert_eq!((lo.rings, lo.channels), (None, None));
        assert_eq!(Driver::of("not there"), Driver::default());
        assert_eq!(Driver::of(&"x".repeat(400)), Driver::default());
        assert_eq!(Driver::of(""), Driver::default());
    }
}
