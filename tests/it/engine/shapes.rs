//! Datagrams of every size, alone and in trains, come through whole.

use crate::rigs::support::{
    ROOMY_RCVBUF_BYTES, Rig, all_handled, client, grounds, gso, intact_and_distinct, load_spec,
    payload, payloads, same_payloads, send_each, send_load, send_train,
};
use ringest_load::spec::Sizes;

/// Sends one datagram of each size, on every ground, and expects them all, in order.
fn come_through(sizes: &[usize]) {
    for ground in grounds() {
        let rig = Rig::start(ground.builder());
        let sent = payloads(sizes);
        send_each(rig.target(), &sent);
        rig.await_handled(sent.len() as u64);
        let (summary, records) = rig.stop();
        all_handled(&summary, sent.len() as u64);
        same_payloads(&records, &sent);
        let seen: Vec<usize> = records.iter().map(|record| record.len).collect();
        assert_eq!(seen, sizes, "one peer's datagrams keep their order");
        assert_eq!(summary.ledger.received_bytes, sizes.iter().sum::<usize>() as u64);
        assert_eq!(summary.trains, 0);
    }
}

#[test]
fn zero_length_datagrams_in_a_row_and_among_others_are_handled() {
    come_through(&[0, 0, 0, 0, 1, 0, 64, 0, 0, 1000, 0, 5, 0]);
}

#[test]
fn a_hundred_zero_length_datagrams_alone_are_handled() {
    come_through(&[0; 100]);
}

#[test]
fn one_byte_and_the_largest_datagram_come_whole() {
    come_through(&[1, 65_507, 1, 1, 65_507, 65_507, 0, 65_506]);
}

#[test]
fn sizes_of_every_kind_may_be_mixed() {
    let sizes: Vec<usize> = (0..400).map(|n: usize| n * n * 7 % 9001).collect();
    come_through(&sizes);
}

#[test]
fn the_largest_datagram_of_ipv6_comes_whole() {
    for ground in grounds().filter(|ground| ground.ip.is_ipv6()) {
        let rig = Rig::start(ground.builder());
        let sent = payloads(&[65_527, 65_508]);
        send_each(rig.target(), &sent);
        rig.await_handled(2);
        let (summary, records) = rig.stop();
        all_handled(&summary, 2);
        same_payloads(&records, &sent);
    }
}

/// Sends `bytes` as one train and expects its datagrams as the sender cut them.
fn train_comes_through(bytes: usize, segment_bytes: u16, expected: &[usize]) {
    for ground in grounds() {
        for gro in [true, false] {
            let rig = Rig::start(ground.builder().gro(gro));
            let whole = payload(bytes, bytes);
            send_train(&client(rig.target()), rig.target(), &whole, segment_bytes);
            let sent: Vec<_> = whole.chunks(segment_bytes.into()).map(<[u8]>::to_vec).collect();
            rig.await_handled(sent.len() as u64);
            let (summary, records) = rig.stop();
            all_handled(&summary, sent.len() as u64);
            same_payloads(&records, &sent);
            let seen: Vec<usize> = records.iter().map(|record| record.len).collect();
            assert_eq!(seen, expected, "gro {gro}");
            assert_eq!(summary.trains, u64::from(gro), "one train if trains may come");
        }
    }
}

#[test]
fn a_train_with_a_short_tail_is_split_as_it_was_cut() {
    train_comes_through(1700, 500, &[500, 500, 500, 200]);
}

#[test]
fn a_train_of_single_bytes_is_split_as_it_was_cut() {
    train_comes_through(64, 1, &[1; 64]);
}

#[test]
fn a_train_with_a_tail_of_one_byte_is_split_as_it_was_cut() {
    let mut expected = [1000; 64];
    expected[63] = 1;
    train_comes_through(63_001, 1000, &expected);
}

#[test]
fn trains_and_singles_of_a_load_come_whole_and_in_order() {
    for ground in grounds() {
        for (train, size) in [(1, 64), (32, 64), (7, 1400), (64, 17), (3, 9000)] {
            // Room for all of it: on a busy machine the receiver may not run before it was all sent.
            let rig = Rig::start(ground.builder().rcvbuf_bytes(ROOMY_RCVBUF_BYTES));
            let mut spec = load_spec(rig.target());
            (spec.gso, spec.sizes, spec.count) = (gso(train), Sizes::Fixed(size), Some(1000));
            let sent = send_load(&spec);
            rig.await_handled(sent);
            let (summary, records) = rig.stop();
            all_handled(&summary, sent);
            intact_and_distinct(&records, sent);
            assert!(records.iter().all(|record| record.len == size));
            assert!(records.is_sorted_by_key(|record| record.number), "one flow keeps its order");
        }
    }
}
