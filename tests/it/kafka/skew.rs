//! One address sends nine tenths of everything.

use std::fmt::Write as _;

use authspike::clock::Stopwatch;

use super::cluster::Cluster;
use super::fleet::{ALL, Fleet, post, traffic};
use crate::support::until;

/// Attempts of the one address, at a tenant of its own.
const LOUD: usize = 60_000;

#[test]
fn one_address_with_nine_tenths_of_the_traffic_delays_nobody_for_long_and_changes_no_finding() {
    let fleet = Fleet::new(Cluster::shared(), 6, 1, "classic");
    let first = fleet.start(&ALL);
    let second = fleet.start(&["detect"]);
    let quiet = traffic("40m");
    // From the same start as the others, in the same 40 minutes.
    let loud: Vec<String> = (0..LOUD)
        .map(|number| {
            let at = 1_767_571_200_000_i64 + i64::try_from(number * 2_400_000 / LOUD).unwrap();
            let outcome = if number % 3 == 0 { "failure" } else { "success" };
            let mut line = String::new();
            write!(
                line,
                r#"{{"id":"loud-{number}","instance_id":"ins_loud","occurred_at":{at},"outcome":"{outcome}","ip":"203.0.113.77","user_id":"user_{}"}}"#,
                number % 500
            )
            .unwrap();
            line
        })
        .collect();
    assert!(loud.len() > 5 * quiet.len());
    for lines in loud.chunks(5000) {
        post(&first, lines);
    }
    post(&first, &quiet);
    let posted = Stopwatch::start();
    let judged = || first.metric("authspike_detect_events_total") + second.metric("authspike_detect_events_total");
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
    let all = (loud.len() + quiet.len()) as f64;
    until("everything to be judged", || (judged() == all).then_some(()));
    let behind = posted.elapsed();
    let revisions = fleet.settled();
    fleet.delivered(&revisions, &[first.data_dir.join("findings.jsonl")]);
    // The detectors kept up: what was posted last was judged moments later.
    assert!(behind.as_secs() < 20, "{behind:?}");
}
