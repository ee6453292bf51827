//! From where replies leave, and what is told of a datagram's header: on hosts with several addresses,
//! for unicast, broadcast and multicast, of single datagrams and of trains.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use ringest::{BackendChoice, Builder, Group};

use crate::rigs::support::{BACKENDS, payload, send_train, small};
use crate::sockets::lab::{
    BROADCAST_V4, CLIENT_V4, CLIENT_V6, ENGINE_V4, ENGINE_V6, Lab, SECOND_V4, SECOND_V6, Sight,
};
use crate::sockets::network::{Cable, run};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x12, 0x34);

/// Returns a builder with one receiver on a wildcard.
fn on(backend: BackendChoice, wildcard: IpAddr, workers: usize) -> Builder {
    small(backend).listen(SocketAddr::new(wildcard, 0)).workers(workers)
}

/// Returns the backends, with and without a worker.
fn ways() -> impl Iterator<Item = (BackendChoice, usize)> {
    BACKENDS.into_iter().flat_map(|backend| [(backend, 1), (backend, 0)])
}

fn group(text: &str) -> Group {
    text.parse().unwrap()
}

/// Returns every address of the engine's host a wildcard takes, with one of the client's to ask from.
fn asked(wildcard: IpAddr) -> Vec<(IpAddr, IpAddr)> {
    let v4 = ENGINE_V4.map(|ip| (CLIENT_V4[1].into(), ip.into()));
    let v6 = ENGINE_V6.map(|ip| (CLIENT_V6[1].into(), ip.into()));
    if wildcard.is_ipv6() { [v4, v6].concat() } else { v4.to_vec() }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked_of_all_a_host_has() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, workers) in ways() {
        for (wildcard, headers) in [(V4, false), (V4, true), (V6, false), (V6, true)] {
            println!("{backend:?}, {workers} workers on {wildcard}, headers {headers}");
            let builder = on(backend, wildcard, workers).receivers(2).ip_headers(headers);
            let watched = lab.watch(builder, true);
            let port = watched.port(0);
            let asked = asked(wildcard);
            let whole = payload(7, 1000);
            for (from, to) in &asked {
                let peer = lab.peer(*from);
                let to = SocketAddr::new(*to, port);
                for _ in 0..3 {
                    peer.send(to.ip(), port, "who?");
                    assert_eq!(peer.hear_echo("who?"), to);
                    send_train(&peer.socket, to, &whole, 300);
                    for body in whole.chunks(300) {
                        let heard = peer.hear();
                        assert_eq!((heard.payload, heard.from), (body.to_vec(), to));
                    }
                }
            }
            // One peer asks all of them in turn, without waiting: answers keep their sources apart.
            let peer = lab.peer(CLIENT_V4[0]);
            for ip in ENGINE_V4.iter().cycle().take(30) {
                peer.send(*ip, port, "who?");
            }
            for ip in ENGINE_V4.iter().cycle().take(30) {
                assert_eq!(peer.hear_echo("who?").ip(), IpAddr::from(*ip));
            }
            let (summary, sights) = watched.stop();
            let count = asked.len() as u64 * 15 + 30;
            assert_eq!((sights.len() as u64, summary.replies.sent), (count, count), "{summary:#?}");
            assert!(sights.iter().all(|one| one.local.is_some()), "a wildcard is told where to");
        }
    }
}

/// A broadcast address cannot answer: the interface's own does.
#[test]
fn a_broadcast_is_answered_from_the_interfaces_address() {
    let Some(lab) = Lab::lay() else { return };
    lab.lay_second();
    run("ip", &format!("-n {} route add 255.255.255.255 dev cable", lab.client())).unwrap();
    let second = Ipv4Addr::new(10, 98, 0, 255);
    for (backend, workers) in ways() {
        for headers in [false, true] {
            let watched = lab.watch(on(backend, V4, workers).ip_headers(headers), true);
            let port = watched.port(0);
            for (from, to, answers) in [
                (CLIENT_V4[0], BROADCAST_V4, ENGINE_V4[0]),
                (CLIENT_V4[0], Ipv4Addr::BROADCAST, ENGINE_V4[0]),
                (SECOND_V4[1], second, SECOND_V4[0]),
            ] {
                let peer = lab.peer(from);
                peer.send(to, port, "anyone?");
                assert_eq!(peer.hear_echo("anyone?"), SocketAddr::from((answers, port)), "{to}");
            }
            let (summary, sights) = watched.stop();
            assert_eq!((sights.len(), summary.replies.sent), (3, 3), "{summary:#?}");
            let unknown = headers.then_some(SocketAddr::from((Ipv4Addr::BROADCAST, port)));
            assert_eq!(sights[1].destination, unknown, "a limited broadcast shows as one");
        }
    }
}

#[test]
fn a_group_is_answered_from_an_address_of_the_interface_it_came_by() {
    let Some(lab) = Lab::lay() else { return };
    lab.lay_second();
    for (backend, workers) in ways() {
        for (wildcard, headers) in [(V4, false), (V4, true), (V6, false), (V6, true)] {
            println!("{backend:?}, {workers} workers on {wildcard}, headers {headers}");
            let mut builder = on(backend, wildcard, workers).receivers(2).ip_headers(headers);
            let mut ways: Vec<(IpAddr, IpAddr, &[IpAddr])> = Vec::new();
            let v4 = [ENGINE_V4.map(IpAddr::from).to_vec(), vec![SECOND_V4[0].into()]];
            let v6 = [ENGINE_V6.map(IpAddr::from).to_vec(), vec![SECOND_V6[0].into()]];
            ways.push((CLIENT_V4[0].into(), GROUP_V4.into(), &v4[0]));
            ways.push((SECOND_V4[1].into(), GROUP_V4.into(), &v4[1]));
            for interface in ["cable", "second"] {
                builder = builder.join(group(&format!("{GROUP_V4}%{interface}")));
                if wildcard.is_ipv6() {
                    builder = builder.join(group(&format!("{GROUP_V6}%{interface}")));
                }
            }
            if wildcard.is_ipv6() {
                ways.push((CLIENT_V6[0].into(), GROUP_V6.into(), &v6[0]));
                ways.push((SECOND_V6[1].into(), GROUP_V6.into(), &v6[1]));
            }
            let watched = lab.watch(builder, true);
            let port = watched.port(0);
            for (from, to, answers) in &ways {
                let peer = lab.peer(*from);
                leave_by(&lab, &peer, answers.len() == 1);
                peer.send(*to, port, "anyone?");
                let heard = peer.hear_echo("anyone?");
                assert!(answers.contains(&heard.ip()), "{to} was answered from {heard}");
            }
            let (summary, sights) = watched.stop();
            let count = ways.len();
            assert_eq!((sights.len(), summary.replies.sent), (count, count as u64), "{summary:#?}");
        }
    }
}

/// Sets the interface that a peer's multicast datagrams leave by.
fn leave_by(lab: &Lab, peer: &crate::sockets::lab::Peer, second: bool) {
    let socket = socket2::SockRef::from(&peer.socket);
    let name = if second { "second" } else { "cable" };
    let index = Cable::inside(lab.client(), || nix::net::if_::if_nametoindex(name).unwrap());
    match peer.address().ip() {
        IpAddr::V4(ip) => socket.set_multicast_if_v4(&ip).unwrap(),
        IpAddr::V6(_) => socket.set_multicast_if_v6(index).unwrap(),
    }
}

/// Returns the header fields of a datagram that was sent with TTL 33 and TOS 0xb9.
fn stamped(sight: &Sight) -> (Option<SocketAddr>, Option<u8>, Option<u8>) {
    (sight.destination, sight.hop_limit, sight.traffic_class)
}

fn unix_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[test]
fn the_header_of_every_datagram_is_told_as_it_was_sent() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, workers) in ways() {
        for (wildcard, gro) in [(V4, true), (V4, false), (V6, true), (V6, false)] {
            println!("{backend:?}, {workers} workers on {wildcard}, GRO {gro}");
            let builder = on(backend, wildcard, workers).ip_headers(true).timestamps(true).gro(gro);
            let watched = lab.watch(builder, true);
            let port = watched.port(0);
            let before_ns = unix_ns();
            let whole = payload(3, 20_000);
            let asked = asked(wildcard);
            let mut expected = Vec::new();
            for (number, (from, to)) in asked.iter().enumerate() {
                let (peer, to) = (lab.peer(*from), SocketAddr::new(*to, port));
                let (hops, class) =
                    (30 + u8::try_from(number).unwrap(), 0xb8 | u8::from(number % 2 == 1));
                peer.stamp(hops, class);
                // Fifty of a train, each with the header of the train, and one alone.
                send_train(&peer.socket, to, &whole, 400);
                peer.send(to.ip(), port, "alone");
                for _ in 0..51 {
                    assert_eq!(peer.hear().from, to);
                    expected.push((Some(to), Some(hops), Some(class)));
                }
            }
            let (summary, sights) = watched.stop();
            let seen: Vec<_> = sights.iter().map(stamped).collect();
            assert_eq!(seen, expected, "{summary:#?}");
            assert!(sights.iter().all(|one| one.local == one.destination.map(|to| to.ip())));
            assert_eq!(summary.trains > 0, gro, "a train comes whole if it may: {summary:#?}");
            let after_ns = unix_ns();
            for sight in &sights {
                let kernel_ns = sight.kernel_unix_ns.unwrap();
                assert!((before_ns..=after_ns).contains(&kernel_ns), "{sight:?}");
            }
        }
    }
}

#[test]
fn the_header_of_a_group_and_of_a_broadcast_is_told() {
    let Some(lab) = Lab::lay() else { return };
    run("ip", &format!("-n {} route add 255.255.255.255 dev cable", lab.client())).unwrap();
    for (backend, workers) in ways() {
        for wildcard in [V4, V6] {
            println!("{backend:?}, {workers} workers on {wildcard}");
            let mut builder = on(backend, wildcard, workers).ip_headers(true);
            builder = builder.join(group(&format!("{GROUP_V4}%cable")));
            let mut targets = vec![
                (IpAddr::from(CLIENT_V4[0]), IpAddr::from(GROUP_V4)),
                (CLIENT_V4[0].into(), Ipv4Addr::BROADCAST.into()),
            ];
            if wildcard.is_ipv6() {
                builder = builder.join(group(&format!("{GROUP_V6}%cable")));
                targets.push((CLIENT_V6[0].into(), GROUP_V6.into()));
            }
            let watched = lab.watch(builder, false);
            let port = watched.port(0);
            for (number, (from, to)) in targets.iter().enumerate() {
                let peer = lab.peer(*from);
                leave_by(&lab, &peer, false);
                peer.stamp(9, 0x28);
                peer.send(*to, port, "anyone?");
                watched.await_count(number + 1);
            }
            let (_, sights) = watched.stop();
            for (sight, (from, to)) in sights.iter().zip(targets) {
                let expected = (Some(SocketAddr::new(to, port)), Some(9), Some(0x28));
                assert_eq!(stamped(sight), expected, "{sight:?}");
                assert_eq!((sight.peer.ip(), sight.local), (from, None), "{sight:?}");
            }
        }
    }
}

#[test]
fn what_was_not_asked_is_not_told() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, workers) in ways() {
        for wildcard in [V4, V6] {
            let watched = lab.watch(on(backend, wildcard, workers), false);
            let port = watched.port(0);
            let peer = lab.peer(CLIENT_V4[0]);
            peer.stamp(33, 0xb9);
            peer.send(ENGINE_V4[0], port, "hello");
            watched.await_count(1);
            let (_, sights) = watched.stop();
            assert_eq!(stamped(&sights[0]), (None, None, None));
            assert_eq!(sights[0].kernel_unix_ns, None);
        }
    }
}

/// An address of a listener needs no asking: replies leave from it, and nothing is told.
#[test]
fn a_listener_on_one_address_tells_where_to_only_if_asked() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, workers) in ways() {
        for ip in [IpAddr::from(ENGINE_V4[2]), ENGINE_V6[2].into()] {
            for headers in [false, true] {
                let watched = lab.watch(on(backend, ip, workers).ip_headers(headers), true);
                let port = watched.port(0);
                let from: IpAddr =
                    if ip.is_ipv4() { CLIENT_V4[0].into() } else { CLIENT_V6[0].into() };
                let peer = lab.peer(from);
                peer.stamp(33, 0xb9);
                peer.send(ip, port, "hello");
                assert_eq!(peer.hear_echo("hello"), SocketAddr::new(ip, port));
                let (_, sights) = watched.stop();
                let told = (Some(SocketAddr::new(ip, port)), Some(33), Some(0xb9));
                let expected = if headers { told } else { (None, None, None) };
                assert_eq!(stamped(&sights[0]), expected);
                assert_eq!(sights[0].local, headers.then_some(ip));
            }
        }
    }
}
