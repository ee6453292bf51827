//! The client with a router before the server: every ICMP error of every peer is its own, and the path
//! MTU is found. In three network namespaces, as root; skipped with a printed reason elsewhere.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use ringest::Client;
use ringest_client::{ClientError, Heard, Origin, PeerError, PeerErrorKind};
use ringest_engine::socket::options::{PathMtu, SocketOptions};
use serde_json::json;

use crate::client::rig::{Row, document, errors, heard, is_empty, send, take};
use crate::load::rig::Ended;
use crate::rigs::support::DEADLINE;
use crate::sockets::network::Cable;

fn client_send(row: &Row, args: &str) -> Ended {
    Cable::inside(&row.client, || send(args))
}

fn open(row: &Row, builder: &ringest_client::Builder) -> Client {
    Cable::inside(&row.client, || builder.open().unwrap())
}

fn server(row: &Row, ip: IpAddr) -> (UdpSocket, SocketAddr) {
    Cable::inside(&row.server, || {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    })
}

/// A host that refuses datagrams, and the ICMP type and code that it answers with.
struct Refuser {
    peer: SocketAddr,
    kind: PeerErrorKind,
    icmp: (u8, u8),
    /// How often it may be asked: a router without a route answers each host five times at once, and
    /// then once a second (net.ipv4.route.error_burst, which no namespace has for itself).
    asked: u8,
}

/// Peers that the router, its firewall or the server's host refuse, each in a way of its own.
fn refusers(row: &Row) -> Option<Vec<Refuser>> {
    use PeerErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, Prohibited};
    for route in [
        "route add unreachable 10.97.1.0/24",
        "route add prohibit 10.97.2.0/24",
        "-6 route add unreachable fd97:1::/64",
        "-6 route add prohibit fd97:2::/64",
    ] {
        Row::ip(&row.router, route);
    }
    let mut rules = "table inet t { chain f { type filter hook forward priority 0; ".to_owned();
    for (port, icmp) in [
        (11, "icmp type net-prohibited"),
        (12, "icmp type host-prohibited"),
        (13, "icmp type admin-prohibited"),
        (14, "icmp type host-unreachable"),
        (15, "icmp type port-unreachable"),
        (16, "icmp type net-unreachable"),
        (21, "icmpv6 type admin-prohibited"),
        (22, "icmpv6 type no-route"),
        (23, "icmpv6 type addr-unreachable"),
    ] {
        let family = if port < 20 { "ipv4" } else { "ipv6" };
        rules += &format!("meta nfproto {family} udp dport {port} reject with {icmp}; ");
    }
    if !Row::nft(&row.router, &(rules + "}\n}\n")) {
        return None;
    }
    let server = |port, v6: bool| SocketAddr::new(Row::SERVER[usize::from(v6)], port).to_string();
    let rows = [
        (server(9, false), ConnectionRefused, (3, 3)),
        ("10.97.1.1:9".to_owned(), HostUnreachable, (3, 1)),
        ("10.97.2.1:9".to_owned(), Prohibited, (3, 13)),
        ("10.97.3.1:9".to_owned(), NetworkUnreachable, (3, 0)),
        (server(11, false), Prohibited, (3, 9)),
        (server(12, false), Prohibited, (3, 10)),
        (server(13, false), Prohibited, (3, 13)),
        (server(14, false), HostUnreachable, (3, 1)),
        (server(15, false), ConnectionRefused, (3, 3)),
        (server(16, false), NetworkUnreachable, (3, 0)),
        (server(9, true), ConnectionRefused, (1, 4)),
        // An unreachable route of IPv6 says that there is none (net/ipv6/route.c, ip6_pkt_discard).
        ("[fd97:1::1]:9".to_owned(), NetworkUnreachable, (1, 0)),
        ("[fd97:2::1]:9".to_owned(), Prohibited, (1, 1)),
        ("[fd97:3::1]:9".to_owned(), NetworkUnreachable, (1, 0)),
        (server(21, true), Prohibited, (1, 1)),
        (server(22, true), NetworkUnreachable, (1, 0)),
        (server(23, true), HostUnreachable, (1, 3)),
    ];
    let refuser = |(peer, kind, icmp): (String, _, _)| {
        let asked = if peer.starts_with("10.97.") { 1 } else { 5 };
        Refuser { peer: peer.parse().unwrap(), kind, icmp, asked }
    };
    Some(rows.into_iter().map(refuser).collect())
}

/// Checks that among all errors heard the peer has as many as it was sent datagrams, and all of one kind.
fn assert_own(heard: &[PeerError], refuser: &Refuser) {
    let own: Vec<_> = heard.iter().filter(|error| error.peer == refuser.peer).collect();
    let total: u64 = own.iter().map(|error| error.count).sum();
    assert_eq!(total, u64::from(refuser.asked), "{}: {own:?}", refuser.peer);
    for error in own {
        let Origin::Icmp { reporter: Some(from), kind, code } = error.origin else {
            panic!("{error:?}")
        };
        assert_eq!((error.kind, (kind, code)), (refuser.kind, refuser.icmp), "{error:?}");
        let v6 = usize::from(refuser.peer.is_ipv6());
        assert!([Row::SERVER[v6], Row::ROUTER[v6]].contains(&from), "{error:?}");
        assert!(error.to_string().contains(&from.to_string()), "{error}");
    }
}

#[test]
fn icmp_errors_of_each_kind_are_the_right_peers_of_many() {
    let Some(row) = Row::lay() else { return };
    let Some(refusers) = refusers(&row) else { return };
    let alive = Row::SERVER.map(|ip| server(&row, ip));
    let peers = refusers.iter().map(|refuser| refuser.peer);
    let peers: Vec<_> = peers.chain(alive.iter().map(|(_, address)| *address)).collect();
    // All on one socket, IPv4 and IPv6.
    let mut many = open(&row, &Client::builder().peers(peers.clone()));
    let mut asked = 0;
    for number in 0..5 {
        for refuser in refusers.iter().filter(|refuser| number < refuser.asked) {
            many.send_to(refuser.peer, &[number]).unwrap();
            asked += 1;
        }
        for (_, peer) in &alive {
            many.send_to(*peer, &[number]).unwrap();
        }
    }
    let heard = errors(&mut many, asked);
    for refuser in &refusers {
        assert_own(&heard, refuser);
    }
    assert_eq!(many.unattributed(), 0);
    // None of the living was robbed of a datagram by another's error.
    for (socket, _) in &alive {
        for number in 0..5 {
            assert_eq!(take(socket).0, [number]);
        }
        assert!(is_empty(socket));
    }
    // And each connected alone, from another address.
    Row::ip(&row.client, "address add 10.98.1.3/24 dev wan");
    for refuser in &refusers {
        let builder = Client::builder().peer(refuser.peer);
        let mut one = match refuser.peer {
            SocketAddr::V4(_) => open(&row, &builder.bind([10, 98, 1, 3].into())),
            SocketAddr::V6(_) => open(&row, &builder),
        };
        for _ in 0..refuser.asked {
            one.send(b"x").unwrap();
        }
        assert_own(&errors(&mut one, refuser.asked.into()), refuser);
    }
}

#[test]
fn the_program_tells_each_of_them_by_its_name() {
    let Some(row) = Row::lay() else { return };
    let Some(refusers) = refusers(&row) else { return };
    let list: Vec<_> = refusers.iter().map(|refuser| refuser.peer.to_string()).collect();
    let ended = client_send(&row, &format!("{} one --json --linger 30s", list.join(",")));
    ended.failed(
        1,
        &["connection refused", "host unreachable", "network unreachable", "prohibited", "ss -uln"],
    );
    let document = document(&ended);
    assert_eq!(document["sent"], refusers.len());
    for (index, refuser) in refusers.iter().enumerate() {
        assert_eq!(heard(&document, index), [(refuser.kind.as_str(), 1)], "{}", refuser.peer);
    }
    // A TTL that runs out on the way names the router.
    for (server, router) in Row::SERVER.into_iter().zip(Row::ROUTER) {
        let peer = SocketAddr::new(server, 9);
        let ended = client_send(&row, &format!("{peer} x --ttl 1 --json --linger 30s"));
        ended.failed(1, &[&format!("{router} answered that the TTL ran out")]);
        assert_eq!(heard(&crate::client::path::document(&ended), 0), [("host_unreachable", 1)]);
    }
}

/// Gives the router's far side a smaller MTU than anybody near it knows.
fn narrow(row: &Row) {
    Row::ip(&row.router, "link set far mtu 1280");
    Row::ip(&row.server, "link set wan mtu 1280");
}

fn too_long(client: &mut Client) -> PeerError {
    let deadline = Instant::now() + DEADLINE;
    let Heard::Error(error) = client.receive(deadline).unwrap() else { panic!("no error") };
    assert_eq!((error.kind, error.path_mtu), (PeerErrorKind::MessageTooLong, Some(1280)));
    assert!(matches!(error.origin, Origin::Icmp { .. }), "{error:?}");
    error
}

#[test]
fn the_path_mtu_is_told_and_minded() {
    let Some(row) = Row::lay() else { return };
    narrow(&row);
    for (ip, limit) in Row::SERVER.into_iter().zip([1252, 1232]) {
        let (socket, to) = server(&row, ip);
        let with = |policy| {
            let options = SocketOptions { path_mtu: policy, ..SocketOptions::default() };
            Client::builder().peer(to).options(options)
        };
        let mut whole = open(&row, &with(Some(PathMtu::Do)));
        // The first is lost where the path narrows, and that is heard.
        assert_eq!(whole.path_mtu(to), Some(1500));
        whole.send(&[1; 1400]).unwrap();
        let error = too_long(&mut whole);
        assert_eq!(error.limit_bytes(), Some(limit));
        assert!(error.to_string().contains(&format!("{limit} bytes")), "{error}");
        // From then on such a one is refused here, with the limit.
        assert_eq!(whole.path_mtu(to), Some(1280));
        let ClientError::Peer(refused) = whole.send(&[2; 1400]).unwrap_err() else {
            panic!("sent")
        };
        assert_eq!((refused.path_mtu, refused.limit_bytes()), (Some(1280), Some(limit)));
        assert!(matches!(refused.origin, Origin::Local { .. }), "{refused:?}");
        whole.send(&vec![3; limit]).unwrap();
        assert_eq!(take(&socket).0, vec![3; limit]);
        // A sender that allows fragments gets the datagram through.
        let mut pieces = open(&row, &with(None));
        assert!(pieces.is_fragmented(to, limit + 1) && !pieces.is_fragmented(to, limit));
        pieces.send(&[4; 1400]).unwrap();
        assert_eq!(take(&socket).0, [4; 1400]);
        assert!(pieces.take_errors().unwrap().is_empty() && is_empty(&socket));
    }
}

#[test]
fn the_program_tells_the_path_mtu_with_and_without_fragments() {
    let Some(row) = Row::lay() else { return };
    narrow(&row);
    let message = "m".repeat(1400);
    for (ip, limit) in Row::SERVER.into_iter().zip([1252, 1232]) {
        let (socket, to) = server(&row, ip);
        let error = json!([{"kind": "message_too_long", "count": 1, "path_mtu": 1280}]);
        for (flag, sent) in [("", 1), ("--dont-fragment", 0)] {
            // The first finds out without the flag, the second knows.
            let ended = client_send(&row, &format!("{to} {message} --json --linger 30s {flag}"));
            ended.failed(1, &["message too long", &format!("{limit} bytes")]);
            let document = document(&ended);
            assert_eq!(document["peers"][0]["errors"], error, "{ended:?}");
            assert_eq!((&document["sent"], &document["failed"]), (&json!(sent), &json!(1 - sent)));
        }
        let ended = client_send(&row, &format!("{to} {message} --linger 0"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("path MTU 1280"), "{ended:?}");
        assert_eq!(take(&socket).0, message.as_bytes());
        assert!(is_empty(&socket));
    }
}

/// Several peers behind the same narrow path, and one before it.
#[test]
fn a_path_mtu_is_its_own_peers() {
    let Some(row) = Row::lay() else { return };
    narrow(&row);
    let far = Row::SERVER.map(|ip| server(&row, ip));
    let near = Cable::inside(&row.router, || {
        let socket = UdpSocket::bind((Row::ROUTER[0], 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    });
    let peers = [near.1, far[0].1, far[1].1];
    let mut client = open(&row, &Client::builder().peers(peers));
    for peer in peers {
        client.send_to(peer, &[1; 1400]).unwrap();
    }
    for error in errors(&mut client, 2) {
        assert_eq!((error.kind, error.path_mtu), (PeerErrorKind::MessageTooLong, Some(1280)));
        assert!(peers[1..].contains(&error.peer), "{error:?}");
    }
    assert_eq!(peers.map(|peer| client.path_mtu(peer)), [Some(1500), Some(1280), Some(1280)]);
    for peer in peers {
        client.send_to(peer, &[2; 1400]).unwrap();
    }
    assert_eq!([take(&near.0).0[0], take(&near.0).0[0]], [1, 2]);
    for (socket, _) in &far {
        assert_eq!(take(socket).0, [2; 1400]);
    }
}
