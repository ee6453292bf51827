//! The parsers on what several kernels write, and on what none does.

use std::path::Path;

use proptest::prelude::*;

use crate::parse::*;

const KERNELS: [&str; 3] = ["linux-5.10", "linux-6.1", "linux-6.18"];

fn read(kernel: &str, path: &str) -> String {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/doctor").join(kernel);
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn softnet_grows_columns_and_keeps_the_first() {
    let of = |kernel| softnet(&read(kernel, "proc/net/softnet_stat")).unwrap();
    let old = of("linux-5.10");
    assert_eq!((old.dropped, old.squeezed, old.flow_limited, old.cores), (500, 0x21a, 0, 2));
    assert_eq!((of("linux-6.1").flow_limited, of("linux-6.1").dropped), (3, 0));
    assert_eq!(of("linux-6.18").processed, 0x0634_a109 + 0x0dca_dce8);
    // Linux 2.6 had nine columns.
    let ancient =
        "00000001 00000002 00000003 00000000 00000000 00000000 00000000 00000000 00000000";
    assert_eq!(softnet(ancient).unwrap().dropped, 2);
    assert_eq!((softnet(""), softnet("1 2"), softnet("x y z")), (None, None, None));
}

#[test]
fn snmp_tables_are_read_by_name() {
    let of = |kernel| snmp(&read(kernel, "proc/net/snmp"), "Udp").unwrap();
    assert_eq!(of("linux-5.10")["RcvbufErrors"], 30_701);
    assert_eq!(of("linux-5.10").get("MemErrors"), None, "came with Linux 5.11");
    assert_eq!(of("linux-6.18")["MemErrors"], 1_230_546);
    let six = snmp6(&read("linux-5.10", "proc/net/snmp6"));
    assert_eq!(six["Udp6RcvbufErrors"], 9);
    let ext = snmp(&read("linux-5.10", "proc/net/netstat"), "TcpExt").unwrap();
    assert_eq!(ext["IPReversePathFilter"], 17);
    assert_eq!(snmp("Udp: A\n", "Udp"), None);
    // Tcp's MaxConn is -1: it is left out, and what stands beside it is not.
    let tcp = snmp(&read("linux-5.10", "proc/net/snmp"), "Tcp").unwrap();
    assert_eq!((tcp.get("MaxConn"), tcp["ActiveOpens"]), (None, 3211));
}

#[test]
fn udp_sockets_are_read_in_both_families() {
    for kernel in KERNELS {
        let four = udp_sockets(&read(kernel, "proc/net/udp"));
        let locals: Vec<String> = four.iter().map(|socket| socket.local.to_string()).collect();
        assert_eq!(locals, ["0.0.0.0:514", "127.0.0.53:53", "127.0.0.1:9000"]);
        assert_eq!((four[0].inode, four[0].drops), (18_211, 4021));
        let six = udp_sockets(&read(kernel, "proc/net/udp6"));
        assert_eq!(
            [six[0].local.to_string(), six[1].local.to_string()],
            ["[::]:514", "[::1]:8080"]
        );
        assert_eq!((six[1].inode, six[1].drops), (21_777, 7));
    }
}

#[test]
fn conntrack_is_read_by_name() {
    let table = hex_columns(&read("linux-5.10", "proc/net/stat/nf_conntrack"));
    assert_eq!((table["drop"], table["early_drop"]), (0x21, 0x100));
    assert_eq!(hex_columns(&read("linux-6.18", "proc/net/stat/nf_conntrack"))["drop"], 0);
    let entries = read("linux-5.10", "proc/net/nf_conntrack");
    assert_eq!(conntrack_udp(&entries, Some(514)), (3, 1));
    assert_eq!(conntrack_udp(&entries, None), (3, 0));
}

#[test]
fn interrupts_are_read_whatever_stands_between() {
    let of = |kernel| interrupts(&read(kernel, "proc/interrupts"));
    let last = |kernel| of(kernel).last().cloned().unwrap();
    let irq = |number, counts: &[u64], name: &str| Irq {
        number,
        counts: counts.to_vec(),
        name: name.to_owned(),
    };
    assert_eq!(last("linux-5.10"), irq(36, &[87_002_211, 0, 0, 0], "eth0-TxRx-3"));
    assert_eq!(last("linux-6.1"), irq(27, &[0, 88_121], "eth0-Tx-Rx-1"));
    assert_eq!(last("linux-6.18"), irq(39, &[6396, 0], "virtio2-output.0"));
    assert!(interrupts("").is_empty());
}

#[test]
fn the_rest_is_read() {
    let status = read("linux-6.1", "proc/self/status");
    assert_eq!(
        (field(&status, "Seccomp"), field(&status, "Seccomp_filters")),
        (Some("2"), Some("1"))
    );
    assert_eq!(field(&read("linux-5.10", "proc/self/status"), "Seccomp_filters"), None);
    assert_eq!(capabilities(&status), Some(0xa804_25fb));
    let limits = read("linux-6.1", "proc/self/limits");
    assert_eq!(limit(&limits, "Max locked memory"), Some((None, None)));
    assert_eq!(limit(&limits, "Max open files"), Some((Some(1_048_576), Some(1_048_576))));
    let memory = read("linux-5.10", "proc/meminfo");
    assert_eq!(meminfo_bytes(&memory, "MemTotal"), Some(16_318_000 * 1024));
    assert_eq!(meminfo_bytes(&memory, "HugePages_Free"), Some(500));
    let releases = KERNELS.map(|kernel| release(&read(kernel, "proc/sys/kernel/osrelease")));
    assert_eq!(releases, [Some((5, 10)), Some((6, 1)), Some((6, 18))]);
    assert_eq!(sockstat_udp_pages(&read("linux-6.1", "proc/net/sockstat")), Some(4711));
    assert_eq!(sockstat_udp_pages("UDP: inuse 1\n"), None);
    assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
    let five = read("linux-5.10", "proc/1101/cgroup");
    assert_eq!([unit(&five), unit("0::/\n")], [Some("rsyslog.service"), None]);
    assert_eq!(unit("0::/user.slice/user@1000.service/app.slice/x.scope\n"), None);
}

#[test]
fn cores_are_lists_and_masks() {
    assert_eq!(core_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
    assert_eq!(core_list("\n"), Some(vec![]));
    assert_eq!([core_list("a"), core_list("0-99999999")], [None, None]);
    assert_eq!(core_mask("00000001,80000002\n"), Some(vec![1, 31, 32]));
    assert_eq!(core_mask("x"), None);
    assert_eq!(numbers("1\t2 x 3"), [1, 2]);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        every(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn nor_does_a_file_with_a_changed_byte(
        file in 0..FILES.len(), kernel in 0..KERNELS.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = read(KERNELS[kernel], FILES[file]).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        every(&String::from_utf8_lossy(&bytes));
        every(&String::from_utf8_lossy(&bytes[..at]));
    }
}

const FILES: [&str; 9] = [
    "proc/net/softnet_stat",
    "proc/net/snmp",
    "proc/net/snmp6",
    "proc/net/udp",
    "proc/net/udp6",
    "proc/net/sockstat",
    "proc/interrupts",
    "proc/self/limits",
    "proc/self/status",
];

fn every(text: &str) {
    let _ = (softnet(text), snmp(text, "Udp"), snmp6(text), udp_sockets(text), hex_columns(text));
    let _ = (conntrack_udp(text, Some(514)), sockstat_udp_pages(text), interrupts(text));
    let _ = (field(text, "CapEff"), capabilities(text), limit(text, "Max open files"));
    let _ = (meminfo_bytes(text, "MemTotal"), chosen(text), unit(text), release(text));
    let _ = (core_list(text), core_mask(text), number(text), numbers(text));
}
