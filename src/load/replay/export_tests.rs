//! Formats, byte by byte where that says most; other programs read them in tests/it/journal_tools.rs.

use std::io::Cursor;
use std::net::SocketAddr;

use crate::replay::Capture;
use ringest_records::journal::export::*;
use ringest_records::journal::format::Record;

fn record<'a>(peer: &str, payload: &'a [u8]) -> Record<'a> {
    let peer = peer.parse().unwrap();
    Record { received_unix_ns: 1_000_000_007, peer, listener: 2, continued: false, payload }
}

#[test]
fn a_line_of_json_is_the_contract() {
    let mut out = Vec::new();
    let mut sheet = Ndjson::new(&mut out);
    sheet.add(&record("[::1]:5", b"a\"\xe2\x80\xae\n")).unwrap();
    sheet.add(&record("192.0.2.7:514", b"\xff\0")).unwrap();
    sheet.finish().unwrap();
    let lines = concat!(
        r#"{"time":"1970-01-01T00:00:01.000000007Z","peer":"[::1]:5","listener":2,"length":6,"#,
        r#""payload":"a\"\u202e\n"}"#,
        "\n",
        r#"{"time":"1970-01-01T00:00:01.000000007Z","peer":"192.0.2.7:514","listener":2,"length":2,"#,
        r#""payload_hex":"ff00"}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), lines);
}

#[test]
fn no_cell_is_a_formula_and_quotes_are_doubled() {
    for (payload, cell) in [
        (&b""[..], ""),
        (b"plain, with a comma", "plain, with a comma"),
        (b"\"quoted\"\r\n", r#"""quoted""\r\n"#),
        (b"=1+1", r"\u{3d}1+1"),
        (b"-", r"\u{2d}"),
        (b"@\"SUM\"", r#"\u{40}""SUM"""#),
        ("＝1".as_bytes(), r"\u{ff1d}1"),
        (b"\t=1", r"\t=1"),
        (b"\xff=1", r"\xff=1"),
    ] {
        let mut out = Vec::new();
        let mut sheet = Csv::new(&mut out).unwrap();
        sheet.add(&record("[2001:db8::7]:9", payload)).unwrap();
        sheet.finish().unwrap();
        let expected = format!(
            "received,peer_ip,peer_port,listener,length,payload\r\n\
             1970-01-01T00:00:01.000000007Z,2001:db8::7,9,2,{},\"{cell}\"\r\n",
            payload.len()
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

/// Returns the datagrams that `ringest load --pcap` would send of an exported capture.
fn captured(file: Vec<u8>) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
    let mut capture = Capture::read("exported".to_owned(), Cursor::new(file)).unwrap();
    let mut found = Vec::new();
    while let Some(one) = capture.next_datagram().unwrap() {
        found.push((one.source, one.destination, one.payload.to_vec()));
    }
    assert_eq!(capture.skipped().total(), 0, "strictly, every length fits");
    found
}

#[test]
fn a_capture_has_peers_listeners_and_payloads() {
    let payloads: [&[u8]; 3] = [b"", b"odd", &[7; 65_507]];
    let told = ["192.0.2.80:514", "[::]:5140"].map(|text| text.parse().unwrap()).to_vec();
    for (listeners, listener, to4, to6) in [
        (Vec::new(), 2, "192.0.2.1:60002", "[2001:db8::1]:60002"),
        (Vec::new(), u16::MAX, "192.0.2.1:65535", "[2001:db8::1]:65535"),
        (told.clone(), 0, "192.0.2.80:514", "[2001:db8::1]:514"),
        (told, 1, "192.0.2.1:5140", "[2001:db8::1]:5140"),
    ] {
        let mut out = Vec::new();
        let mut sheet = Pcapng::new(&mut out, listeners).unwrap();
        let mut wanted = Vec::new();
        for (from, to) in [("198.51.100.9:7", to4), ("[fe80::9]:8", to6)] {
            for payload in payloads {
                let record = Record { listener, ..record(from, payload) };
                assert!(sheet.add(&record).unwrap());
                wanted.push((record.peer, to.parse().unwrap(), payload.to_vec()));
            }
        }
        let longest = vec![1; 65_508];
        assert!(!sheet.add(&record("192.0.2.9:1", &longest)).unwrap(), "over IPv4 there is none");
        assert!(sheet.add(&record("[::1]:1", &longest[..65_507])).unwrap());
        sheet.finish().unwrap();
        let found = captured(out);
        assert_eq!(found.len(), 7);
        assert!(found[..6] == wanted[..]);
    }
}
