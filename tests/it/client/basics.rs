//! `ringest::Client` on the loopback: each datagram's fate is told once, for the right peer, and none is
//! lost to the error of another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use ringest::Client;
use ringest_client::{ClientError, Heard, Origin, PAYLOAD_BYTES_MAX, PeerErrorKind, Reply};

use crate::client::rig::{errors, is_empty, listener, loopbacks, nobody, take};
use crate::rigs::support::{DEADLINE, payload, until};

fn soon() -> Instant {
    Instant::now() + DEADLINE
}

fn reply(client: &mut Client) -> Reply {
    match client.receive(soon()).unwrap() {
        Heard::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_refusal_of_a_port_is_told_once() {
    for ip in loopbacks() {
        let peer = nobody(ip);
        let mut client = Client::connect(peer).unwrap();
        for _ in 0..100 {
            client.send(b"x").unwrap();
        }
        let errors = errors(&mut client, 100);
        for error in &errors {
            assert_eq!((error.peer, error.kind), (peer, PeerErrorKind::ConnectionRefused));
            assert!(
                matches!(error.origin, Origin::Icmp { reporter: Some(from), .. } if from == ip),
                "{error:?}"
            );
            assert!(error.to_string().contains("ss -uln"), "{error}");
        }
        assert!(client.take_errors().unwrap().is_empty());
        assert_eq!(client.unattributed(), 0);
    }
}

#[test]
fn no_message_is_lost_to_the_error_of_an_earlier_one() {
    for ip in loopbacks() {
        let peer = nobody(ip);
        let mut client = Client::connect(peer).unwrap();
        client.send(b"too early").unwrap();
        client.send(b"too early").unwrap();
        // Somebody else may have taken the port meanwhile.
        let Ok(listener) = UdpSocket::bind(peer) else { continue };
        listener.set_read_timeout(Some(DEADLINE)).unwrap();
        for number in 0..10 {
            client.send(&[number]).unwrap();
            assert_eq!(take(&listener).0, [number]);
        }
        errors(&mut client, 2);
    }
}

/// IPv4 and IPv6 on one socket, some dead, some alive: each error is its own peer's.
#[test]
fn errors_of_several_peers_are_attributed() {
    let ips = loopbacks();
    let alive: Vec<_> = ips.iter().map(|ip| listener(*ip)).collect();
    let dead: Vec<_> = ips.iter().flat_map(|ip| [nobody(*ip), nobody(*ip)]).collect();
    let peers: Vec<_> =
        dead.iter().copied().chain(alive.iter().map(|(_, address)| *address)).collect();
    let mut client = Client::to(peers.clone()).unwrap();
    assert_eq!(client.peers(), peers);
    for round in 0..20 {
        for peer in &peers {
            client.send_to(*peer, &[round]).unwrap();
        }
    }
    let heard = errors(&mut client, 20 * dead.len() as u64);
    for peer in &dead {
        let of_peer = heard.iter().filter(|error| error.peer == *peer);
        let count: u64 = of_peer.map(|error| error.count).sum();
        assert_eq!(count, 20, "{peer}: {heard:?}");
    }
    assert!(heard.iter().all(|error| error.kind == PeerErrorKind::ConnectionRefused));
    for (listener, _) in &alive {
        for round in 0..20 {
            assert_eq!(take(listener).0, [round]);
        }
        assert!(is_empty(listener));
    }
    assert_eq!((client.unattributed(), client.strays()), (0, 0));
}

#[test]
fn replies_are_the_peers_alone() {
    for ip in loopbacks() {
        let (first, second) = (listener(ip), listener(ip));
        let (stranger, _) = listener(ip);
        let mut one = Client::connect(first.1).unwrap();
        let mut both = Client::to([first.1, second.1]).unwrap();
        for (client, strays) in [(&mut one, 0), (&mut both, 1)] {
            client.send_to(first.1, b"ping").unwrap();
            let (_, from) = take(&first.0);
            assert_eq!(from, SocketAddr::new(ip, client.local_addr().unwrap().port()));
            stranger.send_to(b"forged", from).unwrap();
            first.0.send_to(b"", from).unwrap();
            first.0.send_to(b"pong\0\xff", from).unwrap();
            let empty = reply(client);
            assert_eq!((empty.peer, empty.payload.as_slice()), (first.1, &b""[..]));
            assert_eq!(reply(client).payload, b"pong\0\xff");
            assert_eq!(client.strays(), strays);
        }
        both.send_to(second.1, b"ping").unwrap();
        let (_, from) = take(&second.0);
        second.0.send_to(&payload(1, 60_000), from).unwrap();
        let large = reply(&mut both);
        assert_eq!((large.peer, large.payload), (second.1, payload(1, 60_000)));
    }
}

#[test]
fn an_error_comes_out_of_receive_or_take_errors_but_once() {
    let peer = nobody(Ipv4Addr::LOCALHOST.into());
    let mut client = Client::connect(peer).unwrap();
    client.send(b"x").unwrap();
    let Heard::Error(error) = client.receive(soon()).unwrap() else { panic!("no error") };
    assert_eq!((error.peer, error.count), (peer, 1));
    assert!(client.take_errors().unwrap().is_empty());
    assert_eq!(client.receive(Instant::now()).unwrap(), Heard::Nothing);
    assert!(!client.await_errors(Instant::now()).unwrap());
}

#[test]
fn a_peer_written_as_mapped_is_ipv4() {
    let (socket, address) = listener(Ipv4Addr::LOCALHOST.into());
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", address.port()).parse().unwrap();
    let mut client = Client::connect(mapped).unwrap();
    assert_eq!(client.peers(), [address]);
    client.send_to(mapped, b"x").unwrap();
    assert!(take(&socket).1.is_ipv4());
}

#[test]
fn the_largest_datagram_goes_and_one_byte_more_is_refused() {
    for ip in loopbacks() {
        let (socket, address) = listener(ip);
        let mut client = Client::connect(address).unwrap();
        let most = payload(3, PAYLOAD_BYTES_MAX);
        client.send(&most).unwrap();
        assert_eq!(take(&socket).0, most);
        let error = client.send(&payload(3, PAYLOAD_BYTES_MAX + 1)).unwrap_err();
        let ClientError::Peer(error) = error else { panic!("{error}") };
        assert_eq!((error.kind, error.path_mtu), (PeerErrorKind::MessageTooLong, None));
        assert!(error.to_string().contains("65507"), "{error}");
        // Refused is told by the send, and by nothing else.
        assert!(client.take_errors().unwrap().is_empty() && is_empty(&socket));
    }
}

#[test]
fn the_local_port_stays_whoever_the_peers_are() {
    let ips = loopbacks();
    let dead = nobody(ips[0]);
    let mut client = Client::connect(dead).unwrap();
    let port = client.local_addr().unwrap().port();
    client.send(b"x").unwrap();
    for _ in 0..3 {
        for ip in &ips {
            let (socket, address) = listener(*ip);
            client.set_peers([address]).unwrap();
            client.send(b"y").unwrap();
            assert_eq!(take(&socket).1, SocketAddr::new(*ip, port));
        }
        let both: Vec<_> = ips.iter().map(|ip| listener(*ip)).collect();
        client.set_peers(both.iter().map(|(_, address)| *address)).unwrap();
        for (socket, address) in &both {
            client.send_to(*address, b"z").unwrap();
            assert_eq!(take(socket).1.port(), port);
        }
        // A refused call leaves the client unchanged.
        assert!(matches!(client.set_peers([]), Err(ClientError::NoPeer)));
        client.send_to(both[0].1, b"z").unwrap();
        take(&both[0].0);
    }
    // Errors that were read before the change are kept.
    assert_eq!(errors(&mut client, 1)[0].peer, dead);
}

#[test]
fn it_sends_from_where_it_is_told() {
    let (socket, address) = listener(Ipv4Addr::LOCALHOST.into());
    let second = IpAddr::from([127, 0, 0, 2]);
    let port = nobody(second).port();
    let builder = Client::builder().peer(address).bind(second).source_port(port);
    let mut client = builder.open().unwrap();
    client.send(b"x").unwrap();
    assert_eq!(take(&socket).1, SocketAddr::new(second, port));
    let error = builder.open().unwrap_err();
    assert!(matches!(error, ClientError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&format!("sport = :{port}")), "{error}");
    let elsewhere = Client::builder().peer(address).bind([192, 0, 2, 1].into()).open().unwrap_err();
    assert!(elsewhere.to_string().contains("ip addr") && !elsewhere.is_usage(), "{elsewhere}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let refused = |text: &str| Client::connect(text.parse().unwrap()).unwrap_err();
    for (error, word) in [
        (refused("127.0.0.1:0"), "port 0"),
        (refused("0.0.0.0:9"), "every address"),
        (refused("[fe80::1]:9"), "%eth0"),
        (refused("127.255.255.255:9"), "broadcast"),
        (Client::to([peer, peer]).unwrap_err(), "twice"),
        (Client::to([]).unwrap_err(), "no peer"),
        (
            Client::builder().peer(peer).bind("::1".parse().unwrap()).open().unwrap_err(),
            "the other IPv6",
        ),
    ] {
        assert!(error.is_usage() && error.to_string().contains(word), "{word}: {error}");
    }
    let mut client = Client::to([peer, "127.0.0.1:10".parse().unwrap()]).unwrap();
    assert!(matches!(client.send(b"x"), Err(ClientError::SeveralPeers { count: 2 })));
    let stranger = "127.0.0.1:11".parse().unwrap();
    assert!(matches!(client.send_to(stranger, b"x"), Err(ClientError::NotAPeer { .. })));
    assert!(client.take_errors().unwrap().is_empty());
}

#[test]
fn a_wait_ends_when_it_is_interrupted() {
    let (_socket, address) = listener(Ipv4Addr::LOCALHOST.into());
    let event = EventFd::new().unwrap();
    let descriptor: OwnedFd = {
        use std::os::fd::AsFd;
        event.as_fd().try_clone_to_owned().unwrap()
    };
    let mut client = Client::builder().peer(address).interrupt(descriptor).open().unwrap();
    assert_eq!(client.receive(Instant::now()).unwrap(), Heard::Nothing);
    event.write(1).unwrap();
    assert!(matches!(client.receive(soon()), Err(ClientError::Interrupted)));
    assert!(matches!(client.await_errors(soon()), Err(ClientError::Interrupted)));
    // Where nothing is waited for there is nothing to end.
    client.send(b"x").unwrap();
    event.read().unwrap();
    assert_eq!(client.receive(Instant::now()).unwrap(), Heard::Nothing);
}

/// Fills the receive buffer of a client, so that the kernel has nowhere to keep a report.
fn fill(client: &Client, from: &UdpSocket, to: SocketAddr) {
    let room = socket2::SockRef::from(client).recv_buffer_size().unwrap();
    // A small datagram takes more than 512 bytes.
    for _ in 0..room / 512 {
        from.send_to(b"x", to).unwrap();
    }
}

/// Even then an error is counted: for the only peer, or as nobody's, and never for the wrong one.
#[test]
fn an_error_without_a_report_is_not_dropped() {
    for ip in loopbacks() {
        let (socket, address) = listener(ip);
        let dead = nobody(ip);
        let mut several = Client::to([address, dead]).unwrap();
        let local = SocketAddr::new(ip, several.local_addr().unwrap().port());
        fill(&several, &socket, local);
        several.send_to(dead, b"x").unwrap();
        // Both arrive: one tells of the error, and is sent again.
        several.send_to(address, b"one").unwrap();
        several.send_to(address, b"two").unwrap();
        assert_eq!([take(&socket).0, take(&socket).0], [b"one", b"two"]);
        assert_eq!(several.unattributed(), 1);
        assert!(several.take_errors().unwrap().is_empty());

        let mut one = Client::connect(address).unwrap();
        let local = one.local_addr().unwrap();
        fill(&one, &socket, local);
        drop(socket);
        one.send(b"x").unwrap();
        one.send(b"x").unwrap();
        let mut count = 0;
        until("both to be told", || {
            // The first keeps what the second finds out by being sent again.
            for error in one.take_errors().unwrap() {
                assert_eq!(error.kind, PeerErrorKind::ConnectionRefused, "{error:?}");
                assert!(matches!(error.origin, Origin::Forgotten { .. }), "{error:?}");
                count += error.count;
            }
            one.await_errors(Instant::now()).unwrap();
            count == 2
        });
        assert_eq!(one.unattributed(), 0);
    }
}

#[test]
fn a_send_timeout_of_for_ever_is_no_overflow() {
    let (socket, address) = listener(Ipv4Addr::LOCALHOST.into());
    let builder = Client::builder().peer(address).send_timeout(Duration::MAX);
    builder.open().unwrap().send(b"x").unwrap();
    assert_eq!(take(&socket).0, b"x");
}

/// Prints how far from its deadline a receive that hears nothing returns:
/// `cargo test --test it client::how_late -- --ignored --nocapture`.
#[test]
#[ignore = "measures time, so it is for people to read"]
fn how_late_a_read_deadline_is() {
    let (_socket, address) = listener(Ipv4Addr::LOCALHOST.into());
    let mut client = Client::connect(address).unwrap();
    for millis in [1, 10, 100, 1000, 20_000] {
        let mut late: Vec<_> = (0..(3000 / millis).clamp(1, 100))
            .map(|_| {
                let deadline = Instant::now() + Duration::from_millis(millis);
                assert_eq!(client.receive(deadline).unwrap(), Heard::Nothing);
                let now = Instant::now();
                assert!(now >= deadline, "early");
                now - deadline
            })
            .collect();
        late.sort_unstable();
        let (median, worst) = (late[late.len() / 2], late[late.len() - 1]);
        println!("{millis} ms, {} times: late by {median:?}, at worst {worst:?}", late.len());
    }
}
