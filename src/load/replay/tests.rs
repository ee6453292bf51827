//! Captures written byte by byte, and damaged ones.

use std::io::{self, Cursor, Read};

use proptest::prelude::*;

use crate::replay::packet::tests::{ethernet, ipv4};
use crate::replay::*;

/// The byte order of a capture is that of the host that wrote it.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| self.u32(*word)).collect()
    }

    fn pcap(self, magic: u32, link: u32, records: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
        let mut file = self.words(&[magic]);
        file.extend([self.u16(2), self.u16(4)].concat());
        file.extend(self.words(&[0, 0, 262_144, link]));
        for (seconds, fraction, packet) in records {
            let len = size(packet.len());
            file.extend(self.words(&[*seconds, *fraction, len, len]));
            file.extend(packet);
        }
        file
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = [body, &[0; 3][..(4 - body.len() % 4) % 4]].concat();
        let len = size(12 + padded.len());
        [self.words(&[kind, len]), padded, self.words(&[len])].concat()
    }

    fn section(self) -> Vec<u8> {
        let versions = [self.u16(1), self.u16(0)].concat();
        self.block(0x0a0d_0d0a, &[self.words(&[0x1a2b_3c4d]), versions, vec![0xff; 8]].concat())
    }

    /// An interface with a time resolution and an offset in seconds.
    fn interface(self, link: u16, resolution: u8, offset_s: i64) -> Vec<u8> {
        let offset = if self.big { offset_s.to_be_bytes() } else { offset_s.to_le_bytes() };
        let mut body = [self.u16(link), [0; 2]].concat();
        body.extend(self.u32(0));
        body.extend([self.u16(9), self.u16(1), [resolution, 0], [0; 2]].concat());
        body.extend([self.u16(14), self.u16(8)].concat());
        body.extend([&offset[..], &[0; 4]].concat());
        self.block(1, &body)
    }

    fn packet(self, interface: u32, ticks: u64, packet: &[u8]) -> Vec<u8> {
        let len = size(packet.len());
        let half = |ticks: u64| u32::try_from(ticks & 0xffff_ffff).unwrap();
        let (high, low) = (half(ticks >> 32), half(ticks));
        let head = self.words(&[interface, high, low, len, len]);
        self.block(6, &[&head[..], packet].concat())
    }
}

fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap()
}

const ORDERS: [Order; 2] = [Order { big: false }, Order { big: true }];

fn packet(payload: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, &ipv4(payload, &[], 0))
}

fn survey(capture: Capture) -> Survey {
    Survey::of(Tape::Capture(Box::new(capture))).unwrap()
}

fn open(file: &[u8]) -> Result<Capture, ReplayError> {
    Capture::read("test.pcap".to_owned(), Cursor::new(file.to_vec()))
}

/// Offset and payload.
type Sent = (u64, Vec<u8>);

/// Returns the datagrams that would be sent, and the end of the recording.
fn replay(file: &[u8]) -> (Vec<Sent>, Result<Capture, ReplayError>) {
    let mut seen = Vec::new();
    let mut capture = match open(file) {
        Ok(capture) => capture,
        Err(error) => return (seen, Err(error)),
    };
    loop {
        match capture.next_datagram() {
            Ok(Some(datagram)) => seen.push((datagram.offset_ns, datagram.payload.to_vec())),
            Ok(None) => return (seen, Ok(capture)),
            Err(error) => {
                assert!(matches!(capture.next_datagram(), Ok(None)), "an error is the end");
                return (seen, Err(error));
            }
        }
    }
}

#[test]
fn pcap_of_either_order_and_resolution() {
    for order in ORDERS {
        for (magic, unit_ns) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let records = [(9, 999_999, packet(b"a")), (10, 5, packet(b"")), (10, 2, packet(b"c"))];
            let file = order.pcap(magic, 1, &records);
            let (seen, end) = replay(&file);
            let step = 1_000_000_000 - 999_994 * unit_ns;
            let wanted = [(0, b"a".to_vec()), (step, vec![]), (step, b"c".to_vec())];
            assert_eq!(seen, wanted);
            let capture = end.unwrap();
            assert_eq!((capture.datagrams(), capture.backwards()), (3, 1));
            assert_eq!(capture.skipped(), Skipped::default());
        }
    }
}

#[test]
fn pcapng_of_several_sections_and_interfaces() {
    let mut file = Vec::new();
    for order in ORDERS {
        file.extend(order.section());
        file.extend(order.interface(1, 6, 0));
        file.extend(order.interface(101, 0x80 | 10, 5));
        file.extend(order.interface(147, 9, 0));
        file.extend(order.packet(0, 6_000_000, &packet(b"microseconds")));
        file.extend(order.packet(1, 2048, &ipv4(b"1024ths", &[], 0)));
        file.extend(order.packet(2, 0, &packet(b"no such link")));
        file.extend(order.packet(3, 0, &packet(b"no such interface")));
        file.extend(order.block(0xbad, b"unknown"));
        let simple = packet(b"simple");
        file.extend(order.block(3, &[&order.u32(size(simple.len()))[..], &simple].concat()));
    }
    let (seen, end) = replay(&file);
    let once = [(0, "microseconds"), (1_000_000_000, "1024ths"), (1_000_000_000, "simple")];
    let twice = [(1_000_000_000, "microseconds")].into_iter().chain(once[1..].to_vec());
    let wanted: Vec<_> =
        once.into_iter().chain(twice).map(|(at, text)| (at, text.as_bytes().to_vec())).collect();
    assert_eq!(seen, wanted);
    let capture = end.unwrap();
    assert_eq!((capture.skipped().link_unsupported, capture.backwards()), (4, 1));
    let survey = survey(open(&file).unwrap());
    assert_eq!((survey.datagrams, survey.payload_max, survey.flows), (6, 12, 1));
    assert_eq!((survey.span_ns, survey.bytes), (1_000_000_000, 50));
}

#[test]
fn what_is_wrong_is_said() {
    let text = |file: &[u8]| replay(file).1.unwrap_err().to_string();
    let good = ORDERS[0].pcap(0xa1b2_c3d4, 1, &[(0, 0, packet(b"one")), (0, 0, packet(b"two"))]);
    assert!(text(b"").contains("not a capture: it has 0 bytes"));
    assert!(text(b"<34>Oct 11 22:14:15").contains("starts with 0x3c33343e"));
    assert!(text(&good[..20]).contains("ends inside its first record"));
    assert!(text(&[0x1f, 0x8b, 8, 0]).contains("gzip -dc < test.pcap"));
    let (seen, end) = replay(&good[..good.len() - 1]);
    assert_eq!(seen.len(), 1, "what is before the cut is kept");
    assert!(matches!(end, Err(ReplayError::CutOff { record: 2, .. })), "{end:?}");
    let wifi = ORDERS[1].pcap(0xa1b2_c3d4, 105, &[]);
    assert!(text(&wifi).contains("link type 105"));
    let nothing = text(&ORDERS[0].pcap(0xa1b2_c3d4, 1, &[]));
    assert!(nothing.contains("no whole UDP datagram (it holds no packet)"), "{nothing}");
    let fragment = ethernet(&[], 0x0800, &ipv4(b"part", &[], 0x2000));
    let arp = ethernet(&[], 0x0806, &[0; 28]);
    let other = text(&ORDERS[0].pcap(0xa1b2_c3d4, 1, &[(0, 0, fragment), (0, 0, arp)]));
    assert!(other.contains("(1 not IP, 1 fragments)"), "{other}");
    let missing = Capture::open("/nonexistent").unwrap_err().to_string();
    assert!(missing.contains("/nonexistent: No such file"), "{missing}");
    assert!(matches!(Capture::open("/"), Err(ReplayError::Read { .. })));
}

#[test]
fn a_record_that_claims_too_much_is_refused_and_a_large_one_is_read() {
    let mut file = ORDERS[0].pcap(0xa1b2_c3d4, 1, &[]);
    file.extend(ORDERS[0].words(&[0, 0, u32::MAX, u32::MAX]));
    file.resize(BUFFER_MAX_BYTES * 2, 0);
    let (_, end) = replay(&file);
    assert!(matches!(end, Err(ReplayError::Broken { record: 1, .. })), "{end:?}");
    let order = ORDERS[1];
    let mut file = [order.section(), order.interface(1, 9, 0)].concat();
    file.extend(order.block(0xbad, &vec![7; 5 << 20]));
    file.extend(order.packet(0, 1, &packet(b"behind")));
    assert_eq!(replay(&file).0, [(0, b"behind".to_vec())]);
}

#[test]
fn a_stream_that_comes_in_drops_is_read() {
    struct Drops(Cursor<Vec<u8>>);
    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(7);
            self.0.read(&mut buffer[..len])
        }
    }
    let records: Vec<_> = (0..3000).map(|n| (n, 0, packet(&u32::to_be_bytes(n)))).collect();
    let file = ORDERS[0].pcap(0xa1b2_c3d4, 1, &records);
    let capture = Capture::read("pipe".to_owned(), Drops(Cursor::new(file))).unwrap();
    let survey = survey(capture);
    assert_eq!((survey.datagrams, survey.span_ns), (3000, 2_999_000_000_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Bytes changed, cut out and doubled: it ends, with what could be read.
    #[test]
    fn a_damaged_capture_breaks_nothing(
        big in any::<bool>(),
        next_generation in any::<bool>(),
        damage in proptest::collection::vec((any::<u16>(), any::<u32>(), 0u8..4), 0..12),
    ) {
        let order = Order { big };
        let mut file = if next_generation {
            let mut file = [order.section(), order.interface(1, 6, -7)].concat();
            for n in 0..4 { file.extend(order.packet(0, n, &packet(b"payload"))); }
            file
        } else {
            let record = |n| (n, n, packet(b"payload"));
            order.pcap(0xa1b2_c3d4, 1, &[record(0), record(1), record(2)])
        };
        for (at, value, how) in damage {
            let at = usize::from(at) % file.len();
            match how {
                0 => file[at] = value.to_le_bytes()[0],
                1 => {
                    let end = file.len().min(at / 4 * 4 + 4);
                    file[at / 4 * 4..end].copy_from_slice(&value.to_le_bytes()[..end - at / 4 * 4]);
                }
                2 => { file.drain(at..(at + value as usize % 9).min(file.len())); }
                _ => file.extend_from_within(at..),
            }
            if file.is_empty() { break; }
        }
        let (seen, _) = replay(&file);
        prop_assert!(seen.len() <= file.len() / 16);
        prop_assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}
