//! Multicast groups in the lab: what was joined is received once, and nothing else is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ringest::{BackendChoice, Builder, Error, Group};

use crate::rigs::support::{BACKENDS, DEADLINE, payload, send_train, small};
use crate::sockets::lab::{
    CLIENT_V4, CLIENT_V6, ENGINE_V4, Lab, Peer, SECOND_V4, SECOND_V6, fresh_port, tally,
};
use crate::sockets::network::{Cable, run};

/// Three groups of a family, a client's address to send from, and the wildcard that takes them.
type Family = ([IpAddr; 3], IpAddr, IpAddr);

fn v4_groups() -> [IpAddr; 3] {
    [1, 2, 3].map(|last| Ipv4Addr::new(239, 7, 7, last).into())
}

fn v6_groups() -> [IpAddr; 3] {
    [1, 2, 3].map(|last| Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 7, last).into())
}

/// Returns IPv4, IPv6, and IPv4 on a socket that takes both.
fn families() -> [Family; 3] {
    let (any_v4, any_v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    [
        (v4_groups(), CLIENT_V4[0].into(), any_v4),
        (v6_groups(), CLIENT_V6[0].into(), any_v6),
        (v4_groups(), CLIENT_V4[0].into(), any_v6),
    ]
}

/// Backends on each family; each is printed as its turn comes.
fn grounds() -> impl Iterator<Item = (BackendChoice, Family)> {
    BACKENDS.into_iter().flat_map(|backend| {
        families().into_iter().map(move |family| {
            println!("{backend:?}: {family:?}");
            (backend, family)
        })
    })
}

fn group(text: &str) -> Group {
    text.parse().unwrap()
}

fn on(backend: BackendChoice, ip: IpAddr) -> Builder {
    small(backend).listen(SocketAddr::new(ip, 0)).receivers(2)
}

/// Returns a client that sends to groups by an interface.
fn sender(lab: &Lab, ip: IpAddr, interface: &str) -> Peer {
    let peer = lab.peer(ip);
    let socket = socket2::SockRef::from(&peer.socket);
    let index = Cable::inside(lab.client(), || nix::net::if_::if_nametoindex(interface).unwrap());
    match ip {
        IpAddr::V4(ip) => socket.set_multicast_if_v4(&ip).unwrap(),
        IpAddr::V6(_) => socket.set_multicast_if_v6(index).unwrap(),
    }
    peer
}

/// Returns a socket of another program on the engine's host that joins `group`, which by default would give
/// it to every wildcard socket there (IP_MULTICAST_ALL, ip(7)).
fn other_member(lab: &Lab, group: IpAddr) -> UdpSocket {
    Cable::inside(lab.engine(), || match group {
        IpAddr::V4(group) => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.join_multicast_v4(&group, &ENGINE_V4[0]).unwrap();
            socket
        }
        IpAddr::V6(group) => {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
            let index = nix::net::if_::if_nametoindex("cable").unwrap();
            socket.join_multicast_v6(&group, index).unwrap();
            socket
        }
    })
}

#[test]
fn groups_joined_are_received_once_and_others_are_not() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, (groups, from, wildcard)) in grounds() {
        let builder = on(backend, wildcard)
            .join(group(&format!("{}%cable", groups[0])))
            .join(group(&format!("{}%cable", groups[1])));
        let watched = lab.watch(builder, false);
        let port = watched.port(0);
        let other = other_member(&lab, groups[2]);
        other.set_read_timeout(Some(DEADLINE)).unwrap();
        let peer = sender(&lab, from, "cable");
        for number in 0..40 {
            peer.send(groups[2], port, "third");
            peer.send(groups[0], port, "first");
            if number % 2 == 0 {
                peer.send(groups[1], port, "second");
            }
        }
        // The third does reach the host: its member there hears it.
        peer.send(groups[2], other.local_addr().unwrap().port(), "to the other");
        other.recv(&mut [0; 64]).unwrap();
        watched.await_count(60);
        let (summary, sights) = watched.stop();
        assert_eq!(tally(&sights, ["first", "second", "third"]), [40, 20, 0]);
        assert_eq!(summary.ledger.arrived, Some(60), "no receiver gets a copy: {summary:#?}");
    }
}

/// The kernel finds the one socket that joined, and then (early demultiplexing of IPv4, Linux 6.6)
/// chooses among that socket's SO_REUSEPORT group after all: the datagrams of one sender come to one
/// receiver, but not those of a group. Without, the member has them all.
#[test]
fn the_receiver_that_joined_has_the_group_where_the_kernel_lets_it() {
    let Some(lab) = Lab::lay() else { return };
    let off = "sysctl -qw net.ipv4.udp_early_demux=0";
    run("ip", &format!("netns exec {} {off}", lab.engine())).unwrap();
    for (backend, (groups, from, wildcard)) in grounds() {
        let builder = on(backend, wildcard)
            .join(group(&format!("{}%cable", groups[0])))
            .join(group(&format!("{}%cable", groups[1])));
        let watched = lab.watch(builder, false);
        for _ in 0..20 {
            // Many senders, which a hash would spread over both receivers.
            let peer = sender(&lab, from, "cable");
            peer.send(groups[0], watched.port(0), "first");
            peer.send(groups[1], watched.port(0), "second");
            peer.send(groups[1], watched.port(0), "second");
        }
        watched.await_count(60);
        let (summary, _) = watched.stop();
        let mut shares: Vec<_> = summary.receivers.iter().map(|one| one.received).collect();
        shares.sort_unstable();
        assert_eq!(shares, [20, 40], "{summary:#?}");
    }
}

#[test]
fn trains_to_a_group_are_received_once() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, (groups, from, wildcard)) in grounds() {
        for gro in [true, false] {
            let builder =
                on(backend, wildcard).gro(gro).join(group(&format!("{}%cable", groups[0])));
            let watched = lab.watch(builder, false);
            let peer = sender(&lab, from, "cable");
            let whole = payload(5, 12_000);
            for _ in 0..10 {
                send_train(&peer.socket, SocketAddr::new(groups[0], watched.port(0)), &whole, 1000);
            }
            watched.await_count(120);
            let (summary, sights) = watched.stop();
            let bodies: Vec<_> = sights.iter().map(|one| &one.payload[..]).collect();
            assert_eq!(bodies, whole.chunks(1000).cycle().take(120).collect::<Vec<_>>());
            assert_eq!(summary.ledger.arrived, Some(120), "{summary:#?}");
        }
    }
}

#[test]
fn of_two_sources_only_the_one_named_is_heard() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, (groups, from, wildcard)) in grounds() {
        let other = if from.is_ipv4() { CLIENT_V4[1].into() } else { CLIENT_V6[1].into() };
        let builder = on(backend, wildcard)
            .join(group(&format!("{}@{from}%cable", groups[0])))
            .join(group(&format!("{}@{other},{from}%cable", groups[1])));
        let watched = lab.watch(builder, false);
        let port = watched.port(0);
        let (named, unnamed) = (sender(&lab, from, "cable"), sender(&lab, other, "cable"));
        for _ in 0..20 {
            unnamed.send(groups[0], port, "unnamed");
            named.send(groups[0], port, "named");
            unnamed.send(groups[1], port, "either");
            named.send(groups[1], port, "either");
        }
        watched.await_count(60);
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["unnamed", "named", "either"]), [0, 20, 40]);
        assert!(sights.iter().filter(|one| one.payload == b"named").all(|s| s.peer.ip() == from));
    }
}

/// The host asks the network for a list of sources, not for the whole group (IGMPv3, MLDv2).
#[test]
fn a_source_is_asked_for_by_name() {
    let Some(lab) = Lab::lay() else { return };
    for (groups, from, wildcard) in families() {
        let joined = group(&format!("{}@{from}%cable", groups[0]));
        let watched = lab.watch(on(BACKENDS[1], wildcard).join(joined), false);
        let file = if from.is_ipv4() { "mcfilter" } else { "mcfilter6" };
        let shown = Cable::inside(lab.engine(), || {
            std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()
        });
        let source = match from {
            IpAddr::V4(ip) => format!("{:#010x}", ip.to_bits()),
            IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        };
        // Interface, group, source, sockets that include it, sockets that exclude it.
        let line = shown.lines().find(|line| line.contains(&source)).unwrap_or_else(|| {
            panic!("{source} is not in {shown}");
        });
        let counts: Vec<_> = line.split_whitespace().rev().take(2).collect();
        assert_eq!(counts, ["0", "1"], "{shown}");
        watched.stop();
    }
}

#[test]
fn a_group_is_joined_on_the_interface_named_by_name_or_index() {
    let Some(lab) = Lab::lay() else { return };
    lab.lay_second();
    let index = |name: &str| {
        Cable::inside(lab.engine(), || nix::net::if_::if_nametoindex(name).unwrap()).to_string()
    };
    for (backend, (groups, from, wildcard)) in grounds() {
        let on_second = if from.is_ipv4() { SECOND_V4[1].into() } else { SECOND_V6[1].into() };
        for (wanted, interface, [first, second]) in [
            ("cable", "cable".to_owned(), [1, 0]),
            ("cable", index("cable"), [1, 0]),
            ("second", "second".to_owned(), [0, 1]),
            ("second", index("second"), [0, 1]),
        ] {
            println!("joined on {wanted} as {interface}");
            let joined = group(&format!("{}%{interface}", groups[0]));
            let watched = lab.watch(on(backend, wildcard).join(joined), false);
            let port = watched.port(0);
            // The datagrams that must not arrive are sent first.
            let mut ways =
                [(from, "cable", "by the first"), (on_second, "second", "by the second")];
            if wanted == "cable" {
                ways.reverse();
            }
            for (from, device, text) in ways {
                let peer = sender(&lab, from, device);
                (0..20).for_each(|_| peer.send(groups[0], port, text));
            }
            watched.await_count(20);
            let (_, sights) = watched.stop();
            let expected = [20 * first, 20 * second];
            assert_eq!(tally(&sights, ["by the first", "by the second"]), expected);
        }
    }
}

#[test]
fn a_group_can_be_joined_on_several_interfaces() {
    let Some(lab) = Lab::lay() else { return };
    lab.lay_second();
    for (backend, (groups, from, wildcard)) in grounds() {
        let on_second = if from.is_ipv4() { SECOND_V4[1].into() } else { SECOND_V6[1].into() };
        let builder = on(backend, wildcard)
            .join(group(&format!("{}%cable", groups[0])))
            .join(group(&format!("{}%second", groups[0])));
        let watched = lab.watch(builder, false);
        for (from, device) in [(from, "cable"), (on_second, "second")] {
            let peer = sender(&lab, from, device);
            (0..20).for_each(|_| peer.send(groups[0], watched.port(0), device));
        }
        watched.await_count(40);
        let (summary, sights) = watched.stop();
        assert_eq!(tally(&sights, ["cable", "second"]), [20, 20]);
        assert_eq!(summary.ledger.arrived, Some(40), "no receiver gets a copy: {summary:#?}");
    }
}

#[test]
fn a_group_is_joined_and_left_while_the_engine_runs() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, (groups, from, wildcard)) in grounds() {
        let always = group(&format!("{}%cable", groups[1]));
        let watched = lab.watch(on(backend, wildcard).join(always.clone()), false);
        let port = watched.port(0);
        let peer = sender(&lab, from, "cable");
        let joined = group(&format!("{}%cable", groups[0]));
        for round in 0..3_usize {
            peer.send(groups[0], port, "before or after");
            peer.send(groups[1], port, "always");
            watched.await_count(3 * round + 1);
            Cable::inside(lab.engine(), || watched.engine.join(&joined)).unwrap();
            peer.send(groups[0], port, "joined");
            peer.send(groups[1], port, "always");
            watched.await_count(3 * round + 3);
            let twice = Cable::inside(lab.engine(), || watched.engine.join(&joined)).unwrap_err();
            assert!(matches!(twice, Error::Setting { setting: "join", .. }), "{twice:?}");
            Cable::inside(lab.engine(), || watched.engine.leave(&joined)).unwrap();
            let twice = Cable::inside(lab.engine(), || watched.engine.leave(&joined)).unwrap_err();
            assert!(matches!(twice, Error::Setting { setting: "leave", .. }), "{twice:?}");
        }
        let otherwise = group(&groups[1].to_string());
        let refused = Cable::inside(lab.engine(), || watched.engine.leave(&otherwise)).unwrap_err();
        assert!(refused.to_string().contains("not as written here"), "{refused}");
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["before or after", "joined", "always"]), [0, 3, 6]);
    }
}

#[test]
fn an_address_that_is_a_group_is_joined_unasked() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, (groups, from, _)) in
        grounds().filter(|(_, (_, from, any))| from.is_ipv4() == any.is_ipv4())
    {
        let port = fresh_port();
        let builder = small(backend).receivers(2).listen(SocketAddr::new(groups[0], port));
        let watched = lab.watch(builder.listen(SocketAddr::new(groups[1], port)), true);
        let _other = other_member(&lab, groups[2]);
        let peer = sender(&lab, from, "cable");
        for _ in 0..20 {
            peer.send(groups[2], port, "third");
            peer.send(groups[0], port, "first");
            peer.send(groups[1], port, "second");
        }
        for _ in 0..40 {
            let heard = peer.hear();
            assert!(!heard.from.ip().is_multicast(), "a group cannot answer: {heard:?}");
            assert_eq!(heard.from.port(), port, "{heard:?}");
        }
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["first", "second", "third"]), [20, 20, 0]);
        assert!(sights.iter().all(|one| one.listener == usize::from(one.payload == b"second")));
    }
}

#[test]
fn wildcards_of_both_families_and_of_two_ports_receive_a_group_once_each() {
    let Some(lab) = Lab::lay() else { return };
    for backend in BACKENDS {
        let (port, other) = (fresh_port(), fresh_port());
        let listen = |text: String| text.parse::<SocketAddr>().unwrap();
        let builder = small(backend)
            .receivers(2)
            .listen(listen(format!("[::]:{port}")))
            .listen(listen(format!("0.0.0.0:{port}")))
            .listen(listen(format!("[::]:{other}")))
            .join(group(&format!("{}%cable", v4_groups()[0])))
            .join(group(&format!("{}%cable", v6_groups()[0])));
        let watched = lab.watch(builder, false);
        for (from, to) in
            [(CLIENT_V4[0].into(), v4_groups()[0]), (CLIENT_V6[0].into(), v6_groups()[0])]
        {
            let peer = sender(&lab, from, "cable");
            for _ in 0..20 {
                peer.send(to, port, if to.is_ipv4() { "four" } else { "six" });
                peer.send(to, other, if to.is_ipv4() { "other four" } else { "other six" });
            }
        }
        watched.await_count(80);
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["four", "six", "other four", "other six"]), [20; 4]);
        for sight in &sights {
            let expected = match &sight.payload[..] {
                b"six" => 0,
                b"four" => 1,
                _ => 2,
            };
            assert_eq!(sight.listener, expected, "{sight:?}");
        }
    }
}
