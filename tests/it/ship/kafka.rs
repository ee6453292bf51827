//! The Kafka carrier against librdkafka's own cluster, which fails on demand.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::rigs::support::payload;
use crate::ship::kafka_rig::{Drive, Mock, Sent, TOPIC, check, ids, read_all, records};

use RDKafkaRespErr::{
    RD_KAFKA_RESP_ERR__TRANSPORT as DISCONNECTED,
    RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED as MAY_NOT_CLUSTER,
    RD_KAFKA_RESP_ERR_INVALID_RECORD as INVALID_RECORD,
    RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE, RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR,
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as FEW_REPLICAS,
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND as FEW_REPLICAS_AFTER,
    RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER,
    RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as MAY_NOT,
};

/// Checks that the topic has all of `sent` but the `rejected`, exactly once, each peer's in order.
fn exactly_once(brokers: &str, sent: &[Sent], rejected: &[usize]) {
    let left = |(place, sent)| (!rejected.contains(&place)).then_some(sent);
    let expected: Vec<&Sent> = sent.iter().enumerate().filter_map(left).collect();
    let kept = read_all(brokers, TOPIC, &ids(expected.iter().copied()));
    assert_eq!(check(&kept, &expected), 0, "no record comes twice");
}

#[test]
fn records_arrive_as_they_were_once_and_in_each_peers_order() {
    let mock = Mock::new(4);
    let mut sent = records(5, 2000, 0);
    sent[7].payload.clear();
    sent[8].payload = payload(8, 65_507);
    sent[9].peer = "[2001:db8::1]:514".parse().unwrap();
    let mut drive = Drive::new(mock.carrier(&[]), &sent);
    drive.settle(sent.len());
    assert_eq!((drive.rejected.len(), drive.again.len()), (0, 0), "{drive:?}");
    assert_eq!(drive.carrier.trouble(), None);
    exactly_once(&mock.brokers(), &sent, &[]);

    let kept = read_all(&mock.brokers(), TOPIC, &ids([&sent[0]]));
    let first = kept.iter().find(|one| one.id() == sent[0].id.to_string()).unwrap();
    assert_eq!(first.headers[0].1, b"000000000000feed-1-3-64");
    assert_eq!(first.headers[1].1, b"2023-11-14T22:13:20.123456789Z");
}

#[test]
fn brokers_that_fail_for_a_while_are_no_error() {
    let mock = Mock::new(2);
    let sent = records(4, 3000, 300);
    // The cluster does not check sequence numbers, as a broker does: with more requests in flight, one
    // that fails would be overtaken there.
    let mut drive = Drive::new(mock.carrier(&[("max.in.flight", "1")]), &sent);
    let errors = [NOT_LEADER, FEW_REPLICAS, DISCONNECTED, FEW_REPLICAS_AFTER, DISCONNECTED];
    for round in 1..=5 {
        drive.settle(round * 200);
        mock.cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    }
    drive.settle(1200);
    for partition in 0..2 {
        mock.cluster.partition_leader(TOPIC, partition, Some(3)).unwrap();
    }
    drive.settle(1500);
    exactly_once(&mock.brokers(), &sent[..1500], &[]);

    // All away, while records wait.
    mock.cluster.broker_down(-1).unwrap();
    drive.trouble("reached");
    mock.cluster.broker_up(-1).unwrap();
    drive.settle(sent.len());
    assert_eq!(drive.carrier.trouble(), None);
    assert_eq!((drive.rejected.len(), drive.again.len()), (0, 0), "{drive:?}");
    // A record that was acknowledged as the connection broke is sent again, and this cluster does not remove
    // the copy.
    let sent: Vec<&Sent> = sent.iter().collect();
    let kept = read_all(&mock.brokers(), TOPIC, &ids(sent.iter().copied()));
    assert!(check(&kept, &sent) <= crate::ship::kafka_rig::WINDOW);
}

#[test]
fn a_refused_batch_is_sent_one_by_one_and_only_whose_fault_it_was_is_rejected() {
    for (error, size) in [(TOO_LARGE, true), (INVALID_RECORD, false)] {
        for guilty in [false, true] {
            println!("{error:?}, one is at fault: {guilty}");
            let mock = Mock::new(1);
            let sent = records(3, 300, 100);
            let one = [("max.in.flight", "1"), ("batch.size", "800000")];
            let mut drive = Drive::new(mock.carrier(&one), &sent);
            drive.settle(10);
            // The first batch after these, and if so, the first of its records alone.
            let errors = [error, error];
            mock.cluster.request_errors(RDKafkaApiKey::Produce, &errors[..1 + usize::from(guilty)]);
            drive.settle(sent.len());
            let rejected: Vec<usize> = drive.rejected.keys().copied().collect();
            assert_eq!(rejected, if guilty { vec![10] } else { vec![] });
            assert_eq!(drive.again.len(), 1, "{drive:?}");
            assert!(drive.again[0].starts_with("a batch was refused"), "{drive:?}");
            exactly_once(&mock.brokers(), &sent, &rejected);
            // Where no record was too large, the batch was, and the next ones are smaller.
            let halved = format!("{drive:?}").contains("batch_bytes: 400000");
            assert_eq!(halved, size && !guilty, "{drive:?}");
        }
    }
}

#[test]
fn without_idempotence_a_refused_batch_is_not_lost_either() {
    let mock = Mock::new(1);
    let sent = records(3, 100, 100);
    let mut drive = Drive::new(mock.carrier(&[("enable.idempotence", "false")]), &sent);
    drive.settle(1);
    mock.cluster.request_errors(RDKafkaApiKey::Produce, &[TOO_LARGE, TOO_LARGE]);
    drive.settle(sent.len());
    let rejected: Vec<usize> = drive.rejected.keys().copied().collect();
    assert_eq!(rejected, [1]);
    let left: Vec<&Sent> = sent.iter().filter(|one| one.id != sent[1].id).collect();
    let kept = read_all(&mock.brokers(), TOPIC, &ids(left.iter().copied()));
    assert!(kept.len() >= left.len());
}

#[test]
fn a_record_larger_than_the_users_own_bound_is_rejected_at_once() {
    let mock = Mock::new(1);
    let mut sent = records(2, 50, 100);
    sent[20].payload = payload(1, 5000);
    let bound = [("message.max.bytes", "3000"), ("batch.size", "2000")];
    let mut drive = Drive::new(mock.carrier(&bound), &sent);
    drive.settle(sent.len());
    assert!(drive.rejected[&20].contains("message.max.bytes"), "{drive:?}");
    assert_eq!((drive.rejected.len(), drive.again.len()), (1, 0));
    exactly_once(&mock.brokers(), &sent, &[20]);
}

#[test]
fn a_topic_that_is_not_there_is_told_and_heals_and_is_never_created() {
    let mock = Mock::new(0);
    let sent = records(3, 200, 50);
    let quick = ("topic.metadata.propagation.max.ms", "100");
    let mut drive = Drive::new(mock.carrier(&[quick]), &sent);
    let text = drive.trouble("there is no topic");
    assert!(text.contains(TOPIC) && text.contains("create it"), "{text}");
    assert!(!drive.again.is_empty() && drive.settled == 0);
    // A second time round, nobody else has made it meanwhile.
    let tried = drive.again.len();
    drive.until("another try", sent.len(), |drive| drive.again.len() > tried);
    assert_eq!(drive.settled, 0);
    mock.cluster.create_topic(TOPIC, 2, 1).unwrap();
    drive.settle(sent.len());
    assert_eq!(drive.carrier.trouble(), None);
    exactly_once(&mock.brokers(), &sent, &[]);
}

#[test]
fn what_a_user_may_not_do_is_told_and_heals() {
    let mock = Mock::new(1);
    let sent = records(3, 300, 50);
    // Nothing of the topic.
    mock.cluster.topic_error(TOPIC, MAY_NOT).unwrap();
    let mut drive = Drive::new(mock.carrier(&[("max.in.flight", "1")]), &sent);
    let text = drive.trouble("may not write to topic records");
    assert!(text.contains("grant"), "{text}");
    mock.cluster.topic_error(TOPIC, NO_ERROR).unwrap();
    drive.settle(100);

    // Write to it, from now on.
    let before = drive.again.len();
    mock.cluster.request_errors(RDKafkaApiKey::Produce, &[MAY_NOT]);
    drive.settle(200);
    assert_eq!(drive.again.len(), before + 1, "{drive:?}");

    drive.settle(sent.len());
    assert!(drive.rejected.is_empty(), "{drive:?}");
    exactly_once(&mock.brokers(), &sent, &[]);
}

#[test]
fn a_user_who_may_not_write_idempotently_is_told_what_to_do_and_it_heals() {
    let mock = Mock::new(1);
    let sent = records(3, 100, 50);
    mock.cluster.request_errors(RDKafkaApiKey::InitProducerId, &[MAY_NOT_CLUSTER]);
    let mut drive = Drive::new(mock.carrier(&[]), &sent);
    let text = drive.trouble("enable.idempotence=false");
    assert!(text.contains("IdempotentWrite"), "{text}");
    drive.settle(sent.len());
    assert_eq!((drive.rejected.len(), drive.again.len()), (0, 1), "{drive:?}");
    exactly_once(&mock.brokers(), &sent, &[]);
}

#[test]
fn while_no_broker_is_there_the_queue_fills_and_a_reset_forgets_it() {
    let mock = Mock::new(1);
    let sent = records(2, 60, 50);
    mock.cluster.broker_down(-1).unwrap();
    let mut drive =
        Drive::new(mock.carrier(&[("queue.buffering.max.messages", "10")]), &sent[..40]);
    drive.trouble("reached");
    assert!(format!("{drive:?}").contains("under_way: 10,"), "{drive:?}");
    assert_eq!(drive.settled, 0);

    // Others follow: of the first ones nothing is heard any more, and none of them arrives.
    let Drive { mut carrier, .. } = drive;
    carrier.reset();
    let mut drive = Drive::with(carrier, &sent[40..]);
    drive.turn(20);
    mock.cluster.broker_up(-1).unwrap();
    drive.settle(20);
    exactly_once(&mock.brokers(), &sent[40..], &[]);
}
