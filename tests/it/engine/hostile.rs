//! A host that changes under a running engine, groups that cannot be joined, and the most that can be
//! asked of a datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;

use ringest::{ArrivalsChoice, Batch, Error, Group, Replies, SocketOptions};

use crate::rigs::support::{BACKENDS, boxed, consistent, payload, send_train, small, stop, until};
use crate::sockets::lab::{
    CLIENT_V4, CLIENT_V6, ENGINE_V4, ENGINE_V6, Lab, Peer, Program, SECOND_V4, Watched, tally,
};
use crate::sockets::network::{Cable, run};

const ANY_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const ANY_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

fn group(text: &str) -> Group {
    text.parse().unwrap()
}

/// Every control message there is, with payloads of every size and trains: the room is enough.
#[test]
fn all_that_can_be_asked_leaves_room_for_the_longest_datagram() {
    for backend in BACKENDS {
        for (listen, ip, longest) in [
            (ANY_V4, IpAddr::from(Ipv4Addr::LOCALHOST), 65_507),
            (ANY_V6, Ipv4Addr::LOCALHOST.into(), 65_507),
            (ANY_V6, Ipv6Addr::LOCALHOST.into(), 65_527),
        ] {
            println!("{backend:?} on {listen}, to {ip}");
            let options = SocketOptions { traffic_class: Some(0xff), ..SocketOptions::default() };
            let builder = small(backend).listen(listen).receivers(2).timestamps(true);
            let builder = builder.ip_headers(true).socket_options(options).slots(16);
            let watched = Watched::start(builder, false);
            let (peer, to) = (Peer::bind(ip), SocketAddr::new(ip, watched.port(0)));
            peer.stamp(255, 0xff);
            let mut bodies: Vec<_> = [0, 1, 1472, 9000, longest - 1, longest, 0]
                .into_iter()
                .map(|size| payload(size, size))
                .collect();
            for body in &bodies {
                assert_eq!(peer.socket.send_to(body, to).unwrap(), body.len());
            }
            let whole = payload(9, 64_000);
            send_train(&peer.socket, to, &whole, 1000);
            bodies.extend(whole.chunks(1000).map(<[u8]>::to_vec));
            watched.await_count(bodies.len());
            let (summary, sights) = watched.stop();
            let seen: Vec<_> = sights.iter().map(|one| one.payload.clone()).collect();
            assert!(seen == bodies, "{summary:#?}");
            for sight in sights {
                assert_eq!(sight.destination, Some(to));
                assert_eq!((sight.hop_limit, sight.traffic_class), (Some(255), Some(0xff)));
                assert!(sight.kernel_unix_ns.is_some());
            }
        }
    }
}

#[test]
fn nonsense_to_join_is_told_as_such() {
    let Some(lab) = Lab::lay() else { return };
    for (args, code, said) in [
        ("0.0.0.0:9000 --join 10.0.0.1", 2, "224.0.0.0/4"),
        ("0.0.0.0:9000 --join everybody", 2, "no address"),
        ("0.0.0.0:9000 --join 239.1.1.1%", 2, "interface"),
        ("0.0.0.0:9000 --join 239.1.1.1%0", 2, "from 1 up"),
        ("0.0.0.0:9000 --join 239.1.1.1@", 2, "no address"),
        ("0.0.0.0:9000 --join 239.1.1.1@239.1.1.2", 2, "sender"),
        ("0.0.0.0:9000 --join 239.1.1.1@2001:db8::1", 2, "sender"),
        ("0.0.0.0:9000 --join ff15::1", 2, "listen on [::]"),
        ("10.99.0.1:9000 --join 239.1.1.1", 2, "listen on 0.0.0.0"),
        ("[::]:9000 --v6only --join 239.1.1.1", 2, "listen on 0.0.0.0"),
        ("0.0.0.0:9000 --join 239.1.1.1 --join 239.1.1.1", 2, "joins it already"),
        ("0.0.0.0:9000 --join 239.1.1.1 --join 239.1.1.1@10.0.0.1", 2, "joins it already"),
        ("0.0.0.0:9000 --join 239.1.1.1%nothere", 1, "ip link"),
        ("0.0.0.0:9000 --join 239.1.1.1%9999", 1, "ip link"),
        ("[::]:9000 --join ff15::1%9999", 1, "ip link"),
        // The routing table knows the one, the name is the other: it is one interface.
        ("0.0.0.0:9000 --join 239.1.1.1 --join 239.1.1.1%cable", 1, "member already"),
        ("[::]:9000 --join ff15::1 --join ff15::1%cable", 1, "member already"),
    ] {
        let ended = Program::ringest(Some(lab.engine()), &format!("listen {args}")).end();
        assert_eq!(ended.code, Some(code), "{args}: {ended:?}");
        assert!(ended.stderr.contains(said), "{args}: {said:?} is not in {ended:?}");
    }
}

#[test]
fn a_group_without_a_route_says_how_to_name_the_interface() {
    let Some(lab) = Lab::lay() else { return };
    lab.ip("route del 224.0.0.0/4 dev cable");
    let ended = Program::ringest(Some(lab.engine()), "listen 0.0.0.0:9000 --join 239.1.1.1").end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("GROUP%eth0"), "{ended:?}");
}

/// The kernel allows a socket 20 groups of IPv4 (net.ipv4.igmp_max_memberships); each receiver has one.
#[test]
fn more_groups_than_the_kernel_allows_are_refused_and_named() {
    let Some(lab) = Lab::lay() else { return };
    let number = |n: usize| group(&format!("239.9.{}.{}%cable", n / 250, n % 250 + 1));
    for backend in BACKENDS {
        let builder = |count: usize| {
            (0..count)
                .map(number)
                .fold(small(backend).listen(ANY_V4).receivers(2), |b, g| b.join(g))
        };
        let text = Cable::inside(lab.engine(), || {
            Watched::starting(builder(300), false).unwrap_err().to_string()
        });
        assert!(text.contains("igmp_max_memberships") && text.contains("239.9.0.41"), "{text}");
        let watched = lab.watch(builder(40), false);
        let refused = Cable::inside(lab.engine(), || watched.engine.join(&number(40)).unwrap_err());
        assert!(matches!(refused, Error::Option { .. }), "{refused:?}");
        // The refused group is not joined, and the others still receive.
        Cable::inside(lab.engine(), || watched.engine.leave(&number(40)).unwrap_err());
        let peer = lab.peer(CLIENT_V4[0]);
        let socket = socket2::SockRef::from(&peer.socket);
        socket.set_multicast_if_v4(&CLIENT_V4[0]).unwrap();
        for n in (0..41).rev() {
            peer.send(number(n).address, watched.port(0), &n.to_string());
        }
        watched.await_count(40);
        // One leaves, and another has its place.
        Cable::inside(lab.engine(), || {
            watched.engine.leave(&number(7)).unwrap();
            watched.engine.join(&number(40)).unwrap();
        });
        peer.send(number(7).address, watched.port(0), "left");
        peer.send(number(40).address, watched.port(0), "joined");
        watched.await_count(41);
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["0", "39", "40", "left", "joined"]), [1, 1, 0, 0, 1]);
    }
}

/// The kernel limits the IPv6 groups of a socket by its option memory (net.core.optmem_max). An engine that
/// meets the limit goes on.
#[test]
fn ipv6_groups_beyond_the_kernels_memory_for_them_are_refused() {
    let Some(lab) = Lab::lay() else { return };
    let little = "sysctl -qw net.core.optmem_max=4096";
    if let Err(reason) = run("ip", &format!("netns exec {} {little}", lab.engine())) {
        println!("skipped: the limit is not a namespace's own before Linux 6.8: {reason}");
        return;
    }
    let number = |n: usize| group(&format!("ff15::9:{n:x}%cable"));
    for backend in BACKENDS {
        // The program that counts arrivals is charged to the same memory, so it is left out.
        let builder = small(backend).listen(ANY_V6).arrivals(ArrivalsChoice::Off);
        let watched = lab.watch(builder, false);
        let join = |n| Cable::inside(lab.engine(), || watched.engine.join(&number(n)));
        let joined = (0..1000).take_while(|&n| join(n).is_ok()).count();
        assert!((5..1000).contains(&joined), "{joined}");
        assert!(matches!(join(joined), Err(Error::Option { .. })));
        Cable::inside(lab.engine(), || watched.engine.leave(&number(1))).unwrap();
        join(2000).unwrap();
        let peer = lab.peer(CLIENT_V6[0]);
        let index = Cable::inside(lab.client(), || nix::net::if_::if_nametoindex("cable").unwrap());
        socket2::SockRef::from(&peer.socket).set_multicast_if_v6(index).unwrap();
        for (n, text) in [(joined, "refused"), (1, "left"), (0, "first"), (2000, "last")] {
            peer.send(number(n).address, watched.port(0), text);
        }
        watched.await_payload(b"last");
        // The stop needs a little of that memory for the filter that shuts the door.
        for n in [0, 2, 3, 4, 2000] {
            Cable::inside(lab.engine(), || watched.engine.leave(&number(n))).unwrap();
        }
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["refused", "left", "first", "last"]), [0, 0, 1, 1]);
    }
}

#[test]
fn an_interface_that_goes_takes_nothing_else_with_it() {
    for backend in BACKENDS {
        let Some(lab) = Lab::lay() else { return };
        lab.lay_second();
        let builder = small(backend).listen(ANY_V4).receivers(2);
        let builder = builder.join(group("239.1.1.1%second")).join(group("239.1.1.2%cable"));
        let watched = lab.watch(builder, true);
        let port = watched.port(0);
        let options =
            SocketOptions { device: Some("second".to_owned()), ..SocketOptions::default() };
        let bound = lab.watch(small(backend).listen(ANY_V4).socket_options(options), true);
        let second = lab.peer(SECOND_V4[1]);
        second.send(SECOND_V4[0], bound.port(0), "bound");
        second.hear_echo("bound");
        let leave_by = socket2::SockRef::from(&second.socket);
        leave_by.set_multicast_if_v4(&SECOND_V4[1]).unwrap();
        second.send("239.1.1.1".parse::<IpAddr>().unwrap(), port, "by the second");
        second.hear_echo("by the second");
        lab.ip("link del second");
        let peer = lab.peer(CLIENT_V4[0]);
        socket2::SockRef::from(&peer.socket).set_multicast_if_v4(&CLIENT_V4[0]).unwrap();
        peer.send("239.1.1.2".parse::<IpAddr>().unwrap(), port, "by the first");
        peer.hear_echo("by the first");
        peer.send(ENGINE_V4[1], port, "hello");
        assert_eq!(peer.hear_echo("hello").ip(), IpAddr::from(ENGINE_V4[1]));
        // The engine that was bound to it waits for ever, and stops when it is told to.
        let (_, sights) = bound.stop();
        assert_eq!(sights.len(), 1);
        let (summary, _) = watched.stop();
        assert_eq!((summary.ledger.handled, summary.replies.failed), (3, 0), "{summary:#?}");
    }
}

#[test]
fn a_link_that_goes_down_and_comes_up_keeps_its_groups() {
    for backend in BACKENDS {
        let Some(lab) = Lab::lay() else { return };
        let watched = lab.watch(
            small(backend).listen(ANY_V4).receivers(2).join(group("239.1.1.1@10.99.0.2%cable")),
            false,
        );
        let peer = lab.peer(CLIENT_V4[0]);
        socket2::SockRef::from(&peer.socket).set_multicast_if_v4(&CLIENT_V4[0]).unwrap();
        let to: IpAddr = "239.1.1.1".parse().unwrap();
        peer.send(to, watched.port(0), "before");
        watched.await_count(1);
        lab.ip("link set cable down");
        lab.ip("link set cable up");
        // Until the link is up again, what is sent is lost.
        until("the group to be heard again", || {
            let _ = peer.socket.send_to(b"after", (to, watched.port(0)));
            watched.seen() > 1
        });
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["before"]), [1]);
    }
}

#[test]
fn an_address_that_goes_and_comes_back_is_still_listened_on() {
    let Some(lab) = Lab::lay() else { return };
    for backend in BACKENDS {
        let (v4, v6) = (ENGINE_V4[2], ENGINE_V6[2]);
        for (ip, from, bits) in [
            (IpAddr::from(v4), IpAddr::from(CLIENT_V4[0]), 24),
            (v6.into(), CLIENT_V6[0].into(), 64),
        ] {
            let listen = SocketAddr::new(ip, 0);
            let watched = lab.watch(small(backend).listen(listen).receivers(2), true);
            let peer = lab.peer(from);
            for _ in 0..3 {
                peer.send(ip, watched.port(0), "hello");
                peer.hear_echo("hello");
                lab.ip(&format!("address del {ip}/{bits} dev cable"));
                lab.add_address(ip, bits);
            }
            let (summary, _) = watched.stop();
            assert_eq!((summary.replies.sent, summary.replies.failed), (3, 0), "{summary:#?}");
        }
    }
}

/// A reply cannot leave from an address that is gone. It is counted as failed, and the next is sent.
#[test]
fn a_reply_from_an_address_that_went_meanwhile_is_counted_as_failed() {
    let Some(lab) = Lab::lay() else { return };
    for backend in BACKENDS {
        for (listen, ip, from) in [
            (ANY_V4, IpAddr::from(ENGINE_V4[2]), IpAddr::from(CLIENT_V4[0])),
            (ANY_V6, ENGINE_V4[2].into(), CLIENT_V4[0].into()),
            (ANY_V6, ENGINE_V6[2].into(), CLIENT_V6[0].into()),
        ] {
            let (go, gate) = mpsc::channel();
            let mut gate = Some(gate);
            let handler = |_| {
                let gate = gate.take().unwrap();
                move |batch: &Batch, replies: &mut Replies| {
                    gate.recv().unwrap();
                    for datagram in batch {
                        replies.send(&datagram, datagram.payload());
                    }
                }
            };
            let engine =
                Cable::inside(lab.engine(), || small(backend).listen(listen).start(boxed(handler)));
            let engine = engine.unwrap();
            let (peer, port) = (lab.peer(from), engine.addresses()[0].port());
            let bits = if ip.is_ipv4() { 24 } else { 64 };
            peer.send(ip, port, "hello");
            until("it to be taken", || engine.stats().ledger.received == 1);
            lab.ip(&format!("address del {ip}/{bits} dev cable"));
            go.send(()).unwrap();
            until("the reply to fail", || engine.stats().replies.failed == 1);
            lab.add_address(ip, bits);
            peer.send(ip, port, "again");
            go.send(()).unwrap();
            assert_eq!(peer.hear_echo("again"), SocketAddr::new(ip, port));
            drop(go);
            let summary = stop(engine);
            consistent(&summary);
            assert_eq!((summary.replies.sent, summary.replies.failed), (1, 1), "{summary:#?}");
        }
    }
}

/// A firewall that refuses what leaves (EPERM) costs the replies, and nothing else.
#[test]
fn replies_that_a_firewall_refuses_are_counted_as_failed() {
    let Some(lab) = Lab::lay() else { return };
    let nft = |rest: &str| run("ip", &format!("netns exec {} nft {rest}", lab.engine()));
    let hook = "{ type filter hook output priority 0 ; }";
    let made =
        nft("add table inet lab").and_then(|()| nft(&format!("add chain inet lab out {hook}")));
    if let Err(reason) = made {
        println!("skipped: nft cannot be used here: {reason}");
        return;
    }
    for backend in BACKENDS {
        let watched = lab.watch(small(backend).listen(ANY_V4).receivers(2), true);
        nft("add rule inet lab out udp sport 1-65535 drop").unwrap();
        let peer = lab.peer(CLIENT_V4[0]);
        (0..20).for_each(|_| peer.send(ENGINE_V4[0], watched.port(0), "unheard"));
        until("the replies to fail", || watched.engine.stats().replies.failed == 20);
        nft("flush chain inet lab out").unwrap();
        peer.send(ENGINE_V4[0], watched.port(0), "hello");
        peer.hear_echo("hello");
        let (summary, _) = watched.stop();
        assert_eq!((summary.replies.sent, summary.replies.failed), (1, 20), "{summary:#?}");
    }
}
