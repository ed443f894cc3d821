//! Every fault of a receiver in turn.

use std::collections::BTreeSet;
use std::time::Duration;

use authspike::sinks::outbox::inspect::{self, Filter};

use super::{Count, FINDINGS, REVISIONS, START, Way, count, revision};
use crate::faulty::{Faulty, Mode};

/// One fault: everything is put in while `mode` lasts, which is until so many requests met it; then all is well.
#[expect(clippy::print_stdout, reason = "a row of the table that the test prints")]
async fn through(name: &str, mode: Mode, keys: &str, requests: usize) -> Count {
    let expected = usize::try_from(FINDINGS).unwrap() * usize::try_from(REVISIONS).unwrap();
    let faulty = Faulty::start();
    faulty.set(mode);
    let way = Way::to(&faulty, keys);
    way.put_all().await;
    way.pass(Duration::from_secs(5), "requests that fail", || faulty.requests() >= requests).await;
    faulty.set(Mode::Well);
    way.until_delivered().await;
    let dead = way.figures().await.dead;
    way.stop().await;
    let count = count(&faulty, expected);
    println!("{name:<40} {expected:>6} {:>8} {:>5} {:>6} {dead:>5}", faulty.requests(), count.lost, count.twice);
    assert_eq!((count.lost, dead), (0, 0), "{name}");
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_the_receiver_does() {
    println!("{:<40} {:>6} {:>8} {:>5} {:>6} {:>5}", "fault", "events", "requests", "lost", "twice", "dead");
    let none = Count { lost: 0, twice: 0 };
    let http_date = |seconds: i64| {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(START.0 + seconds * 1000).unwrap());
        format!("Retry-After: {}\r\n", httpdate::fmt_http_date(at))
    };
    for (name, mode, requests) in [
        ("none", Mode::Well, 1),
        ("connection refused", Mode::Refuse, 20),
        ("no answer", Mode::Hang, 3),
        ("reset in the middle of the body", Mode::ResetMidBody, 8),
        ("slow", Mode::Slow(Duration::from_millis(300)), 3),
        ("storm of 500", Mode::Answer(500, String::new(), "boom"), 12),
        ("503, HEC code 9", Mode::Answer(503, String::new(), r#"{"text":"Server is busy","code":9}"#), 5),
        ("429, Retry-After in seconds", Mode::Answer(429, "Retry-After: 7\r\n".into(), ""), 3),
        ("429, Retry-After as a date", Mode::Answer(429, http_date(60), ""), 3),
        ("401, then repaired", Mode::Answer(401, String::new(), r#"{"text":"Token is required","code":2}"#), 3),
        ("403, then repaired", Mode::Answer(403, String::new(), r#"{"text":"Invalid token","code":4}"#), 2),
        ("404, then repaired", Mode::Answer(404, String::new(), "no such page"), 2),
        ("wrong index, then repaired", Mode::Answer(400, String::new(), r#"{"text":"Incorrect index","code":7}"#), 2),
        ("redirected", Mode::Answer(307, "Location: http://127.0.0.1:9/\r\n".into(), ""), 2),
        ("413 above ten findings", Mode::AtMost(10), 10),
    ] {
        assert_eq!(through(name, mode, "", requests).await, none, "{name}");
    }
    // What was taken and not answered comes again: the receiver knows it by its id.
    for (name, mode) in [("answer cut short", Mode::TruncatedAnswer), ("taken, not answered", Mode::NoAnswer)] {
        assert!(through(name, mode, "", 3).await.twice > 0, "{name}");
    }
    assert_eq!(through("none, without compression", Mode::Well, "gzip = false\n", 1).await, none);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_finding_among_five_hundred_dies_alone_and_can_be_replayed() {
    let faulty = Faulty::start();
    let poison = revision(321, 1);
    faulty.set(Mode::Poison(poison.revision_id.to_string()));
    let way = Way::to(&faulty, "");
    way.put((1..=500).map(|finding| revision(finding, 1)).collect()).await;
    way.until_delivered().await;
    assert_eq!((faulty.taken().len(), way.figures().await.dead), (499, 1));
    assert!(faulty.requests() <= 30, "{}", faulty.requests());
    let dead = way.store.read(|connection| inspect::list(connection, &Filter::dead(10))).unwrap();
    assert_eq!((dead[0].revision_id, dead[0].state.as_str()), (poison.revision_id, "dead"));
    assert!(dead[0].reason.as_ref().unwrap().contains("400") && dead[0].attempts == 1, "{dead:?}");

    // A later revision is not held up by the dead one.
    way.put(vec![revision(321, 2)]).await;
    way.until_delivered().await;
    assert_eq!(faulty.taken().last().unwrap().revision, 2);

    faulty.set(Mode::Well);
    let now = way.clock.now();
    assert_eq!(way.store.write(move |tx| inspect::replay(tx, &Filter::dead(10), now)).await.unwrap(), 1);
    way.until_delivered().await;
    way.stop().await;
    let ids: BTreeSet<String> = faulty.taken().into_iter().map(|one| one.id).collect();
    assert_eq!((ids.len(), faulty.taken().len()), (501, 501));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_is_a_floor_that_survives_a_restart() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(429, "Retry-After: 600\r\n".into(), ""));
    let way = Way::to(&faulty, "");
    way.put(vec![revision(1, 1)]).await;
    way.pass(Duration::ZERO, "the first try", || faulty.requests() == 1).await;
    way.pass(Duration::ZERO, "it to be recorded", || way.standing().0 == "failing").await;
    faulty.set(Mode::Well);
    let way = way.restart().await;
    let asked = way.clock.now();
    way.pass(Duration::from_secs(5), "ten minutes", || {
        faulty.requests() == 2 || way.clock.now().millis_since(asked) > 700_000
    })
    .await;
    assert!(way.clock.now().millis_since(asked) >= 600_000, "{}", way.clock.now().millis_since(asked));
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 1), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_outage_costs_few_requests_and_nothing_else() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(503, String::new(), "down for maintenance"));
    let way = Way::to(&faulty, "");
    let began = way.clock.now();
    for number in 1..=REVISIONS {
        way.put((1..=FINDINGS).map(|finding| revision(finding, number)).collect()).await;
        let until = i64::from(number) * 12 * 60_000;
        way.pass(Duration::from_secs(5), "time", || way.clock.now().millis_since(began) >= until).await;
    }
    let during = faulty.requests();
    assert_eq!(way.standing().0, "open");
    assert!((10..80).contains(&during), "an hour took {during} requests");
    faulty.set(Mode::Well);
    let recovered = way.clock.now();
    way.until_delivered_by(Duration::from_millis(500)).await;
    let took = way.clock.now().millis_since(recovered);
    way.stop().await;
    assert!(took < 6 * 60_000, "{took} ms after the receiver came back");
    println!("an hour of 503: {during} requests, all 500 delivered {} s after it came back", took / 1000);
    assert_eq!(count(&faulty, 500), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_sink_keeps_everything_through_a_restart_and_its_file_is_read_again() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(401, String::new(), r#"{"text":"Invalid authorization","code":3}"#));
    let way = Way::to(&faulty, "");
    way.put_all().await;
    way.pass(Duration::from_secs(5), "it to be blocked", || way.standing().0 == "blocked").await;
    let requests = faulty.requests();
    let blocked = way.clock.now();
    way.pass(Duration::from_secs(5), "half an hour", || way.clock.now().millis_since(blocked) > 30 * 60_000).await;
    assert!((4..=8).contains(&(faulty.requests() - requests)), "{}", faulty.requests() - requests);
    assert!(way.standing().1.unwrap().contains("Invalid authorization"));
    assert_eq!((way.figures().await.pending, way.figures().await.dead), (500, 0));
    faulty.set(Mode::Well);
    // At once, not after the next five minutes.
    let way = way.restart().await;
    way.pass(Duration::ZERO, "it to recover", || way.standing().0 == "ok").await;
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 500), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_waited_for_and_without_them_it_is_sent_again() {
    let faulty = Faulty::start();
    faulty.acknowledge();
    let way = Way::to(&faulty, "ack = true\nack_timeout_seconds = 5\n");
    way.put((1..=20).map(|finding| revision(finding, 1)).collect()).await;
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 20), Count { lost: 0, twice: 0 });

    // A token without acknowledgement: kept, and said so.
    let faulty = Faulty::start();
    let way = Way::to(&faulty, "ack = true\n");
    way.put(vec![revision(1, 1)]).await;
    way.pass(Duration::ZERO, "it to be blocked", || way.standing().0 == "blocked").await;
    assert!(way.standing().1.unwrap().contains("ackId"), "{:?}", way.standing());
    way.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_refuses_everything_is_blocked_before_much_is_given_up() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(400, String::new(), r#"{"text":"Invalid data format","code":6}"#));
    let way = Way::to(&faulty, "");
    way.put((1..=500).map(|finding| revision(finding, 1)).collect()).await;
    way.pass(Duration::from_secs(5), "it to be blocked", || way.standing().0 == "blocked").await;
    assert!(way.standing().1.unwrap().contains("refuses every finding"), "{:?}", way.standing());
    assert_eq!((way.figures().await.pending, way.figures().await.dead), (450, 50));
    assert!(faulty.requests() <= 130, "{}", faulty.requests());
    // Probes are refused as well, and kept.
    let (blocked, requests) = (way.clock.now(), faulty.requests());
    way.pass(Duration::from_secs(5), "half an hour", || way.clock.now().millis_since(blocked) > 30 * 60_000).await;
    assert!((4..=8).contains(&(faulty.requests() - requests)), "{}", faulty.requests() - requests);
    assert_eq!(way.figures().await.dead, 50);

    faulty.set(Mode::Well);
    way.until_delivered().await;
    assert_eq!(faulty.taken().len(), 450);
    let now = way.clock.now();
    let replay = move |tx: &rusqlite::Transaction<'_>| inspect::replay(tx, &Filter::dead(100), now);
    assert_eq!(way.store.write(replay).await.unwrap(), 50);
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 500), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn several_batches_are_on_their_way_in_order_and_one_to_a_receiver_in_trouble() {
    const MANY: u128 = 3000;
    let faulty = Faulty::start();
    faulty.set(Mode::Slow(Duration::from_millis(200)));
    let way = Way::to(&faulty, "");
    for number in 1..=2 {
        way.put((1..=MANY).map(|finding| revision(finding, number)).collect()).await;
    }
    way.pass(Duration::ZERO, "the first to arrive", || faulty.taken().len() > 1500).await;
    assert_eq!(faulty.most_at_once(), 4, "max_in_flight");
    let taken = faulty.taken();
    let ids: BTreeSet<&String> = taken.iter().map(|one| &one.id).collect();
    assert_eq!(ids.len(), taken.len(), "each is on its way once");

    faulty.set(Mode::Answer(429, "Retry-After: 600\r\n".into(), ""));
    way.pass(Duration::ZERO, "it to fail", || way.standing().0 == "failing").await;
    // What was on its way is answered, well or not.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (asked, requests) = (way.clock.now(), faulty.requests());
    way.pass(Duration::from_secs(30), "nearly ten minutes", || way.clock.now().millis_since(asked) >= 570_000).await;
    assert_eq!(faulty.requests(), requests, "it asked for ten minutes of quiet");
    assert_eq!(way.standing().0, "failing", "several that failed together are one failure");
    faulty.most_at_once();
    faulty.set(Mode::Answer(503, String::new(), "down"));
    way.pass(Duration::from_secs(30), "probes", || faulty.requests() >= requests + 6).await;
    assert_eq!((faulty.most_at_once(), way.standing().0.as_str()), (1, "open"));

    for mode in [Mode::NoAnswer, Mode::AtMost(100)] {
        faulty.set(mode);
        let requests = faulty.requests();
        way.pass(Duration::from_secs(30), "more requests", || faulty.requests() >= requests + 8).await;
    }
    faulty.set(Mode::Well);
    way.until_delivered().await;
    assert_eq!(way.figures().await.dead, 0);
    way.stop().await;
    let arrived = count(&faulty, 6000);
    assert!(arrived.lost == 0 && arrived.twice > 0, "{arrived:?}");
}
