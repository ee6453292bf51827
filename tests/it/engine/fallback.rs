//! A host that refuses io_uring, made with a seccomp filter in a child process: the engine says so
//! and goes on without, or fails with the reason if io_uring was asked for by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringest::{BackendChoice, BackendKind, Batch, Error, Replies};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};

use crate::rigs::child::Child;
use crate::rigs::support::{
    Rig, all_handled, boxed, gso, intact_and_distinct, load_spec, payloads, same_payloads,
    send_each, send_load, small,
};

#[test]
fn io_uring_refused_by_seccomp_falls_back_and_says_so() {
    let calls = [
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_register", libc::SYS_io_uring_register),
        ("io_uring_enter", libc::SYS_io_uring_enter),
    ];
    for (name, call) in calls {
        // Docker answers EPERM; a sandbox that hides unknown system calls answers ENOSYS.
        for errno in [libc::EPERM, libc::ENOSYS] {
            println!("{name} refused with {errno}");
            let child = Child::new("engine::fallback::child_without_io_uring");
            child.env("CALL", &call).env("ERRNO", &errno).pass();
        }
    }
}

fn from_env(key: &str) -> i64 {
    std::env::var(key).unwrap().parse().unwrap()
}

pub(crate) fn refuse(call: i64, errno: u32) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter_all_threads(&program).unwrap();
}

#[test]
#[ignore = "runs in a child process"]
fn child_without_io_uring() {
    refuse(from_env("CALL"), u32::try_from(from_env("ERRNO")).unwrap());
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(ip, 0);
        let by_name = small(BackendChoice::IoUring).listen(address);
        let refused = by_name.start(boxed(|_| |_: &Batch, _: &mut Replies| {})).unwrap_err();
        assert!(matches!(refused, Error::IoUringRefused { .. }), "{refused:?}");
        assert!(!refused.is_usage());
        let text = refused.to_string();
        assert!(text.contains("seccomp") && text.contains("--backend recvmmsg"), "{text}");

        let rig = Rig::start(small(BackendChoice::Auto).listen(address));
        let mut spec = load_spec(rig.target());
        (spec.count, spec.gso) = (Some(1000), gso(8));
        let sent = send_load(&spec);
        rig.await_handled(sent);
        let (summary, records) = rig.stop();
        assert_eq!(summary.backend, BackendKind::Recvmmsg);
        assert!(summary.backend_reason.starts_with("io_uring refused: "), "{summary:#?}");
        assert!(summary.backend_reason.contains("seccomp"), "{summary:#?}");
        all_handled(&summary, sent);
        intact_and_distinct(&records, sent);

        let rig = Rig::start(small(BackendChoice::Auto).listen(address));
        let odd = payloads(&[0, 1, 65_507, 0, 1400]);
        send_each(rig.target(), &odd);
        rig.await_handled(5);
        let (summary, records) = rig.stop();
        all_handled(&summary, 5);
        same_payloads(&records, &odd);
    }
}
