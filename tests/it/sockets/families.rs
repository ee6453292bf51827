//! Where an engine listens: several addresses, both families, wildcards, names, and hosts whose IPv6 is
//! switched off.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use ringest::{BackendChoice, Builder, ListenAddr};

use crate::rigs::support::{BACKENDS, DEADLINE, small};
use crate::sockets::lab::{
    CLIENT_V4, CLIENT_V6, ENGINE_V4, ENGINE_V6, Lab, Program, await_address, fresh_port, tally,
};
use crate::sockets::network::{Cable, run};

/// Where the program listens, in a namespace where nobody else does.
const PORT: u16 = 9000;

/// Starts an engine on these addresses, as they are typed, with the port in place of `PORT`.
fn listening(backend: BackendChoice, addresses: &[&str], port: u16) -> Builder {
    let text = |address: &&str| address.replace("PORT", &port.to_string());
    let parsed = addresses.iter().map(|address| text(address).parse::<ListenAddr>().unwrap());
    parsed.fold(small(backend), Builder::listen)
}

/// Tells whether a datagram sent there reaches nobody: the ICMP error comes back.
fn is_refused(lab: &Lab, ip: IpAddr, port: u16) -> bool {
    let from: IpAddr = if ip.is_ipv4() { CLIENT_V4[0].into() } else { CLIENT_V6[0].into() };
    let socket = Cable::inside(lab.client(), || UdpSocket::bind((from, 0)).unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect((ip, port)).unwrap();
    socket.send(b"anyone?").unwrap();
    match socket.recv(&mut [0; 16]) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
        Err(error) => panic!("neither an answer nor a refusal from {ip}: {error}"),
    }
}

#[test]
fn every_address_is_a_group_of_its_own_across_receivers() {
    let Some(lab) = Lab::lay() else { return };
    let targets: [IpAddr; 4] =
        [ENGINE_V4[0].into(), ENGINE_V6[1].into(), ENGINE_V4[2].into(), ENGINE_V6[0].into()];
    for backend in BACKENDS {
        let port = fresh_port();
        let addresses = targets.map(|ip| SocketAddr::new(ip, port));
        let builder = addresses.into_iter().fold(small(backend), Builder::listen);
        let watched = lab.watch(builder.receivers(2).workers(2), true);
        assert_eq!(watched.engine.addresses(), addresses);
        for round in 0..40 {
            for ip in targets {
                let from: IpAddr =
                    if ip.is_ipv4() { CLIENT_V4[1].into() } else { CLIENT_V6[1].into() };
                let (peer, text) = (lab.peer(from), format!("{round} to {ip}"));
                peer.send(ip, port, &text);
                assert_eq!(peer.hear_echo(&text), SocketAddr::new(ip, port));
            }
        }
        assert!(is_refused(&lab, ENGINE_V4[1].into(), port), "an address that is not listened on");
        assert!(is_refused(&lab, ENGINE_V6[2].into(), port), "an address that is not listened on");
        let (summary, sights) = watched.stop();
        assert_eq!((sights.len(), summary.replies.sent), (160, 160), "{summary:#?}");
        for sight in &sights {
            let text = format!("to {}", targets[sight.listener]);
            assert!(String::from_utf8_lossy(&sight.payload).ends_with(&text), "{sight:?}");
        }
        // That 160 flows all miss one of two receivers has a chance of 1 in 10^48.
        assert!(summary.receivers.iter().all(|one| one.received > 0), "{summary:#?}");
    }
}

/// The addresses to listen on, whether IPv6 alone is taken there, and the listener that gets IPv4 and the one
/// that gets IPv6.
type Case = (&'static [&'static str], bool, [Option<usize>; 2]);

/// Each way to write "every address" takes its own families and no other.
#[test]
fn a_wildcard_takes_its_families_and_no_other() {
    let Some(lab) = Lab::lay() else { return };
    let cases: [Case; 7] = [
        (&["0.0.0.0:PORT"], false, [Some(0), None]),
        (&["[::]:PORT"], false, [Some(0), Some(0)]),
        (&["[::]:PORT"], true, [None, Some(0)]),
        (&["*:PORT"], false, [Some(0), Some(0)]),
        (&["0.0.0.0:PORT", "[::]:PORT"], false, [Some(0), Some(1)]),
        (&["[::]:PORT", "0.0.0.0:PORT"], false, [Some(1), Some(0)]),
        (&["[2001:db8:99::1]:PORT"], false, [None, Some(0)]),
    ];
    for backend in BACKENDS {
        for (addresses, only_v6, [v4, v6]) in cases {
            println!("{backend:?} on {addresses:?}, IPv6 only: {only_v6}");
            let port = fresh_port();
            let builder = listening(backend, addresses, port).only_v6(only_v6).receivers(2);
            let watched = lab.watch(builder, true);
            let ways: [(IpAddr, IpAddr, Option<usize>); 2] = [
                (CLIENT_V4[0].into(), ENGINE_V4[0].into(), v4),
                (CLIENT_V6[0].into(), ENGINE_V6[0].into(), v6),
            ];
            let mut expected = Vec::new();
            for (from, to, listener) in ways {
                let Some(listener) = listener else {
                    assert!(is_refused(&lab, to, port), "{to} is not listened on");
                    continue;
                };
                let peer = lab.peer(from);
                peer.send(to, port, "hello");
                assert_eq!(peer.hear_echo("hello"), SocketAddr::new(to, port));
                expected.push((listener, peer.address()));
            }
            let (_, sights) = watched.stop();
            // IPv4 peers are shown as IPv4, wherever they came in.
            let seen: Vec<_> = sights.iter().map(|one| (one.listener, one.peer)).collect();
            assert_eq!(seen, expected, "{addresses:?}");
        }
    }
}

#[test]
fn an_ipv4_address_beside_the_ipv6_wildcard_narrows_it() {
    let Some(lab) = Lab::lay() else { return };
    for backend in BACKENDS {
        let port = fresh_port();
        let addresses = ["[::]:PORT", "10.99.0.1:PORT"];
        let watched = lab.watch(listening(backend, &addresses, port), false);
        assert!(is_refused(&lab, ENGINE_V4[1].into(), port), "IPv4 is the other listener's");
        lab.peer(CLIENT_V6[0]).send(ENGINE_V6[1], port, "six");
        lab.peer(CLIENT_V4[0]).send(ENGINE_V4[0], port, "four");
        watched.await_payload(b"six");
        watched.await_payload(b"four");
        let (_, sights) = watched.stop();
        for (text, listener) in [("six", 0), ("four", 1)] {
            assert!(
                sights
                    .iter()
                    .any(|one| { one.payload == text.as_bytes() && one.listener == listener })
            );
        }
    }
}

/// A file of names for one namespace, which `ip netns exec` shows as /etc/hosts (ip-netns(8)).
#[derive(Debug)]
pub(crate) struct Names(PathBuf);

impl Names {
    pub(crate) fn write(lab: &Lab) -> Self {
        let folder = PathBuf::from("/etc/netns").join(lab.engine());
        let names = Self(folder.clone());
        fs::create_dir_all(&folder).unwrap();
        let lines = [
            "10.99.0.1 both.test",
            "2001:db8:99::1 both.test",
            "10.99.0.11 four.test",
            "2001:db8:99::11 six.test",
        ];
        fs::write(folder.join("hosts"), lines.join("\n")).unwrap();
        names
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_name_is_every_address_it_has_or_those_of_the_family_wanted() {
    let Some(lab) = Lab::lay() else { return };
    let _names = Names::write(&lab);
    let (v4, v6) = ("10.99.0.1:9000", "[2001:db8:99::1]:9000");
    for (name, resolve, expected) in [
        ("both.test", "all", &[v4, v6][..]),
        ("both.test", "v4", &[v4]),
        ("both.test", "v6", &[v6]),
        ("both.test", "prefer-v4", &[v4]),
        ("both.test", "prefer-v6", &[v6]),
        ("four.test", "prefer-v6", &["10.99.0.11:9000"]),
        ("six.test", "prefer-v4", &["[2001:db8:99::11]:9000"]),
        // The address beside the name is the same one: listened on once.
        ("10.99.0.1:9000 both.test", "v4", &[v4]),
    ] {
        let args = format!("listen {name}:9000 --resolve {resolve} --count {}", expected.len());
        let mut program = Program::ringest(Some(lab.engine()), &args);
        let mut addresses = program.listening();
        addresses.sort_unstable();
        let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(addresses, expected, "{name} --resolve {resolve}");
        for address in expected {
            let from: IpAddr =
                if address.is_ipv4() { CLIENT_V4[0].into() } else { CLIENT_V6[0].into() };
            lab.peer(from).send(address.ip(), PORT, "hello");
        }
        let ended = program.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_name_without_an_address_of_the_family_wanted_is_refused() {
    let Some(lab) = Lab::lay() else { return };
    let _names = Names::write(&lab);
    for (name, resolve, said) in [
        ("four.test", "v6", "no IPv6 address, only 10.99.0.11:9000"),
        ("six.test", "v4", "no IPv4 address, only "),
        ("nobody.test", "all", "getent ahosts nobody.test"),
    ] {
        let args = format!("listen {name}:9000 --resolve {resolve}");
        let ended = Program::ringest(Some(lab.engine()), &args).end();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}

#[test]
fn with_ipv6_switched_off_everywhere_is_ipv4_and_that_is_said_once() {
    let Some(lab) = Lab::lay() else { return };
    let engine = lab.engine();
    let off = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
    run("ip", &format!("netns exec {engine} sysctl -qw {off}")).unwrap();
    for backend in ["io_uring", "recvmmsg"] {
        let args = format!("listen *:9000 --backend {backend} --receivers 2 --count 1");
        let mut program = Program::ringest(Some(engine), &args);
        assert_eq!(program.listening(), ["0.0.0.0:9000".parse().unwrap()]);
        lab.peer(CLIENT_V4[0]).send(ENGINE_V4[0], PORT, "hello");
        let ended = program.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = "*:9000: IPv6 is not available here, listening on IPv4 only";
        assert_eq!(ended.stderr.matches(said).count(), 1, "{ended:?}");
        for address in ["[::1]:9000", "[::]:9000", "[2001:db8:99::1]:9000"] {
            let args = format!("listen {address} --backend {backend}");
            let ended = Program::ringest(Some(engine), &args).end();
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let file = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
            assert!(ended.stderr.contains(file) && ended.stderr.contains(address), "{ended:?}");
        }
    }
    // A user who asks for IPv4 sees no message about IPv6.
    let mut program = Program::ringest(Some(engine), "listen 0.0.0.0:9000");
    program.listening();
    let ended = program.stop();
    assert!(ended.code == Some(0) && !ended.stderr.contains("IPv6"), "{ended:?}");
    // One interface with IPv6 is enough to have it.
    let on = "net.ipv6.conf.lo.disable_ipv6=0";
    run("ip", &format!("netns exec {engine} sysctl -qw {on}")).unwrap();
    let mut program = Program::ringest(Some(engine), "listen [::1]:9000");
    assert_eq!(program.listening(), ["[::1]:9000".parse().unwrap()]);
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn a_link_local_address_is_given_with_its_interface() {
    let Some(lab) = Lab::lay() else { return };
    lab.add_address("fe80::99".parse().unwrap(), 64);
    run("ip", &format!("-n {} address add fe80::98/64 dev cable nodad", lab.client())).unwrap();
    await_address(lab.client(), "fe80::98".parse().unwrap());
    for (backend, address) in ["io_uring", "recvmmsg"]
        .into_iter()
        .flat_map(|backend| ["[fe80::99%cable]:9000", "[::]:9000"].map(|at| (backend, at)))
    {
        let args = format!("echo {address} --backend {backend} --receivers 2");
        let mut program = Program::ringest(Some(lab.engine()), &args);
        program.listening();
        let (socket, index) = Cable::inside(lab.client(), || {
            let index = nix::net::if_::if_nametoindex("cable").unwrap();
            let own = std::net::SocketAddrV6::new("fe80::98".parse().unwrap(), 0, 0, index);
            (UdpSocket::bind(own).unwrap(), index)
        });
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let to = std::net::SocketAddrV6::new("fe80::99".parse().unwrap(), PORT, 0, index);
        for _ in 0..10 {
            socket.send_to(b"hello", to).unwrap();
            let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from, SocketAddr::V6(to));
        }
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let ended = Program::ringest(Some(lab.engine()), "listen [fe80::99%nothere]:9000").end();
    assert!(ended.code == Some(2) && ended.stderr.contains("ip link"), "{ended:?}");
}

#[test]
fn loopback_of_both_families_needs_no_lab() {
    for backend in BACKENDS {
        let watched = crate::sockets::lab::Watched::start(
            listening(backend, &["127.0.0.1:0", "[::1]:0"], 0),
            false,
        );
        let ports = [watched.port(0), watched.port(1)];
        crate::sockets::lab::Peer::bind("127.0.0.1".parse().unwrap()).send(
            "127.0.0.1".parse::<IpAddr>().unwrap(),
            ports[0],
            "four",
        );
        crate::sockets::lab::Peer::bind("::1".parse().unwrap()).send(
            "::1".parse::<IpAddr>().unwrap(),
            ports[1],
            "six",
        );
        watched.await_count(2);
        let (_, sights) = watched.stop();
        assert_eq!(tally(&sights, ["four", "six", "seven"]), [1, 1, 0]);
    }
}
