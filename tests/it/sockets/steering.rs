//! Which receiver gets a datagram, proved by which one counted it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use ringest::{ArrivalsChoice, BackendChoice, Builder, Steer, Summary};

use crate::rigs::support::{BACKENDS, payload, send_train, small, until};
use crate::sockets::lab::{Lab, Peer, Watched, fresh_port};
use crate::sockets::network::Cable;

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Returns two CPUs that this process may use, or `None`, with a printed reason, where there is one.
pub(crate) fn two_cpus() -> Option<[usize; 2]> {
    let mask = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<_> = (0..CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap()).collect();
    if let [first, second, ..] = cpus[..] {
        return Some([first, second]);
    }
    println!("skipped: steering by CPU takes two of them");
    None
}

/// Runs `work` pinned to a CPU.
fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            pin(cpu);
            work()
        });
        pinned.join().unwrap()
    })
}

fn pin(cpu: usize) {
    let mut mask = CpuSet::new();
    mask.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &mask).unwrap();
}

fn shares(summary: &Summary) -> Vec<u64> {
    summary.receivers.iter().map(|receiver| receiver.received).collect()
}

/// Backends on loopback of each family and on the wildcard of both.
fn grounds() -> impl Iterator<Item = (BackendChoice, IpAddr, IpAddr)> {
    let wild = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let [v4, v6] = LOOPBACK;
    BACKENDS.into_iter().flat_map(move |backend| {
        [(v4, v4), (v6, v6), (wild, v4), (wild, v6)].map(|(listen, to)| {
            println!("{backend:?} on {listen}, sent to {to}");
            (backend, listen, to)
        })
    })
}

fn builder(backend: BackendChoice, ip: IpAddr, steer: Steer) -> Builder {
    small(backend).listen(SocketAddr::new(ip, 0)).receivers(2).steer(steer)
}

#[test]
fn by_hash_a_flow_stays_with_one_receiver_and_many_use_all() {
    for (backend, listen, to) in grounds() {
        for (flows, receivers_used) in [(1, 1), (64, 2)] {
            let watched = Watched::start(builder(backend, listen, Steer::Hash), false);
            let peers: Vec<_> = (0..flows).map(|_| Peer::bind(to)).collect();
            for _ in 0..10 {
                peers.iter().for_each(|peer| peer.send(to, watched.port(0), "hello"));
            }
            watched.await_count(10 * flows);
            let (summary, _) = watched.stop();
            let used = shares(&summary).iter().filter(|&&share| share > 0).count();
            assert_eq!(used, receivers_used, "{summary:#?}");
            // Ten of each flow: none was split.
            assert!(shares(&summary).iter().all(|share| share % 10 == 0), "{summary:#?}");
        }
    }
}

#[test]
fn by_cpu_the_receiver_on_the_senders_core_gets_all() {
    let Some([first, second]) = two_cpus() else { return };
    for (backend, listen, to) in grounds() {
        for steer in [Steer::Cpu, Steer::IncomingCpu] {
            for cores in [vec![first, second], vec![second, first]] {
                for cpu in [first, second] {
                    let builder = builder(backend, listen, steer).cores(cores.clone());
                    let watched = Watched::start(builder, false);
                    let port = watched.port(0);
                    on_cpu(cpu, || {
                        let peers: Vec<_> = (0..20).map(|_| Peer::bind(to)).collect();
                        for _ in 0..10 {
                            peers.iter().for_each(|peer| peer.send(to, port, "hello"));
                        }
                    });
                    watched.await_count(200);
                    let (summary, _) = watched.stop();
                    for receiver in &summary.receivers {
                        let share = if receiver.core == cpu { 200 } else { 0 };
                        assert_eq!(receiver.received, share, "{steer:?} from {cpu}: {summary:#?}");
                    }
                }
            }
        }
    }
}

/// A CPU without a receiver: the choice is by number, and a flow from it stays where it is.
#[test]
fn by_cpu_datagrams_from_a_core_without_a_receiver_are_received_too() {
    let Some([first, second]) = two_cpus() else { return };
    for (backend, listen, to) in grounds() {
        for steer in [Steer::Cpu, Steer::IncomingCpu] {
            let builder = builder(backend, listen, steer).cores(vec![first]);
            let watched = Watched::start(builder, false);
            let port = watched.port(0);
            on_cpu(second, || {
                let peer = Peer::bind(to);
                (0..100).for_each(|_| peer.send(to, port, "hello"));
            });
            watched.await_count(100);
            let (summary, _) = watched.stop();
            let mut shares = shares(&summary);
            shares.sort_unstable();
            assert_eq!(shares, [0, 100], "{steer:?}: {summary:#?}");
        }
    }
}

#[test]
fn in_turn_every_receiver_gets_its_share_of_one_flow() {
    for (backend, listen, to) in grounds() {
        for receivers in [2, 3, 4] {
            let builder = builder(backend, listen, Steer::RoundRobin).receivers(receivers);
            let watched = Watched::start(builder, false);
            let said =
                watched.engine.warnings().iter().filter(|text| {
                    text.contains("round-robin") && text.contains("order is given up")
                });
            assert_eq!(said.count(), 1, "{:?}", watched.engine.warnings());
            let peer = Peer::bind(to);
            for _ in 0..401 {
                peer.send(to, watched.port(0), "hello");
            }
            watched.await_count(401);
            let (summary, _) = watched.stop();
            let (least, most) = (401 / receivers as u64, 401_u64.div_ceil(receivers as u64));
            assert!(shares(&summary).iter().all(|n| (least..=most).contains(n)), "{summary:#?}");
        }
    }
}

#[test]
fn in_turn_a_train_goes_to_one_receiver() {
    for (backend, listen, to) in grounds() {
        let watched = Watched::start(builder(backend, listen, Steer::RoundRobin), false);
        let peer = Peer::bind(to);
        let whole = payload(1, 8000);
        for _ in 0..20 {
            send_train(&peer.socket, SocketAddr::new(to, watched.port(0)), &whole, 500);
        }
        watched.await_count(320);
        let (summary, _) = watched.stop();
        assert_eq!(shares(&summary), [160, 160], "{summary:#?}");
    }
}

#[test]
fn with_one_receiver_there_is_nothing_to_choose() {
    for backend in BACKENDS {
        for steer in [Steer::Hash, Steer::Cpu, Steer::IncomingCpu, Steer::RoundRobin] {
            let watched = Watched::start(builder(backend, LOOPBACK[0], steer).receivers(1), false);
            let warned = watched.engine.warnings().iter().any(|text| text.contains("order"));
            assert!(!warned, "{steer:?}: {:?}", watched.engine.warnings());
            let peer = Peer::bind(LOOPBACK[0]);
            (0..10).for_each(|_| peer.send(LOOPBACK[0], watched.port(0), "hello"));
            watched.await_count(10);
            assert_eq!(shares(&watched.stop().0), [10]);
        }
    }
}

/// Ends a flood, however the test ends.
struct EndAtDrop<'a>(&'a AtomicBool);

impl Drop for EndAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` while one flow is sent from a CPU, whether anybody listens or not.
pub(crate) fn under_flood<T>(
    netns: &str,
    cpu: usize,
    to: SocketAddr,
    work: impl FnOnce(&AtomicU64) -> T,
) -> T {
    let (ended, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            Cable::inside(netns, || {
                pin(cpu);
                let peer = Peer::bind(to.ip());
                while !ended.load(Ordering::Relaxed) {
                    // One at a time, so that the receiver's buffer never fills.
                    peer.send(to.ip(), to.port(), "flood");
                    sent.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            });
        });
        let end = EndAtDrop(&ended);
        until("the flood to begin", || sent.load(Ordering::Relaxed) > 100);
        let done = work(&sent);
        drop(end);
        flood.join().unwrap();
        done
    })
}

/// Datagrams come before the first socket is bound and after the last is closed. None reaches a
/// receiver that is not its own, and everything received is in the accounts.
#[test]
fn a_stream_across_start_and_stop_reaches_its_own_receiver_only() {
    let Some([first, second]) = two_cpus() else { return };
    let Some(lab) = Lab::lay() else { return };
    for (backend, arrivals) in BACKENDS
        .into_iter()
        .flat_map(|backend| [ArrivalsChoice::Auto, ArrivalsChoice::Off].map(|how| (backend, how)))
    {
        for (cpu, ip) in [(first, LOOPBACK[0]), (second, LOOPBACK[1])] {
            println!("{backend:?}, arrivals {arrivals:?}, from CPU {cpu}");
            let to = SocketAddr::new(ip, fresh_port());
            under_flood(lab.engine(), cpu, to, |sent| {
                for round in 0..20 {
                    let builder = small(backend)
                        .listen(to)
                        .receivers(2)
                        .cores(vec![first, second])
                        .steer(Steer::Cpu)
                        .arrivals(arrivals);
                    let Some(watched) = start_again(&lab, &builder, false) else { continue };
                    let before = sent.load(Ordering::Relaxed);
                    until("the flood", || sent.load(Ordering::Relaxed) > before + 20 * round);
                    watched.await_count(10);
                    let (summary, _) = watched.stop();
                    let wrong: u64 = summary
                        .receivers
                        .iter()
                        .filter(|receiver| receiver.core != cpu)
                        .map(|receiver| receiver.received)
                        .sum();
                    assert_eq!(wrong, 0, "from CPU {cpu}: {summary:#?}");
                }
            });
        }
    }
}

/// Starts once the port is free: a child that another test starts may hold the last engine's
/// sockets for a moment.
pub(crate) fn start_again(lab: &Lab, builder: &Builder, answers: bool) -> Option<Watched> {
    let mut started = None;
    until("the port to be free", || {
        let tried = Cable::inside(lab.engine(), || Watched::starting(builder.clone(), answers));
        match tried {
            Ok(watched) => {
                started = Some(watched);
                true
            }
            Err(ringest::Error::PortTaken { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    });
    started
}
