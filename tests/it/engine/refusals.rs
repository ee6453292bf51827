//! Refusals of the host: each error says what failed and what to do next, and nothing is left half-started.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringest::{Batch, Builder, Error, Replies};

use crate::rigs::child::Child;
use crate::rigs::support::{
    BACKENDS, Ground, Rig, all_handled, boxed, client, grounds, load_spec, send_load, small, until,
};

fn refused(builder: Builder) -> Error {
    builder.start(boxed(|_| |_: &Batch, _: &mut Replies| {})).unwrap_err()
}

#[test]
fn a_taken_port_is_refused_and_free_again_later() {
    for ground in grounds() {
        let holder = client(SocketAddr::new(ground.ip, 1));
        let address = holder.local_addr().unwrap();
        let error = refused(small(ground.backend).listen(address));
        assert!(matches!(error, Error::PortTaken { address: a } if a == address), "{error:?}");
        let text = error.to_string();
        let next_move = format!("ss -ulnp 'sport = :{}'", address.port());
        assert!(text.contains("taken") && text.contains(&next_move), "{text}");
        drop(holder);
        let rig = Rig::start(small(ground.backend).listen(address));
        let mut spec = load_spec(address);
        spec.count = Some(10);
        let sent = send_load(&spec);
        rig.await_handled(sent);
        all_handled(&rig.stop().0, sent);
    }
}

#[test]
fn a_port_that_its_holder_would_share_is_refused_too() {
    for Ground { backend, ip } in grounds() {
        let domain = socket2::Domain::for_address(SocketAddr::new(ip, 0));
        let holder = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
        holder.set_reuse_port(true).unwrap();
        holder.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        let error = refused(small(backend).listen(address));
        assert!(matches!(error, Error::PortTaken { .. }), "{error:?}");
        // A second engine is such a holder as well.
        let rig = Rig::start(small(backend).receivers(2).listen(SocketAddr::new(ip, 0)));
        let error = refused(small(backend).listen(rig.target()));
        assert!(matches!(error, Error::PortTaken { .. }), "{error:?}");
        let mut spec = load_spec(rig.target());
        (spec.count, spec.flows) = (Some(100), 10);
        let sent = send_load(&spec);
        rig.await_handled(sent);
        all_handled(&rig.stop().0, sent);
    }
}

#[test]
fn an_address_of_another_host_is_refused() {
    for backend in BACKENDS {
        for ip in [IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)), "2001:db8::1".parse().unwrap()] {
            let address = SocketAddr::new(ip, 0);
            let error = refused(small(backend).listen(address));
            assert!(matches!(error, Error::AddressNotLocal { address: a } if a == address));
            assert!(error.to_string().contains("ip addr"), "{error}");
            assert!(!error.is_usage());
        }
    }
}

#[test]
fn a_privileged_port_is_refused_without_the_right() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim() == "0" {
        println!("skipped: every port is open to everyone here (ip_unprivileged_port_start is 0)");
        return;
    }
    let child =
        Child::new("engine::refusals::child_without_the_right").without("-net_bind_service");
    if let Some(child) = child {
        child.pass();
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_without_the_right() {
    for backend in BACKENDS {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let address = SocketAddr::new(ip, 1);
            let error = refused(small(backend).listen(address));
            assert!(matches!(error, Error::PortPrivileged { .. }), "{error:?}");
            assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"), "{error}");
        }
    }
}

#[test]
fn a_start_that_failed_leaves_nothing_behind() {
    Child::new("engine::refusals::child_failing_to_start").pass();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
#[ignore = "runs in a child process"]
fn child_failing_to_start() {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for backend in BACKENDS {
        let holder = UdpSocket::bind(loopback).unwrap();
        let taken = holder.local_addr().unwrap();
        let builder = || small(backend).receivers(2).listen(loopback);
        let (fds, tasks) = (descriptors(), threads());
        for _ in 0..20 {
            let errors = [
                refused(builder().listen(taken)),
                refused(builder().listen("192.0.2.1:0".parse::<SocketAddr>().unwrap())),
                refused(builder().cores(vec![100_000])),
                refused(builder().slots(0)),
            ];
            assert!(matches!(errors[0], Error::PortTaken { .. }), "{errors:?}");
            assert!(matches!(errors[1], Error::AddressNotLocal { .. }), "{errors:?}");
            assert!(errors[2].is_usage() && errors[3].is_usage(), "{errors:?}");
            assert_eq!((descriptors(), threads()), (fds, tasks), "nothing is half-started");
        }
        out_of_descriptors(&builder, fds, tasks);
        let rig = Rig::start(builder());
        let mut spec = load_spec(rig.target());
        spec.count = Some(100);
        let sent = send_load(&spec);
        rig.await_handled(sent);
        all_handled(&rig.stop().0, sent);
    }
}

/// Lets the start fail at every descriptor it opens, in turn, until there are enough of them.
fn out_of_descriptors(builder: &dyn Fn() -> Builder, fds: usize, tasks: usize) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let mut refusals = 0;
    for spare in 0..100 {
        // One of those counted was the directory itself.
        setrlimit(Resource::RLIMIT_NOFILE, (fds - 1 + spare) as u64, hard).unwrap();
        let started = builder().start(boxed(|_| |_: &Batch, _: &mut Replies| {}));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let up = match started {
            Ok(engine) => {
                let fallback = engine.stats().backend == ringest::BackendKind::Recvmmsg;
                let counted = engine.stats().ledger.arrived.is_some();
                drop(engine);
                println!("{spare} descriptors: started, fallback {fallback}, counted {counted}");
                counted
            }
            Err(error) => {
                println!("{spare} descriptors: {error}");
                refusals += 1;
                false
            }
        };
        until("the threads to leave", || threads() <= tasks);
        assert_eq!(descriptors(), fds, "nothing is half-started with {spare} descriptors");
        if up {
            assert!(refusals > 0);
            return;
        }
    }
    println!("arrivals are not counted here, so starting with fewer descriptors was not told");
}
