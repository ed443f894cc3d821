//! Each comparator at the edge that defines it.

use std::net::IpAddr;

use super::suite::comparators::{
    Alert, Comparator, DAY, HOUR, MINUTE, Seen, crowdsec, elastic, ewma, fail2ban, panther, sentinel, splunk,
};

/// A Monday, midnight.
const T0: i64 = 1_767_571_200_000;

fn failure(at: i64, ip: u8, account: u64) -> Seen {
    Seen { at: T0 + at, ip: [203, 0, 113, ip].into(), account, agent: 0, failed: true }
}

fn success(at: i64, ip: u8, account: u64) -> Seen {
    Seen { failed: false, ..failure(at, ip, account) }
}

/// What `rule` makes of `lines`, and of nothing for a while after them.
fn alerts(mut rule: impl Comparator, lines: impl IntoIterator<Item = Seen>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut last = T0;
    for line in lines {
        last = line.at;
        rule.observe(&line, &mut alerts);
    }
    // A success of somebody else a day later: what runs by the clock gets to run.
    let quiet = success(last - T0 + 25 * 60 * MINUTE, 250, u64::MAX);
    rule.observe(&quiet, &mut alerts);
    alerts
}

#[test]
fn the_fifth_failure_in_ten_minutes_bans_and_the_ban_is_silent() {
    assert_eq!(alerts(fail2ban::Fail2ban::default(), (0..4).map(|n| failure(n * 1000, 1, 0))), []);
    let five = alerts(fail2ban::Fail2ban::default(), (0..5).map(|n| failure(n * 149_000, 1, 0)));
    assert_eq!(five, [Alert::at_once(T0 + 596_000, IpAddr::from([203, 0, 113, 1]))]);
    // Nine minutes of a failure a second: one ban.
    assert_eq!(alerts(fail2ban::Fail2ban::default(), (0..540).map(|n| failure(n * 1000, 1, 0))).len(), 1);
}

#[test]
fn a_steady_slow_rate_adds_up_to_a_ban_and_a_slower_one_does_not() {
    // One every 130 s is 4.6 in ten minutes: rounding up each time makes it five. One every 170 s is 3.5.
    assert!(!alerts(fail2ban::Fail2ban::default(), (0..100).map(|n| failure(n * 130_000, 1, 0))).is_empty());
    assert_eq!(alerts(fail2ban::Fail2ban::default(), (0..100).map(|n| failure(n * 250_000, 1, 0))), []);
}

#[test]
fn the_sixth_at_once_overflows_and_what_leaks_in_time_does_not() {
    assert_eq!(alerts(crowdsec::Leaky::bf(), (0..5).map(|n| failure(n, 1, 0))), []);
    assert_eq!(alerts(crowdsec::Leaky::bf(), (0..6).map(|n| failure(n, 1, 0))).len(), 1);
    assert_eq!(alerts(crowdsec::Leaky::bf(), (0..100).map(|n| failure(n * 10_000, 1, 0))), []);
    // A minute of silence after the overflow, then six more.
    assert_eq!(alerts(crowdsec::Leaky::bf(), (0..131).map(|n| failure(n * 500, 1, 0))).len(), 2);
    assert_eq!(alerts(crowdsec::Leaky::slow_bf(), (0..10).map(|n| failure(n * 1000, 1, 0))), []);
    assert_eq!(alerts(crowdsec::Leaky::slow_bf(), (0..11).map(|n| failure(n * 1000, 1, 0))).len(), 1);
}

#[test]
fn to_user_enum_one_account_is_one_failure() {
    assert_eq!(alerts(crowdsec::Leaky::user_enum(), (0..100).map(|n| failure(n, 1, 0))), []);
    assert_eq!(alerts(crowdsec::Leaky::user_enum(), (0..6_u32).map(|n| failure(n.into(), 1, n.into()))).len(), 1);
}

#[test]
fn a_slow_pace_is_seen_and_a_success_forgives_it() {
    let every = |gap: i64| (0..4).map(move |n| failure(n * gap, 1, 0));
    assert_eq!(alerts(crowdsec::TimeBased::default(), every(601_000)).len(), 1);
    assert_eq!(alerts(crowdsec::TimeBased::default(), every(600_000)), []);
    assert_eq!(alerts(crowdsec::TimeBased::default(), every(2 * HOUR + 1)), []);
    let forgiven = every(601_000).take(3).chain([success(1_900_000, 1, 9), failure(2_000_000, 1, 0)]);
    assert_eq!(alerts(crowdsec::TimeBased::default(), forgiven), []);
}

#[test]
fn the_twentieth_within_the_hour_fires_once() {
    assert_eq!(alerts(panther::Panther::default(), (0..19).map(|n| failure(n * 1000, 1, 0))), []);
    assert_eq!(alerts(panther::Panther::default(), (0..200).map(|n| failure(n * 1000, 1, 0))).len(), 1);
    // 20 tries that take a second longer than the hour.
    let gap = HOUR / 19 + 1000;
    assert_eq!(alerts(panther::Panther::default(), (0..20).map(|n| failure(n * gap, 1, 0))), []);
}

#[test]
fn ten_accounts_in_one_span_fire_and_not_across_its_edge() {
    let ten = |from: i64| (0..10).map(move |n: u32| failure(from + i64::from(n) * 1000, 1, n.into()));
    assert_eq!(alerts(splunk::Okta::new(), ten(0)).len(), 1);
    assert_eq!(alerts(splunk::Okta::new(), ten(0))[0].at, T0 + 5 * MINUTE);
    assert_eq!(alerts(splunk::Okta::new(), ten(0).take(9)), []);
    assert_eq!(alerts(splunk::Okta::new(), ten(5 * MINUTE - 5000)), []);
}

/// `spans` spans with one failing account from each of so many addresses.
fn spans(counts: &[u32], span: i64, one_address: bool) -> Vec<Seen> {
    let lines = (0..).zip(counts).flat_map(|(number, count)| {
        (0..*count).map(move |who| {
            let ip = if one_address { 1 } else { u8::try_from(who % 200).unwrap() };
            failure(number * span + i64::from(who), ip, who.into())
        })
    });
    lines.collect()
}

#[test]
fn a_burst_in_a_quiet_hour_is_three_deviations_and_one_that_lasts_hides_itself() {
    let never: [Vec<i64>; 2] = [vec![], vec![]];
    let fires = |counts: &[u32]| {
        let lines = spans(counts, 2 * MINUTE, false);
        let [shipped, best] = [splunk::Distributed::new(), splunk::Distributed::at_its_best()];
        [alerts(shipped, lines.clone()), alerts(best, lines)]
            .map(|alerts| alerts.iter().map(|alert| alert.at - T0).collect::<Vec<_>>())
    };
    let mut counts = vec![2; 20];
    counts.push(80);
    // By the run at the full hour, and at the end of the span.
    assert_eq!(fires(&counts), [vec![HOUR], vec![42 * MINUTE]]);
    // Thirty are not enough, whatever the deviation.
    *counts.last_mut().unwrap() = 30;
    assert_eq!(fires(&counts), never);
    // A flood that lasts is its own mean.
    assert_eq!(fires(&[100, 104].repeat(30)), never);
    // By the next hour's run the quiet one is forgotten.
    assert_eq!(fires(&[vec![2; 30], vec![80]].concat()), [vec![], vec![62 * MINUTE]]);
}

#[test]
fn an_address_needs_eleven_spans_before_any_can_stand_out() {
    let mut counts = vec![1; 9];
    counts.push(150);
    // The largest deviation among n values is (n - 1) / sqrt(n): 2.85 for ten, 3.02 for eleven.
    assert_eq!(alerts(splunk::PerAddress::new(), spans(&counts, 5 * MINUTE, true)), []);
    counts.insert(0, 1);
    assert_eq!(alerts(splunk::PerAddress::new(), spans(&counts, 5 * MINUTE, true)).len(), 1);
}

/// `accounts` accounts, `tries` each, in turns, `gap` apart, from `addresses` addresses.
fn tries(accounts: u64, tries: u64, gap: i64, addresses: u8) -> Vec<Seen> {
    let lines = (0..accounts * tries).map(|n| {
        let ip = u8::try_from(n % u64::from(addresses)).unwrap();
        failure(i64::try_from(n).unwrap() * gap, ip, n % accounts)
    });
    lines.collect()
}

#[test]
fn stuffing_ends_where_an_account_is_tried_a_third_time() {
    assert_eq!(alerts(elastic::stuffing(), tries(25, 1, 1000, 1)).len(), 1);
    assert_eq!(alerts(elastic::stuffing(), tries(25, 1, 1000, 1))[0].at, T0 + 15 * MINUTE);
    assert_eq!(alerts(elastic::stuffing(), tries(24, 1, 1000, 1)), []);
    assert_eq!(alerts(elastic::stuffing(), tries(25, 3, 1000, 1)), []);
}

#[test]
fn a_spray_needs_rounds_and_five_minutes() {
    assert!(!alerts(elastic::spraying(), tries(8, 2, 21_000, 1)).is_empty());
    assert_eq!(alerts(elastic::spraying(), tries(8, 2, 1000, 1)), []);
    assert_eq!(alerts(elastic::spraying(), tries(16, 1, 21_000, 1)), []);
}

#[test]
fn many_sources_count_for_the_tenant_and_for_an_account() {
    assert_eq!(alerts(elastic::spraying_from_many(), tries(25, 1, 1000, 5)).len(), 1);
    assert_eq!(alerts(elastic::spraying_from_many(), tries(24, 1, 1000, 5)), []);
    assert_eq!(alerts(elastic::spraying_from_many(), tries(25, 1, 1000, 4)), []);
    assert!(!alerts(elastic::guessing_from_many(), tries(1, 10, 1000, 8)).is_empty());
    assert_eq!(alerts(elastic::guessing_from_many(), tries(1, 10, 1000, 7)), []);
}

#[test]
fn the_threshold_is_25() {
    assert!(!alerts(elastic::threshold(), tries(1, 25, 1000, 1)).is_empty());
    assert_eq!(alerts(elastic::threshold(), tries(1, 24, 1000, 1)), []);
}

#[test]
fn five_failing_accounts_fire_at_midnight_unless_as_many_succeed() {
    let failing = || (0..5_u32).map(|n| failure(i64::from(n) * 1000, 1, n.into()));
    let succeeding = |count: u32| (0..count).map(|n| success(10_000 + i64::from(n), 1, 100 + u64::from(n)));
    assert_eq!(alerts(sentinel::Sentinel::new(), failing()).len(), 1);
    assert_eq!(alerts(sentinel::Sentinel::new(), failing())[0].at, T0 + DAY);
    assert_eq!(alerts(sentinel::Sentinel::new(), failing().take(4)), []);
    assert_eq!(alerts(sentinel::Sentinel::new(), failing().chain(succeeding(4))).len(), 1);
    assert_eq!(alerts(sentinel::Sentinel::new(), failing().chain(succeeding(5))), []);
}

#[test]
fn five_failures_of_a_stranger_fire_and_fifty_times_the_usual_of_a_known_one() {
    assert_eq!(alerts(ewma::Ewma::default(), (0..4).map(|n| failure(n * 1000, 1, 0))), []);
    assert_eq!(alerts(ewma::Ewma::default(), (0..5).map(|n| failure(n * 1000, 1, 0))).len(), 1);
    // Four in every span for three weeks: the mean comes to 4 x (1 - 2^-3) = 3.5, so it takes 175.
    let weeks = 3 * 7 * DAY / (5 * MINUTE);
    let known = (0..weeks * 4).map(|n| failure(n / 4 * (5 * MINUTE) + n % 4, 1, 0));
    let burst = |count| (0..count).map(move |n| failure(weeks * (5 * MINUTE) + n, 1, 0));
    assert_eq!(alerts(ewma::Ewma::default(), known.clone().chain(burst(174))), []);
    assert_eq!(alerts(ewma::Ewma::default(), known.chain(burst(175))).len(), 1);
}
