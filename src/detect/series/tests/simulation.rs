//! What it says of simulated tenants: quiet ones, attacked ones, and ones that somebody tries to teach.

use super::traffic::*;
use crate::detect::series::bucket::start_of;
use crate::detect::series::*;

fn learned(population: Population, seed: u64, weeks: u32) -> Tenant {
    let mut tenant = Tenant::new(population, seed, MONDAY + 9 * 12);
    tenant.quiet(weeks * WEEK);
    tenant
}

/// Alarms that went up, and tenant-days, over 60 days from each day of the week on.
fn alarms_of(population: Population, seeds: u64) -> (u32, u32) {
    let (mut alarms, mut buckets) = (0, 0);
    for seed in 0..seeds {
        let mut tenant = Tenant::new(population, seed + 1, MONDAY + (seed * 5 % 7) as u32 * DAY + 9 * 12);
        let mut last = None;
        for _ in 0..60 * DAY {
            let alarm = tenant.bucket(1.0, 0);
            alarms += u32::from(alarm.is_some() && last.is_none());
            buckets += 1;
            last = alarm;
        }
    }
    (alarms, buckets / DAY)
}

#[test]
fn quiet_tenants_are_quiet_from_the_first_day_on() {
    for (peak, successes) in [(0.5, 2.0), (5.0, 2.0), (30.0, 8.0)] {
        let (alarms, days) = alarms_of(Population { peak, successes, ..OFFICE }, 7);
        println!("peak {peak}, {successes} sign-ins per failure: {alarms} alarms in {days} tenant-days");
        assert_eq!(alarms, 0, "{peak} {successes} in {days} days");
    }
    // Buckets that vary by 58 % and days that vary by 30 % more than Poisson, with few sign-ins to explain them.
    let (alarms, days) = alarms_of(Population { peak: 2.0, successes: 2.0, steadiness: 3.0, days: 0.3 }, 14);
    println!("restless: {alarms} alarms in {days} tenant-days");
    assert!(f64::from(alarms) <= 0.06 * f64::from(days), "{alarms} in {days}");
}

#[test]
fn an_attack_is_noticed_about_as_soon_as_the_formula_says() {
    for peak in [1.5, 6.0] {
        let steady = Population { peak, successes: 8.0, steadiness: 1000.0, days: 0.0 };
        // A Tuesday at 9:30, when the day is at its height.
        let mut tenant = learned(steady, 7, 6);
        tenant.quiet(DAY + 6);
        let (mean, variance) = (tenant.mean(), tenant.series.spread.factor(tenant.mean()));
        for ratio in [3.0, 5.0, 10.0] {
            let runs = 40;
            let total: u32 = (0..runs)
                .map(|run| {
                    let (mut series, mut random) = (tenant.series.clone(), Random::new(run + 1));
                    (1..400)
                        .find(|bucket| {
                            let number = series.running.number + 1;
                            let failures = random.poisson(mean * ratio);
                            put(&mut series, number, failures, random.poisson(mean * 8.0), &tenant.limits);
                            series.alarm().is_some() || *bucket == 399
                        })
                        .unwrap_or(400)
                })
                .sum();
            let delay = f64::from(total) / runs as f64;
            let formula = 20.0 * variance / (mean * (ratio * std::f64::consts::LN_2 - 1.0));
            println!("mean {mean:.2}, V {variance:.2}, {ratio} times: {delay:.1} buckets, by formula {formula:.1}");
            assert!(delay <= 1.35 * formula + 1.0, "{mean} {ratio}: {delay} {formula}");
            assert!(delay >= 0.5 * formula - 1.0, "sooner than it can: {mean} {ratio}: {delay} {formula}");
        }
    }
}

#[test]
fn a_campaign_with_its_sign_ins_is_no_attack_and_the_same_failures_without_are() {
    let mut tenant = learned(OFFICE, 11, 4);
    tenant.quiet(2 * DAY);
    let mut attacked = learned(OFFICE, 11, 4);
    attacked.quiet(2 * DAY);
    for _ in 0..36 {
        assert_eq!(tenant.bucket(5.0, 0), None);
    }
    let failures = (4.0 * attacked.mean()) as u32;
    let seen = (0..36).find(|_| attacked.bucket(1.0, failures).is_some());
    assert!(seen.is_some_and(|buckets| buckets < 6), "{seen:?}");
}

#[test]
fn a_cold_start_is_quiet_for_a_crowd_and_not_for_an_attack() {
    let limits = Limits::default();
    // 100,000 accounts come on Monday at nine, from networks never seen: 5,000 get in every five minutes, a fifth as many
    // fail.
    let monday = |attack: u32, crowd: u32| {
        let mut series = Series::starting_at(start_of(MONDAY + 9 * 12));
        (0..12).find(|bucket| {
            put(&mut series, MONDAY + 9 * 12 + bucket, crowd / 5 + attack, crowd, &limits);
            series.alarm() == Some(Alarm::Ceiling)
        })
    };
    assert_eq!(monday(0, 5000), None);
    assert_eq!(monday(0, 40), None);
    // 50,000 addresses with one try each, over the hour.
    assert_eq!(monday(50_000 / 12, 5000), Some(0));
    assert_eq!(monday(50_000 / 12, 40), Some(0));
    // The bound: what stays below the sign-ins of the same time is not seen.
    assert_eq!(monday(3900, 5000), None);
}

#[test]
fn an_attack_that_is_seen_teaches_nothing() {
    for times in [3.0, 10.0] {
        let mut tenant = learned(OFFICE, 5, 6);
        let before = tenant.series.season.clone();
        let mut up = 0;
        for _ in 0..7 * DAY {
            let attack = (times - 1.0) * tenant.mean();
            let attack = Random::new(u64::from(tenant.series.running.number)).poisson(attack);
            up += u32::from(tenant.bucket(1.0, attack).is_some());
        }
        let worst = (0..168)
            .map(|hour| {
                let number = MONDAY + 8 * WEEK + hour * 12;
                tenant.series.season.normal(number).failures / before.normal(number).failures
            })
            .fold(0.0, f64::max);
        println!("{times} times for a week: up {up} of {} buckets, the most taught {worst:.3}", 7 * DAY);
        assert!(worst < 1.1, "{times}: {worst}");
    }
}

#[test]
fn a_patient_attacker_needs_weeks_to_double_what_is_normal_even_if_no_alarm_is_heeded() {
    for (peak, doubled, fifty) in [(1.0, 10, 105), (30.0, 20, 130)] {
        let mut tenant = learned(Population { peak, ..OFFICE }, 3, 12);
        tenant.limits = Limits { minimum: u64::MAX, drift_threshold: f64::INFINITY, ..Limits::default() };
        let mean_of = |tenant: &Tenant| {
            (0..168).map(|hour| tenant.series.season.normal(MONDAY + hour * 12).failures).sum::<f64>() / 168.0
        };
        let before = mean_of(&tenant);
        let mut days_to = [0; 3];
        for _ in 0..140 {
            for _ in 0..DAY {
                tenant.bucket(1.0, 100_000);
            }
            for (reached, times) in days_to.iter_mut().zip([2.0, 4.0, 50.0]) {
                *reached += u32::from(mean_of(&tenant) < times * before);
            }
        }
        println!("mean {before:.2}: days until 2, 4 and 50 times {days_to:?}");
        assert!(days_to[0] >= doubled && days_to[2] >= fifty, "{peak}: {days_to:?}");
    }
}

#[test]
fn a_ramp_is_seen_before_it_has_doubled() {
    for per_day in [1.02, 1.25] {
        let mut tenant = learned(OFFICE, 9, 8);
        let (mut times, mut days) = (1.0, 0);
        let seen = 'ramp: loop {
            for _ in 0..DAY {
                let attack = (times - 1.0) * tenant.mean();
                let attack = Random::new(u64::from(tenant.series.running.number)).poisson(attack);
                if tenant.bucket(1.0, attack).is_some() {
                    break 'ramp times;
                }
            }
            days += 1;
            times *= per_day;
            assert!(days < 100, "never seen");
        };
        println!("growing {per_day} a day: seen on day {days} at {seen:.2} times");
        assert!(seen < 2.0, "{per_day}: {seen}");
    }
}

#[test]
fn a_rate_that_has_risen_for_good_is_normal_in_the_end() {
    let mut tenant = learned(OFFICE, 13, 6);
    let mut last_up = 0;
    for day in 0..120 {
        for _ in 0..DAY {
            let more = (1.5 * tenant.mean()) as u32;
            if tenant.bucket(1.0, more).is_some() {
                last_up = day;
            }
        }
    }
    println!("2.5 times from one day to the next: last alarm on day {last_up}");
    assert!((7..90).contains(&last_up), "{last_up}");
}

#[test]
fn freezing_throws_away_what_waits_and_learns_nothing() {
    let mut tenant = learned(OFFICE, 17, 3);
    tenant.series.set_frozen(true);
    let before = tenant.series.season.clone();
    tenant.quiet(DAY);
    assert_eq!(tenant.series.season, before);
    tenant.series.set_frozen(false);
    tenant.quiet(DAY);
    assert_ne!(tenant.series.season, before);
}
