//! Faults that were once in the engine, each with the test that found it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use ringest::{ArrivalsChoice, Steer};

use crate::rigs::support::{BACKENDS, small, until};
use crate::sockets::lab::{BROADCAST_V4, CLIENT_V4, ENGINE_V4, Lab, Program, fresh_port};
use crate::sockets::steering::{start_again, two_cpus, under_flood};

#[test]
fn a_flow_across_the_start_stays_with_one_receiver() {
    let Some([first, second]) = two_cpus() else { return };
    let Some(lab) = Lab::lay() else { return };
    for (backend, steer) in
        BACKENDS.into_iter().flat_map(|b| [Steer::Hash, Steer::IncomingCpu].map(|s| (b, s)))
    {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), fresh_port());
        under_flood(lab.engine(), second, to, |sent| {
            for round in 0..20 {
                let builder = small(backend)
                    .listen(to)
                    .receivers(2)
                    .cores(vec![first, second])
                    .steer(steer)
                    .arrivals(ArrivalsChoice::Off);
                let Some(watched) = start_again(&lab, &builder, false) else { continue };
                let before = sent.load(Ordering::Relaxed);
                until("the flood", || sent.load(Ordering::Relaxed) > before + 20 * round);
                watched.await_count(10);
                let (summary, _) = watched.stop();
                let used = summary.receivers.iter().filter(|one| one.received > 0).count();
                assert_eq!(used, 1, "{backend:?} {steer:?} round {round}: {summary:#?}");
            }
        });
    }
}

#[test]
fn a_directed_broadcast_on_a_dual_stack_socket_is_answered() {
    let Some(lab) = Lab::lay() else { return };
    for backend in BACKENDS {
        for headers in [false, true] {
            let any = "[::]:0".parse::<SocketAddr>().unwrap();
            let watched = lab.watch(small(backend).listen(any).ip_headers(headers), true);
            let peer = lab.peer(CLIENT_V4[0]);
            peer.send(BROADCAST_V4, watched.port(0), "anyone?");
            watched.await_count(1);
            let (summary, sights) = watched.stop();
            assert_eq!(summary.replies.failed, 0, "headers {headers}: {summary:#?}");
            assert_eq!(peer.hear_echo("anyone?").ip(), IpAddr::from(ENGINE_V4[0]));
            assert_eq!(sights[0].local, Some(ENGINE_V4[0].into()));
        }
    }
}

/// `[ff15::1%second]:P` names the interface.
#[test]
fn a_group_that_is_listened_on_is_joined_on_its_interface() {
    let Some(lab) = Lab::lay() else { return };
    lab.lay_second();
    for (address, interface) in [("ff15::5", "cable"), ("ff15::5", "second"), ("ff02::5", "second")]
    {
        let args = format!("listen [{address}%{interface}]:9000 --sink stdout");
        let mut program = Program::ringest(Some(lab.engine()), &args);
        program.listening();
        let shown = crate::sockets::network::Cable::inside(lab.engine(), || {
            std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap()
        });
        let ip: std::net::Ipv6Addr = address.parse().unwrap();
        let ip = format!("{:032x}", ip.to_bits());
        let joined: Vec<_> = shown
            .lines()
            .filter(|line| line.contains(&ip))
            .map(|line| line.split_whitespace().nth(1).unwrap())
            .collect();
        assert_eq!(program.stop().code, Some(0));
        assert_eq!(joined, [interface], "{args}: {shown}");
    }
}

/// If one of a group's sources is refused, none of them stays joined.
#[test]
fn a_join_that_was_refused_leaves_nothing_joined() {
    let Some(lab) = Lab::lay() else { return };
    let sources: Vec<_> = (2..20).map(|n| format!("10.99.0.{n}")).collect();
    // One socket may name ten sources of a group (net.ipv4.igmp_max_msf).
    let group = format!("239.1.1.1@{}%cable", sources.join(",")).parse().unwrap();
    let any = "0.0.0.0:0".parse::<SocketAddr>().unwrap();
    for backend in BACKENDS {
        let watched = lab.watch(small(backend).listen(any), false);
        let inside = |work: &(dyn Fn() -> ringest::Result<()> + Sync)| {
            crate::sockets::network::Cable::inside(lab.engine(), work)
        };
        println!("{}", inside(&|| watched.engine.join(&group)).unwrap_err());
        let peer = lab.peer(CLIENT_V4[0]);
        socket2::SockRef::from(&peer.socket).set_multicast_if_v4(&CLIENT_V4[0]).unwrap();
        peer.send("239.1.1.1".parse::<IpAddr>().unwrap(), watched.port(0), "refused");
        peer.send(ENGINE_V4[0], watched.port(0), "done");
        watched.await_payload(b"done");
        let again = inside(&|| watched.engine.join(&"239.1.1.1@10.99.0.2%cable".parse().unwrap()));
        let (_, sights) = watched.stop();
        assert_eq!((sights.len(), again.map_err(|e| e.to_string())), (1, Ok(())));
    }
}

/// An interface that is made anew is another; its groups can be left and joined again.
#[test]
fn a_group_of_an_interface_that_went_can_be_joined_on_the_next() {
    for backend in BACKENDS {
        for (any, group) in [("0.0.0.0:0", "239.1.1.1%second"), ("[::]:0", "ff15::5%second")] {
            let Some(lab) = Lab::lay() else { return };
            lab.lay_second();
            let any = any.parse::<SocketAddr>().unwrap();
            let group: ringest::Group = group.parse().unwrap();
            let watched = lab.watch(small(backend).listen(any).join(group.clone()), false);
            lab.ip("link del second");
            lab.lay_second();
            let joined = crate::sockets::network::Cable::inside(lab.engine(), || {
                let left = watched.engine.leave(&group).map_err(|e| e.to_string());
                (left, watched.engine.join(&group).map_err(|e| e.to_string()))
            });
            assert_eq!(joined, (Ok(()), Ok(())), "{backend:?} {group}");
        }
    }
}

/// A panic in any method of a handler is reported as a panic of the handler.
#[test]
fn a_panic_in_outcome_is_the_handlers() {
    struct Fragile;
    impl ringest::Handler for Fragile {
        fn handle(&mut self, _: &ringest::Batch, _: &mut ringest::Replies) {}
        fn outcome(&self, _: u64) -> ringest::Outcome {
            panic!("deliberate, in outcome")
        }
    }
    for backend in BACKENDS {
        for workers in [0, 1] {
            let any = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
            let engine = small(backend).listen(any).workers(workers).start(|_| Fragile).unwrap();
            let peer = crate::sockets::lab::Peer::bind(any.ip());
            peer.send(any.ip(), engine.addresses()[0].port(), "hello");
            until("the end", || engine.has_ended());
            let error = engine.stop().unwrap_err();
            let right = matches!(error, ringest::Error::HandlerPanicked { .. });
            assert!(right, "{workers} workers: {error}");
        }
    }
}

#[test]
fn a_mark_is_read_back_as_it_was_given() {
    let any = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
    let options =
        ringest::SocketOptions { mark: Some(0xffff_ffff), ..ringest::SocketOptions::default() };
    let watched = crate::sockets::lab::Watched::start(
        small(BACKENDS[0]).listen(any).socket_options(options),
        false,
    );
    assert_eq!(watched.engine.socket_options()[0].to_string(), "SO_MARK 4294967295");
}
