//! IP_TRANSPARENT: datagrams for addresses this host does not have, handed over by the routing table
//! or by TPROXY, and answered from there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringest::{BackendChoice, Builder, SocketOptions};

use crate::rigs::support::{BACKENDS, payload, send_train, small};
use crate::sockets::lab::{CLIENT_V4, CLIENT_V6, ENGINE_V4, ENGINE_V6, Lab, Program, fresh_port};
use crate::sockets::network::run;
use crate::sockets::steering::start_again;

/// Addresses of a network that the client's host routes to the engine's, and nobody has.
const FOREIGN_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 77)];
const FOREIGN_V6: [Ipv6Addr; 2] = [foreign(1), foreign(0x77)];

const fn foreign(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, host)
}

/// Sends the foreign networks to the engine's host.
fn route_to_engine(lab: &Lab) {
    let client = lab.client();
    let (v4, v6) = (ENGINE_V4[0], ENGINE_V6[0]);
    run("ip", &format!("-n {client} route add 198.51.100.0/24 via {v4}")).unwrap();
    run("ip", &format!("-n {client} route add 2001:db8:51::/64 via {v6}")).unwrap();
}

/// Has the engine's host take the foreign networks for its own.
fn take_as_local(lab: &Lab) {
    lab.ip("route add local 198.51.100.0/24 dev lo");
    lab.ip("-6 route add local 2001:db8:51::/64 dev lo");
}

fn transparent(backend: BackendChoice, listen: SocketAddr) -> Builder {
    let options = SocketOptions { transparent: true, ..SocketOptions::default() };
    small(backend).listen(listen).receivers(2).socket_options(options)
}

/// Returns wildcards, each with the pairs that it takes: a client's address and the address it sends to.
fn wildcards() -> [(IpAddr, Vec<(IpAddr, IpAddr)>); 2] {
    let v4 = FOREIGN_V4.map(|ip| (CLIENT_V4[0].into(), ip.into()));
    let v6 = FOREIGN_V6.map(|ip| (CLIENT_V6[0].into(), ip.into()));
    [(Ipv4Addr::UNSPECIFIED.into(), v4.to_vec()), (Ipv6Addr::UNSPECIFIED.into(), [v4, v6].concat())]
}

#[test]
fn by_a_local_route_foreign_addresses_are_shown_and_answered_from() {
    let Some(lab) = Lab::lay() else { return };
    route_to_engine(&lab);
    take_as_local(&lab);
    for backend in BACKENDS {
        for (wildcard, ways) in wildcards() {
            println!("{backend:?} on {wildcard}");
            let watched = lab.watch(transparent(backend, SocketAddr::new(wildcard, 0)), true);
            let port = watched.port(0);
            let whole = payload(1, 2500);
            for (from, to) in &ways {
                let (peer, to) = (lab.peer(*from), SocketAddr::new(*to, port));
                peer.send(to.ip(), port, "alone");
                assert_eq!(peer.hear_echo("alone"), to);
                send_train(&peer.socket, to, &whole, 500);
                for body in whole.chunks(500) {
                    let heard = peer.hear();
                    assert_eq!((heard.payload, heard.from), (body.to_vec(), to));
                }
            }
            let (summary, sights) = watched.stop();
            let count = 6 * ways.len();
            assert_eq!((sights.len(), summary.replies.failed), (count, 0), "{summary:#?}");
            // Each way sends one datagram alone.
            let mut shown: Vec<_> = sights
                .iter()
                .filter(|one| one.payload == b"alone")
                .map(|one| (one.peer.ip(), one.destination.unwrap()))
                .collect();
            shown.sort_unstable();
            let mut sent: Vec<_> =
                ways.iter().map(|(from, to)| (*from, SocketAddr::new(*to, port))).collect();
            sent.sort_unstable();
            assert_eq!(shown, sent);
        }
    }
}

#[test]
fn a_foreign_address_can_be_listened_on() {
    let Some(lab) = Lab::lay() else { return };
    route_to_engine(&lab);
    take_as_local(&lab);
    for backend in BACKENDS {
        for (from, to) in [
            (IpAddr::from(CLIENT_V4[1]), IpAddr::from(FOREIGN_V4[1])),
            (CLIENT_V6[1].into(), FOREIGN_V6[1].into()),
        ] {
            let watched = lab.watch(transparent(backend, SocketAddr::new(to, 0)), true);
            let peer = lab.peer(from);
            for _ in 0..10 {
                peer.send(to, watched.port(0), "hello");
                assert_eq!(peer.hear_echo("hello"), SocketAddr::new(to, watched.port(0)));
            }
            let (_, sights) = watched.stop();
            assert!(sights.iter().all(|one| one.destination.unwrap().ip() == to));
        }
    }
}

/// Has TPROXY hand over what is for the foreign networks; `false`, with a printed reason, where the
/// kernel has none.
fn divert(lab: &Lab, port: u16) -> bool {
    let nft = |rest: &str| run("ip", &format!("netns exec {} nft {rest}", lab.engine()));
    let hook = "{ type filter hook prerouting priority -150 ; }";
    let made = nft("add table inet lab")
        .and_then(|()| nft(&format!("add chain inet lab divert {hook}")))
        .and_then(|()| {
            let net = "ip daddr 198.51.100.0/24 udp dport";
            nft(&format!(
                "add rule inet lab divert {net} {port} tproxy ip to :{port} meta mark set 1"
            ))
        })
        .and_then(|()| {
            let net = "ip6 daddr 2001:db8:51::/64 udp dport";
            nft(&format!(
                "add rule inet lab divert {net} {port} tproxy ip6 to :{port} meta mark set 1"
            ))
        });
    if let Err(reason) = &made {
        println!("skipped: this kernel has no TPROXY for nft: {reason}");
        return false;
    }
    for family in ["-4", "-6"] {
        lab.ip(&format!("{family} rule add fwmark 1 lookup 100"));
        lab.ip(&format!("{family} route add local default dev lo table 100"));
    }
    true
}

#[test]
fn by_tproxy_foreign_addresses_are_shown_and_answered_from() {
    let Some(lab) = Lab::lay() else { return };
    route_to_engine(&lab);
    let port = fresh_port();
    if !divert(&lab, port) {
        return;
    }
    for backend in BACKENDS {
        for (wildcard, ways) in wildcards() {
            println!("{backend:?} on {wildcard}");
            let listen = SocketAddr::new(wildcard, port);
            // The rules name a port, so every engine here has the same one.
            let started = start_again(&lab, &transparent(backend, listen), true);
            let Some(watched) = started else { continue };
            for (from, to) in &ways {
                let peer = lab.peer(*from);
                for _ in 0..10 {
                    peer.send(*to, port, "hello");
                    assert_eq!(peer.hear_echo("hello"), SocketAddr::new(*to, port));
                }
            }
            let (summary, sights) = watched.stop();
            assert_eq!(sights.len(), 10 * ways.len(), "{summary:#?}");
            for (_, to) in ways {
                let to = Some(SocketAddr::new(to, port));
                assert_eq!(sights.iter().filter(|one| one.destination == to).count(), 10);
            }
        }
    }
}

#[test]
fn the_programs_flag_does_the_same() {
    let Some(lab) = Lab::lay() else { return };
    route_to_engine(&lab);
    take_as_local(&lab);
    for backend in ["io_uring", "recvmmsg"] {
        let args = format!("echo *:9000 --transparent --backend {backend}");
        let mut program = Program::ringest(Some(lab.engine()), &args);
        program.listening();
        for (from, to) in [
            (IpAddr::from(CLIENT_V4[0]), IpAddr::from(FOREIGN_V4[0])),
            (CLIENT_V6[0].into(), FOREIGN_V6[0].into()),
        ] {
            let peer = lab.peer(from);
            peer.send(to, 9000, "hello");
            assert_eq!(peer.hear_echo("hello"), SocketAddr::new(to, 9000));
        }
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}
