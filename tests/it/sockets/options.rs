//! Socket options, proved by what the other side, the firewall or the kernel's counters see.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;

use ringest::{BackendChoice, Builder, Error, PathMtu, SocketOptions, Steer};

use crate::rigs::child::Child;
use crate::rigs::support::{BACKENDS, DEADLINE, payload, send_train, small};
use crate::sockets::lab::{
    CLIENT_V4, CLIENT_V6, ENGINE_V4, ENGINE_V6, Lab, Peer, Program, SECOND_V4, SECOND_V6, Watched,
};
use crate::sockets::network::{Cable, run};

/// An engine on wildcards, and how a peer reaches it: its own address, and the engine's.
type Ground = (BackendChoice, SocketAddr, IpAddr, IpAddr);

/// Returns IPv4, IPv6, and IPv4 on a socket that takes both; each is printed as its turn comes.
fn grounds() -> impl Iterator<Item = Ground> {
    let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let v4 = (IpAddr::from(CLIENT_V4[0]), IpAddr::from(ENGINE_V4[1]));
    let v6 = (IpAddr::from(CLIENT_V6[0]), IpAddr::from(ENGINE_V6[1]));
    BACKENDS.into_iter().flat_map(move |backend| {
        [(any[0], v4), (any[1], v6), (any[1], v4)].map(move |(ip, (from, to))| {
            println!("{backend:?} on {ip}, from {from}");
            (backend, SocketAddr::new(ip, 0), from, to)
        })
    })
}

fn with(backend: BackendChoice, listen: SocketAddr, options: SocketOptions) -> Builder {
    small(backend).listen(listen).socket_options(options)
}

fn none() -> SocketOptions {
    SocketOptions::default()
}

/// Checks that the kernel reports the options that were asked for.
fn as_asked(watched: &Watched) {
    let options = watched.engine.socket_options();
    assert!(!options.is_empty() && options.iter().all(|one| one.is_as_asked()), "{options:?}");
}

#[test]
fn the_other_side_sees_hop_limit_and_traffic_class_of_replies() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, listen, from, to) in grounds() {
        for (options, expected) in [
            (none(), (64, 0)),
            (SocketOptions { hop_limit: Some(33), ..none() }, (33, 0)),
            (SocketOptions { traffic_class: Some(0xb9), ..none() }, (64, 0xb9)),
            (
                SocketOptions { hop_limit: Some(255), traffic_class: Some(0x03), ..none() },
                (255, 0x03),
            ),
            (SocketOptions { hop_limit: Some(1), traffic_class: Some(0xff), ..none() }, (1, 0xff)),
        ] {
            let asked = options != none();
            let watched = lab.watch(with(backend, listen, options), true);
            if asked {
                as_asked(&watched);
            }
            let (peer, port) = (lab.peer(from), watched.port(0));
            peer.send(to, port, "hello");
            // And of a train, which is answered with one.
            send_train(&peer.socket, SocketAddr::new(to, port), &payload(1, 3000), 1000);
            for _ in 0..4 {
                let heard = peer.hear();
                assert_eq!((heard.hop_limit, heard.traffic_class), expected, "{heard:?}");
            }
            watched.stop();
        }
    }
}

/// Returns the packets that nft(8) counted for a rule in the engine's namespace.
fn counted(lab: &Lab, counter: &str) -> u64 {
    let list = ["netns", "exec", lab.engine(), "nft", "list", "counter", "inet", "lab", counter];
    let output = Command::new("ip").args(list).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).unwrap_or_else(|| panic!("no count in {text:?}")).parse().unwrap()
}

/// Sets up counters of what leaves the engine's host by mark and by priority; `false`, with a printed
/// reason, without nft.
fn count_what_leaves(lab: &Lab) -> bool {
    let nft = |rest: &str| run("ip", &format!("netns exec {} nft {rest}", lab.engine()));
    let hook = "{ type filter hook output priority 0 ; }";
    let made = nft("add table inet lab")
        .and_then(|()| nft("add counter inet lab marked"))
        .and_then(|()| nft("add counter inet lab prior"))
        .and_then(|()| nft(&format!("add chain inet lab out {hook}")))
        .and_then(|()| {
            nft("add rule inet lab out udp sport 1-65535 meta mark 42 counter name marked")
        })
        .and_then(|()| {
            nft("add rule inet lab out udp sport 1-65535 meta priority 0:5 counter name prior")
        });
    if let Err(reason) = &made {
        println!("skipped: nft cannot count here: {reason}");
    }
    made.is_ok()
}

#[test]
fn the_firewall_sees_mark_and_priority_of_replies() {
    let Some(lab) = Lab::lay() else { return };
    if !count_what_leaves(&lab) {
        return;
    }
    for (backend, listen, from, to) in grounds() {
        for (options, [marked, prior]) in [
            (none(), [0, 0]),
            (SocketOptions { mark: Some(42), ..none() }, [10, 0]),
            (SocketOptions { priority: Some(5), ..none() }, [0, 10]),
            // A traffic class brings a priority of its own, which must not win.
            (
                SocketOptions {
                    mark: Some(42),
                    priority: Some(5),
                    traffic_class: Some(0x10),
                    ..none()
                },
                [10, 10],
            ),
        ] {
            let before = ["marked", "prior"].map(|name| counted(&lab, name));
            let watched = lab.watch(with(backend, listen, options), true);
            let peer = lab.peer(from);
            for _ in 0..10 {
                peer.send(to, watched.port(0), "hello");
                peer.hear_echo("hello");
            }
            watched.stop();
            let after = ["marked", "prior"].map(|name| counted(&lab, name));
            assert_eq!([after[0] - before[0], after[1] - before[1]], [marked, prior]);
        }
    }
}

/// Sends there and waits for the ICMP error that says nobody listens.
fn is_refused(lab: &Lab, from: IpAddr, to: SocketAddr) {
    let socket = Cable::inside(lab.client(), || UdpSocket::bind((from, 0)).unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"anyone?").unwrap();
    let refused = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}: {refused}");
}

#[test]
fn a_device_is_the_only_way_in() {
    let Some(lab) = Lab::lay() else { return };
    lab.lay_second();
    for (backend, listen, from, to) in grounds() {
        let (from_second, second): (IpAddr, IpAddr) = if to.is_ipv4() {
            (SECOND_V4[1].into(), SECOND_V4[0].into())
        } else {
            (SECOND_V6[1].into(), SECOND_V6[0].into())
        };
        for (device, (open_from, open), (shut_from, shut)) in [
            ("cable", (from, to), (from_second, second)),
            ("second", (from_second, second), (from, to)),
        ] {
            let options = SocketOptions { device: Some(device.to_owned()), ..none() };
            let watched = lab.watch(with(backend, listen, options).receivers(2), true);
            as_asked(&watched);
            is_refused(&lab, shut_from, SocketAddr::new(shut, watched.port(0)));
            let peer = lab.peer(open_from);
            for _ in 0..10 {
                peer.send(open, watched.port(0), "hello");
                assert_eq!(peer.hear_echo("hello").ip(), open);
            }
            let (_, sights) = watched.stop();
            assert_eq!(sights.len(), 10, "by {device} alone");
        }
    }
}

#[test]
fn an_address_may_come_after_the_listener() {
    let Some(lab) = Lab::lay() else { return };
    let (late_v4, late_v6) = (Ipv4Addr::new(198, 51, 100, 7), "2001:db8:77::7".parse().unwrap());
    let client = lab.client();
    run("ip", &format!("-n {client} route add {late_v4} dev cable")).unwrap();
    run("ip", &format!("-n {client} route add {late_v6} dev cable")).unwrap();
    for backend in BACKENDS {
        for (from, ip) in [
            (IpAddr::from(CLIENT_V4[0]), IpAddr::from(late_v4)),
            (CLIENT_V6[0].into(), IpAddr::V6(late_v6)),
        ] {
            let listen = SocketAddr::new(ip, 0);
            let refused = Cable::inside(lab.engine(), || {
                Watched::try_start(with(backend, listen, none())).unwrap_err()
            });
            assert!(matches!(refused, Error::AddressNotLocal { .. }), "{refused:?}");
            let options = SocketOptions { freebind: true, ..none() };
            let watched = lab.watch(with(backend, listen, options).receivers(2), true);
            as_asked(&watched);
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            for round in 0..2 {
                lab.add_address(ip, bits);
                let peer = lab.peer(from);
                peer.send(ip, watched.port(0), "hello");
                assert_eq!(peer.hear_echo("hello"), SocketAddr::new(ip, watched.port(0)));
                // It goes, and comes again: the listener lives on.
                lab.ip(&format!("address del {ip}/{bits} dev cable"));
                assert_eq!(watched.seen(), round + 1);
            }
            watched.stop();
        }
    }
}

/// Returns how many datagrams this host has sent in fragments, of both families.
fn fragmented(lab: &Lab) -> u64 {
    Cable::inside(lab.engine(), || {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let snmp = read("snmp").unwrap();
        let mut ip = snmp.lines().filter(|line| line.starts_with("Ip:"));
        let place = ip.next().unwrap().split(' ').position(|name| name == "FragOKs").unwrap();
        let v4: u64 = ip.next().unwrap().split(' ').nth(place).unwrap().parse().unwrap();
        let snmp6 = read("snmp6").unwrap();
        let line = snmp6.lines().find(|line| line.starts_with("Ip6FragOKs")).unwrap();
        v4 + line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    })
}

/// The way back takes 1280 bytes: replies of 1400 are refused, fragmented, or sent whole.
#[test]
fn the_path_mtu_policy_decides_what_becomes_of_long_replies() {
    let Some(lab) = Lab::lay() else { return };
    lab.ip(&format!("route change 10.99.0.0/24 dev cable src {} mtu 1280", ENGINE_V4[0]));
    lab.ip("-6 route replace 2001:db8:99::/64 dev cable proto kernel metric 256 mtu 1280");
    let long = payload(1, 4200);
    for (backend, listen, from, to) in grounds() {
        for (policy, arrive, in_fragments) in [
            (None, true, true),
            (Some(PathMtu::Want), true, true),
            (Some(PathMtu::Dont), true, true),
            (Some(PathMtu::Do), false, false),
            (Some(PathMtu::Probe), true, false),
            (Some(PathMtu::Interface), true, false),
            (Some(PathMtu::Omit), true, false),
        ] {
            println!("{policy:?}");
            let options = SocketOptions { path_mtu: policy, ..none() };
            let watched = lab.watch(with(backend, listen, options), true);
            let (peer, port) = (lab.peer(from), watched.port(0));
            let before = fragmented(&lab);
            peer.socket.send_to(&long[..1400], (to, port)).unwrap();
            send_train(&peer.socket, SocketAddr::new(to, port), &long, 1400);
            watched.await_count(4);
            peer.send(to, port, "short");
            for body in [&long[..1400], &long[..1400], &long[1400..2800], &long[2800..]] {
                if arrive {
                    assert_eq!(peer.hear().payload, body);
                }
            }
            peer.hear_echo("short");
            let (summary, _) = watched.stop();
            let (sent, failed) = if arrive { (5, 0) } else { (1, 4) };
            let replies = summary.replies;
            assert_eq!((replies.sent, replies.failed), (sent, failed), "{policy:?} {summary:#?}");
            let expected = if in_fragments { 4 } else { 0 };
            assert_eq!(fragmented(&lab) - before, expected, "{policy:?}");
        }
    }
}

#[test]
fn buffers_are_read_back_and_what_was_not_granted_is_said() {
    let Some(lab) = Lab::lay() else { return };
    for (backend, listen, from, to) in grounds() {
        let options = SocketOptions { sndbuf_bytes: Some(8 << 20), ..none() };
        let watched = lab.watch(with(backend, listen, options), true);
        as_asked(&watched);
        assert!(watched.engine.warnings().iter().all(|text| !text.contains("SO_SNDBUF")));
        watched.stop();
        // The kernel has a least size, and gives that without a word.
        let options = SocketOptions { sndbuf_bytes: Some(1), ..none() };
        let watched = lab.watch(with(backend, listen, options), true);
        let options = watched.engine.socket_options();
        assert!(options.len() == 1 && !options[0].is_as_asked(), "{options:?}");
        let said = format!("the kernel granted {}", options[0]);
        assert!(watched.engine.warnings().contains(&said), "{:?}", watched.engine.warnings());
        let peer = lab.peer(from);
        peer.send(to, watched.port(0), "hello");
        peer.hear_echo("hello");
        watched.stop();
    }
}

#[test]
fn polling_the_device_first_changes_nothing_else() {
    for backend in BACKENDS {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = SocketOptions { busy_poll_us: Some(50), ..none() };
        let watched = match Watched::try_start(with(backend, listen, options)) {
            Err(error) => {
                println!("skipped: {error}");
                assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
                return;
            }
            Ok(watched) => watched,
        };
        as_asked(&watched);
        let peer = Peer::bind(listen.ip());
        (0..100).for_each(|_| peer.send(listen.ip(), watched.port(0), "hello"));
        watched.await_count(100);
        watched.stop();
    }
}

#[test]
fn every_flag_reaches_the_socket() {
    let Some(lab) = Lab::lay() else { return };
    for backend in ["io_uring", "recvmmsg"] {
        let flags = "--ttl 9 --dscp ef --ecn 1 --mark 0x2a --priority 5 --sndbuf 100000 --freebind \
                     --mtu-discover dont --device cable --busy-poll 20us --transparent";
        let args = format!("echo [::]:9000 --backend {backend} {flags}");
        let mut program = Program::ringest(Some(lab.engine()), &args);
        program.listening();
        for (from, to) in [
            (IpAddr::from(CLIENT_V4[0]), IpAddr::from(ENGINE_V4[2])),
            (CLIENT_V6[0].into(), ENGINE_V6[2].into()),
        ] {
            let peer = lab.peer(from);
            peer.send(to, 9000, "hello");
            let heard = peer.hear();
            assert_eq!((heard.from.ip(), heard.hop_limit, heard.traffic_class), (to, 9, 0xb9));
        }
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = ended.stderr.lines().find(|line| line.contains("read back: ")).unwrap();
        for said in [
            "IP_TTL 9",
            "IPV6_UNICAST_HOPS 9",
            "IP_TOS 185",
            "IPV6_TCLASS 185",
            "SO_MARK 42",
            "SO_PRIORITY 5",
            "SO_SNDBUF 100000",
            "IPV6_FREEBIND 1",
            "IPV6_TRANSPARENT 1",
            "IP_MTU_DISCOVER 0",
            "IPV6_MTU_DISCOVER 0",
            "SO_BINDTODEVICE cable",
            "SO_BUSY_POLL 20",
        ] {
            assert!(line.contains(said), "{said} is not in {line}");
        }
        assert!(!line.contains("asked for"), "all was granted: {line}");
    }
}

#[test]
fn flags_that_clash_or_cannot_be_are_wrong_usage() {
    for args in [
        "--tos 0xb8 --dscp ef",
        "--tos 184 --ecn 1",
        "--tos 256",
        "--ecn 4",
        "--dscp 64",
        "--dscp sometimes",
        "--ttl 0",
        "--ttl 256",
        "--mark -1",
        "--priority x",
        "--mtu-discover perhaps",
        "--steer sideways",
        "--idle-timeout 0s",
        "--join 239.1.1.1",
    ] {
        let ended = Program::ringest(None, &format!("listen 127.0.0.1:0 {args}")).end();
        assert_eq!(ended.code, Some(2), "{args}: {ended:?}");
        assert_eq!(ended.stdout, "", "{args}");
    }
}

#[test]
fn what_takes_a_capability_names_it() {
    let child = Child::new("sockets::options::child_without_capabilities")
        .without("-net_admin,-net_raw,-bpf,-sys_admin,-perfmon");
    if let Some(child) = child {
        child.pass();
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_without_capabilities() {
    for backend in BACKENDS {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let listen = SocketAddr::new(ip, 0);
            for (options, said) in [
                (SocketOptions { mark: Some(1), ..none() }, "SO_MARK"),
                (SocketOptions { transparent: true, ..none() }, "TRANSPARENT"),
                (SocketOptions { priority: Some(7), ..none() }, "SO_PRIORITY"),
            ] {
                let refused = Watched::try_start(with(backend, listen, options)).unwrap_err();
                assert!(matches!(refused, Error::Option { .. }), "{refused:?}");
                let text = refused.to_string();
                assert!(text.contains(said) && text.contains("CAP_NET_ADMIN"), "{text}");
                assert!(!refused.is_usage());
            }
            let turns = with(backend, listen, none()).receivers(2).steer(Steer::RoundRobin);
            let text = Watched::try_start(turns).unwrap_err().to_string();
            assert!(text.contains("CAP_BPF") && text.contains("--steer hash"), "{text}");
            // Options that need no capability are granted: priorities up to 6, and a choice by CPU.
            let options = SocketOptions { priority: Some(6), hop_limit: Some(7), ..none() };
            let builder = with(backend, listen, options).receivers(2).steer(Steer::Cpu);
            let watched = Watched::try_start(builder).unwrap();
            as_asked(&watched);
            let peer = Peer::bind(ip);
            (0..10).for_each(|_| peer.send(ip, watched.port(0), "hello"));
            watched.await_count(10);
            watched.stop();
            // Past net.core.wmem_max is not granted, and said.
            let options = SocketOptions { sndbuf_bytes: Some(1 << 28), ..none() };
            let watched = Watched::try_start(with(backend, listen, options)).unwrap();
            let said = watched.engine.warnings().iter().filter(|text| text.contains("SO_SNDBUF"));
            assert_eq!(said.count(), 1, "{:?}", watched.engine.warnings());
            watched.stop();
        }
    }
}
