//! What one receiver is told of users' names, all of them know: those that run, and those that start.

use authspike::log::Record;
use authspike::log::kafka::read_record;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::fleet::Fleet;
use crate::support::{Instance, until};

const ENTRIES: &str = "authspike_alias_entries";

fn post(receiver: &Instance, id: &str, fields: &Value) {
    let mut attempt =
        json!({"id": id, "occurred_at": 1_767_600_000_000_i64, "instance_id": "ins_1", "ip": "203.0.113.7"});
    attempt.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (status, answer) = receiver.attempts(&attempt.to_string()).unwrap();
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
}

fn knows(receiver: &Instance, entries: f64) {
    until("a receiver to know what the others know", || (receiver.metric(ENTRIES) == entries).then_some(()));
}

/// Whose account the event of this id is, in the log.
fn account(fleet: &Fleet, id: &str) -> String {
    let mut records = fleet.read("events.v1").into_iter().map(|lying| read_record(&lying.value.unwrap()).unwrap());
    let found = records.find_map(|record| match record {
        Record::Event(event) if *event.id == *id => event.account,
        Record::Event(_) | Record::Tick { .. } => None,
    });
    found.unwrap().to_string()
}

#[test]
fn a_name_that_one_receiver_learns_is_known_to_all_and_to_those_that_come_later() {
    let fleet = Fleet::new(Cluster::shared(), 3, 1, "classic");
    let (first, second) = (fleet.start(&["receive"]), fleet.start(&["receive"]));
    let fails = json!({"outcome": "failure", "identifier": "alice@example.com"});
    post(&second, "before", &fails);
    post(&first, "both", &json!({"outcome": "success", "identifier": "Alice@example.com", "user_id": "user_1"}));
    post(&first, "bob", &json!({"outcome": "success", "identifier": "bob@example.com", "user_id": "user_2"}));
    knows(&second, 2.0);
    post(&second, "after", &fails);
    assert!(first.terminate().success());

    // One that starts now has read them before it takes anything.
    let third = fleet.start(&["receive"]);
    assert_eq!(third.metric(ENTRIES), 2.0);
    post(&third, "later", &fails);
    let deleted = json!({"object": "event", "type": "user.deleted", "instance_id": "ins_1", "timestamp": 1_767_600_001_000_i64,
        "data": {"id": "user_1", "deleted": true}});
    assert_eq!(third.webhook("msg_1", deleted.to_string().as_bytes()), 204);
    knows(&third, 1.0);
    knows(&second, 1.0);
    post(&second, "deleted", &fails);
    assert!(third.terminate().success());
    assert!(second.terminate().success());

    let of = |id| account(&fleet, id);
    assert!(of("before").starts_with("idh_"), "it is never changed afterwards");
    assert_eq!([of("both"), of("after"), of("later")], ["user_1"; 3]);
    assert_eq!(of("deleted"), of("before"));
    // What lies in the topic: hashes, users, and a deletion.
    let lying = fleet.read("aliases.v1");
    assert_eq!(lying.iter().filter(|record| record.value.is_none()).count(), 1, "{lying:?}");
    assert!(lying.iter().all(|record| record.key.as_ref().unwrap().starts_with(b"idh_")), "{lying:?}");
    assert!(!format!("{lying:?}").contains("example"));
}

#[test]
fn what_was_learned_last_is_told_before_a_receiver_ends() {
    let fleet = Fleet::new(Cluster::shared(), 3, 1, "classic");
    let first = fleet.start(&["receive"]);
    post(&first, "both", &json!({"outcome": "success", "identifier": "alice@example.com", "user_id": "user_1"}));
    assert!(first.terminate().success());
    let second = fleet.start(&["receive"]);
    assert_eq!(second.metric(ENTRIES), 1.0);
    assert!(second.terminate().success());
}
