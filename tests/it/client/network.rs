//! The client on a cable: what this host refuses itself, what leaves it and how, and a way out that is
//! too slow. In network namespaces, as root; skipped with a printed reason elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use ringest::Client;
use ringest_client::{ClientError, Origin, PeerErrorKind};
use ringest_engine::socket::options::{PathMtu, SocketOptions};
use serde_json::json;

use crate::client::rig::{Row, document, heard, is_empty, send, take};
use crate::load::rig::Ended;
use crate::rigs::support::{DEADLINE, payload};
use crate::sockets::network::{CLIENT_IP, Cable, ENGINE_IP, run};

/// Runs `ringest send` in the client's namespace.
fn client_send(cable: &Cable, args: &str) -> Ended {
    Cable::inside(&cable.client, || send(args))
}

/// Returns a socket at the other end.
fn server(cable: &Cable, ip: IpAddr) -> (UdpSocket, SocketAddr) {
    Cable::inside(&cable.engine, || {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    })
}

const CLIENT_V6: &str = "fd99::2";

/// Gives the cable IPv6 addresses as well.
fn add_v6(cable: &Cable) -> IpAddr {
    for (netns, ip) in [(&cable.engine, "fd99::1"), (&cable.client, CLIENT_V6)] {
        Row::ip(netns, &format!("address add {ip}/64 dev cable nodad"));
    }
    "fd99::1".parse().unwrap()
}

/// Returns the TTL (or hop limit) and the TOS (or traffic class) that came with a datagram.
fn marks(socket: &UdpSocket) -> (u8, u8) {
    let mut room = nix::cmsg_space!(i32, i32);
    let mut byte = [0; 2000];
    let mut iov = [std::io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::empty();
    let got = loop {
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut room), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            got => break got,
        }
    };
    let (mut ttl, mut tos) = (0, 0);
    for control in got.unwrap().cmsgs().unwrap() {
        match control {
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                ttl = value;
            }
            ControlMessageOwned::Ipv4Tos(value) => tos = i32::from(value),
            ControlMessageOwned::Ipv6TClass(value) => tos = value,
            other => panic!("{other:?}"),
        }
    }
    (ttl.try_into().unwrap(), tos.try_into().unwrap())
}

fn ask_for_marks(socket: &UdpSocket) {
    if socket.local_addr().unwrap().is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true).unwrap();
        setsockopt(socket, sockopt::IpRecvTos, &true).unwrap();
    } else {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true).unwrap();
        setsockopt(socket, sockopt::Ipv6RecvTClass, &true).unwrap();
    }
}

#[test]
fn the_other_side_reads_ttl_and_dscp() {
    let Some(cable) = Cable::lay() else { return };
    for ip in [ENGINE_IP.into(), add_v6(&cable)] {
        let (socket, to) = server(&cable, ip);
        ask_for_marks(&socket);
        for (args, ttl, tos) in [
            ("", 64, 0),
            ("--ttl 7", 7, 0),
            ("--dscp ef", 64, 0xb8),
            ("--dscp 10 --ecn 1", 64, 0x29),
            ("--tos 0x21 --ttl 255", 255, 0x21),
        ] {
            let ended = client_send(&cable, &format!("{to} x --linger 0 {args}"));
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert_eq!(marks(&socket), (ttl, tos), "{ip} {args}");
        }
    }
}

#[test]
fn what_this_host_refuses_is_told_of_the_peer_and_not_sent() {
    let Some(cable) = Cable::lay() else { return };
    let (socket, to) = server(&cable, ENGINE_IP.into());
    for route in ["unreachable 10.97.1.0/24", "prohibit 10.97.2.0/24", "blackhole 10.97.3.0/24"] {
        Row::ip(&cable.client, &format!("route add {route}"));
    }
    let peers = "10.97.1.1:9,10.97.2.1:9,10.97.3.1:9,10.97.4.1:9";
    let ended = client_send(&cable, &format!("{peers},{to} x y --json --linger 0"));
    ended
        .failed(1, &["host unreachable", "a route on this host forbids it", "network unreachable"]);
    let document = document(&ended);
    let wanted = ["host_unreachable", "prohibited", "network_unreachable", "network_unreachable"];
    for (peer, kind) in wanted.into_iter().enumerate() {
        assert_eq!(heard(&document, peer), [(kind, 2)], "{ended:?}");
        assert_eq!(document["peers"][peer]["sent"], 0);
    }
    assert_eq!((&document["sent"], &document["failed"]), (&json!(2), &json!(8)));
    assert_eq!([take(&socket).0, take(&socket).0], [b"x", b"y"]);
    // To one alone it is the same: a route may come yet.
    let ended = client_send(&cable, "10.97.4.1:9 x --json");
    ended.failed(1, &["network unreachable", "1 of 1 datagram was not sent"]);
    assert_eq!(heard(&crate::client::network::document(&ended), 0), [("network_unreachable", 1)]);
}

#[test]
fn a_firewall_here_is_told_from_one_on_the_way() {
    let Some(cable) = Cable::lay() else { return };
    let (socket, to) = server(&cable, ENGINE_IP.into());
    let rules = format!(
        "table ip t {{ chain o {{ type filter hook output priority 0; udp dport 9 drop; \
         ip daddr {ENGINE_IP} udp dport 10 reject with icmp type port-unreachable; }}\n}}\n"
    );
    if !Row::nft(&cable.client, &rules) {
        return;
    }
    let mut client = Cable::inside(&cable.client, || {
        Client::to([SocketAddr::from((ENGINE_IP, 9)), SocketAddr::from((ENGINE_IP, 10)), to])
            .unwrap()
    });
    let refused = |client: &mut Client, port| {
        let ClientError::Peer(error) = client.send_to((ENGINE_IP, port).into(), b"x").unwrap_err()
        else {
            panic!("another error")
        };
        assert_eq!(error.origin, Origin::Local { errno: libc_eperm() });
        error
    };
    let error = refused(&mut client, 9);
    assert_eq!(error.kind, PeerErrorKind::Prohibited);
    assert!(error.to_string().contains("nft list ruleset"), "{error}");
    assert!(client.take_errors().unwrap().is_empty());
    // A rule that rejects refuses the send, and its ICMP is heard as well.
    assert_eq!(refused(&mut client, 10).kind, PeerErrorKind::Prohibited);
    client.send_to(to, b"through").unwrap();
    assert_eq!(take(&socket).0, b"through");
    let heard = client.take_errors().unwrap();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!((heard[0].kind, heard[0].count), (PeerErrorKind::ConnectionRefused, 1));
    assert_eq!(heard[0].peer.port(), 10);
}

fn libc_eperm() -> i32 {
    nix::errno::Errno::EPERM as i32
}

#[test]
fn fragments_are_warned_of_once_or_refused() {
    let Some(cable) = Cable::lay() else { return };
    for netns in [&cable.engine, &cable.client] {
        Row::ip(netns, "link set cable mtu 1280");
    }
    for (ip, limit) in [(IpAddr::from(ENGINE_IP), 1252), (add_v6(&cable), 1232)] {
        let (socket, to) = server(&cable, ip);
        let (fits, over) = ("f".repeat(limit), "o".repeat(limit + 1));
        let ended = client_send(&cable, &format!("{to} {fits} {over} {over} --linger 0"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let warning = format!("up to {limit} bytes goes whole (path MTU 1280)");
        assert_eq!(ended.stderr.matches(&warning).count(), 1, "{ended:?}");
        for wanted in [&fits, &over, &over] {
            assert_eq!(take(&socket).0, wanted.as_bytes());
        }
        let ended = client_send(&cable, &format!("{to} {fits} --linger 0"));
        assert!(!ended.stderr.contains("warning"), "{ended:?}");
        take(&socket);

        let args = format!("{to} {over} {fits} --dont-fragment --json --linger 0");
        let ended = client_send(&cable, &args);
        ended.failed(1, &[&format!("takes {limit} bytes of payload in one piece")]);
        assert!(!ended.stderr.contains("warning"), "{ended:?}");
        let document = document(&ended);
        let error = json!([{"kind": "message_too_long", "count": 1, "path_mtu": 1280}]);
        assert_eq!(document["peers"][0]["errors"], error, "{ended:?}");
        assert_eq!(take(&socket).0, fits.as_bytes());
        assert!(is_empty(&socket));
    }
    // The library says the same.
    let (_socket, to) = server(&cable, ENGINE_IP.into());
    let options = SocketOptions { path_mtu: Some(PathMtu::Do), ..SocketOptions::default() };
    let mut client = Cable::inside(&cable.client, || {
        Client::builder().peer(to).options(options).open().unwrap()
    });
    assert_eq!((client.path_mtu(to), client.is_fragmented(to, 1253)), (Some(1280), false));
    let ClientError::Peer(error) = client.send(&[0; 1253]).unwrap_err() else { panic!("sent") };
    assert_eq!((error.limit_bytes(), error.path_mtu), (Some(1252), Some(1280)));
    assert!(client.take_errors().unwrap().is_empty(), "told once");
    let plain = Cable::inside(&cable.client, || Client::connect(to).unwrap());
    assert!(plain.is_fragmented(to, 1253) && !plain.is_fragmented(to, 1252));
}

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 99, 1, 2);

/// Returns a member of the group on the cable.
fn member(netns: &str, own: Ipv4Addr) -> (UdpSocket, u16) {
    Cable::inside(netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.join_multicast_v4(&GROUP, &own).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    })
}

#[test]
fn a_group_gets_what_is_sent_by_the_interface_named() {
    let Some(cable) = Cable::lay() else { return };
    let (there, port) = member(&cable.engine, ENGINE_IP);
    ask_for_marks(&there);
    let to = format!("{GROUP}:{port}");
    // There is no route to it, so without the interface it cannot leave.
    let ended = client_send(&cable, &format!("{to} x --json"));
    ended.failed(1, &["network unreachable"]);
    let out = "--multicast-interface cable --linger 1h";
    let ended = client_send(&cable, &format!("{to} near {out}"));
    assert_eq!(ended.code, Some(0), "no error can come, so none is waited for: {ended:?}");
    assert_eq!(marks(&there), (1, 0));
    let index = Cable::inside(&cable.client, || nix::net::if_::if_nametoindex("cable").unwrap());
    let out = format!("--multicast-interface {index} --multicast-ttl 9 --ttl 3");
    assert_eq!(client_send(&cable, &format!("{to} far {out}")).code, Some(0));
    assert_eq!(marks(&there), (9, 0));

    // Members on the sending host get it too, unless told otherwise.
    let (here, port) = member(&cable.client, CLIENT_IP);
    let to = format!("{GROUP}:{port}");
    let out = "--multicast-interface cable";
    assert_eq!(client_send(&cable, &format!("{to} b --no-multicast-loop {out}")).code, Some(0));
    assert_eq!(client_send(&cable, &format!("{to} a {out}")).code, Some(0));
    assert_eq!(take(&here).0, b"a");
    assert!(is_empty(&here));
}

/// Members answer from addresses of their own.
#[test]
fn a_reply_to_a_group_or_a_broadcast_comes_from_a_member() {
    let Some(cable) = Cable::lay() else { return };
    let (there, port) = member(&cable.engine, ENGINE_IP);
    let out = "--multicast-interface cable --wait-reply --timeout 30s";
    for to in
        [format!("{GROUP}:{port} who {out}"), format!("10.99.0.255:{port} who {out} --broadcast")]
    {
        let ended = std::thread::scope(|scope| {
            let asking = scope.spawn(|| client_send(&cable, &to));
            let (question, from) = take(&there);
            assert_eq!(question, b"who");
            there.send_to(b"me", from).unwrap();
            asking.join().unwrap()
        });
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "me\n"), "{ended:?}");
        assert!(ended.stderr.contains(&format!("{ENGINE_IP}:{port} replied in")), "{ended:?}");
    }
    client_send(&cable, "10.99.0.255:9 x").failed(2, &["broadcast address", "--broadcast"]);
}

/// Limits the client's way out to this rate, with this much room in its queue.
fn slow(cable: &Cable, rate: &str, limit: &str) {
    let tbf = format!("qdisc replace dev cable root tbf rate {rate} burst 2k limit {limit}");
    run("tc", &format!("-n {} {tbf}", cable.client)).unwrap();
}

#[test]
fn a_full_send_buffer_is_waited_on_and_then_told() {
    let Some(cable) = Cable::lay() else { return };
    // Neighbours first: their questions would wait in the queue as well.
    let (socket, to) = server(&cable, ENGINE_IP.into());
    assert_eq!(client_send(&cable, &format!("{to} hello --linger 0")).code, Some(0));
    take(&socket);
    let line = "m".repeat(1000);
    // The send buffer fits in the queue; or it does not, and the queue drops.
    for limit in ["16m", "3k"] {
        slow(&cable, "64kbit", limit);
        let words = format!("{to} {line} --repeat 20 --sndbuf 8K --json --linger 0");
        let ended = client_send(&cable, &format!("{words} --send-timeout 10ms"));
        ended.failed(1, &["send timed out", "tc -s qdisc", "datagrams were not sent"]);
        let document = document(&ended);
        let (sent, failed) = (&document["sent"], &document["failed"]);
        let (sent, failed) = (sent.as_u64().unwrap(), failed.as_u64().unwrap());
        assert_eq!(heard(&document, 0), [("send_timed_out", failed)], "{ended:?}");
        assert_eq!(sent + failed, 20);
        assert!(sent > 0 && failed > 0, "{ended:?}");
        // Whoever waits gets all of it through.
        slow(&cable, "10mbit", limit);
        let ended = client_send(&cable, &format!("{words} --send-timeout 30s"));
        assert_eq!(
            (ended.code, &crate::client::network::document(&ended)["sent"]),
            (Some(0), &json!(20))
        );
        // Sent was on its way, each of them.
        for _ in 0..sent + 20 {
            assert_eq!(take(&socket).0, line.as_bytes());
        }
        assert!(is_empty(&socket));
    }
}

/// A send timeout of nothing does not wait at all, and an interrupted one is not sent.
#[test]
fn a_library_send_does_not_wait_longer_than_told() {
    let Some(cable) = Cable::lay() else { return };
    let (_socket, to) = server(&cable, ENGINE_IP.into());
    slow(&cable, "8kbit", "16m");
    let options = SocketOptions { sndbuf_bytes: Some(8192), ..SocketOptions::default() };
    let builder = Client::builder().peer(to).options(options).send_timeout(Duration::ZERO);
    let mut client = Cable::inside(&cable.client, || builder.open().unwrap());
    let full = (0..100).find_map(|number| client.send(&payload(number, 1000)).err());
    let Some(ClientError::Peer(error)) = full else { panic!("{full:?}") };
    assert_eq!((error.kind, error.peer), (PeerErrorKind::SendTimedOut, to));
    assert!(client.take_errors().unwrap().is_empty());
}

#[test]
fn a_link_local_peer_is_found_by_its_interface() {
    let Some(cable) = Cable::lay() else { return };
    for (netns, ip) in [(&cable.engine, "fe80::99:1"), (&cable.client, "fe80::99:2")] {
        Row::ip(netns, &format!("address add {ip}/64 dev cable nodad"));
    }
    let (socket, port) = Cable::inside(&cable.engine, || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    });
    let args = format!("[fe80::99:1%cable]:{port} x --bind fe80::99:2 --linger 0");
    let ended = client_send(&cable, &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (got, from) = take(&socket);
    assert_eq!((got.as_slice(), from.ip()), (&b"x"[..], "fe80::99:2".parse::<IpAddr>().unwrap()));
    let ended = client_send(&cable, "[fe80::99:1%cable]:9 x --json --linger 1h");
    ended.failed(1, &["connection refused"]);
    assert_eq!(heard(&document(&ended), 0), [("connection_refused", 1)]);
}
