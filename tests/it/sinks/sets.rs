//! A set of sinks for each listen address.

use std::net::{SocketAddr, UdpSocket};

use ringest::BackendChoice;
use ringest_records::decode::stage::Formats;
use ringest_records::sink::assemble::Sinks;
use ringest_records::sink::kinds::FileSpec;
use ringest_records::sink::lines::Format;

use crate::journal::rig::{contents, spec, temp_dir};
use crate::rigs::support::{consistent, small, until};

/// Two listen addresses and two journals: each datagram is in the right one, and the file beside one of them,
/// which cannot be written, takes nothing from the other.
#[test]
fn each_listener_has_its_journal() {
    let place = temp_dir();
    let dirs = ["first", "second"].map(|name| place.path().join(name));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let builder = small(BackendChoice::Auto).listen(any).listen(any).reply_bytes(0);
    let full = FileSpec { path: "/dev/full".into(), format: Format::Text };
    let (engine, sinks) = Sinks::new()
        .to(spec(&dirs[0]))
        .unwrap()
        .sinks_for(1, vec![Box::new(full), Box::new(spec(&dirs[1]))])
        .unwrap()
        .start(builder, &Formats::raw())
        .unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..100_u8 {
        for (listener, address) in engine.addresses().iter().enumerate() {
            let payload = [u8::try_from(listener).unwrap(), number];
            socket.send_to(&payload, address).unwrap();
        }
        until("the datagrams to be settled", || {
            let ledger = engine.stats().ledger;
            ledger.delivered + ledger.undelivered == 2 * (u64::from(number) + 1)
        });
    }
    let summary = sinks.stop(engine).unwrap();
    consistent(&summary);
    let ledger = &summary.ledger;
    assert_eq!((ledger.received, ledger.delivered, ledger.undelivered), (200, 100, 100));
    for (listener, dir) in dirs.iter().enumerate() {
        let payloads = contents(dir).payloads;
        let sent = (0..100_u8).map(|number| vec![u8::try_from(listener).unwrap(), number]);
        assert_eq!(payloads, sent.collect::<Vec<_>>());
    }
}
