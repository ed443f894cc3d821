//! The detector alone, one core: events of a busy tenant over a steady population of entities.

use authspike::detect::{Config, Detector};
use authspike::event::{Account, AuthEvent, Outcome, Source, Timestamp};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use std::net::{IpAddr, Ipv4Addr};

const BATCH: usize = 20_000;

/// `users` accounts, each at an address of its own, in networks of eight: 2 1/8 entities a user.
struct Events {
    users: u32,
    state: u64,
    number: i64,
}

impl Iterator for Events {
    type Item = AuthEvent;

    fn next(&mut self) -> Option<AuthEvent> {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.number += 1;
        let user = u32::try_from((self.state >> 33) % u64::from(self.users)).unwrap();
        let failed = (self.state >> 20).is_multiple_of(5);
        // Twenty attempts a day of each: more than people make, few enough to be no attack.
        let at = Timestamp(1_767_600_000_000 + self.number * 4_320_000 / i64::from(self.users));
        Some(AuthEvent {
            id: String::new().into(),
            occurred_at: at,
            received_at: at,
            tenant: "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S".into(),
            source: Source::AttemptReport,
            outcome: if failed { Outcome::Failure } else { Outcome::Success },
            reason: failed.then(|| "form_password_incorrect".into()),
            ip: Some(IpAddr::V4(Ipv4Addr::from_bits(0x1000_0000 + (user / 8) * 256 + user % 8))),
            account: Some(Account::User(format!("user_2g7np7Hrk0SN6kj5ED{user:09}").into())),
            identifier: None,
            user_agent: Some("Mozilla/5.0 (Linux; Android 10; K) Chrome/142.0.0.0 Mobile".into()),
            session: None,
        })
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("detect");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (entities, users) in [(10_000, 4_700), (100_000, 47_000), (1_000_000, 470_000), (5_000_000, 2_350_000)] {
        let mut warm: Option<(Detector, Events)> = None;
        let mut found = Vec::new();
        group.bench_function(BenchmarkId::new("observe_entities", entities), |bencher| {
            // Once, and only if this size was asked for.
            let (detector, events) = warm.get_or_insert_with(|| {
                let mut detector = Detector::new(&Config { max_state_bytes: 3 << 30, ..Config::default() });
                let mut events = Events { users, state: 1, number: 0 };
                events.by_ref().take(users as usize * 5).for_each(|event| detector.observe(event, &mut found));
                (detector, events)
            });
            bencher.iter_batched(
                || events.by_ref().take(BATCH).collect::<Vec<_>>(),
                |batch| batch.into_iter().for_each(|event| detector.observe(event, &mut found)),
                BatchSize::LargeInput,
            );
        });
        let Some((detector, _)) = warm else { continue };
        // The bound that the documentation states, and that this was the everyday path.
        let stats = detector.stats();
        assert!(stats.entity_bytes <= 128, "{stats:?}");
        assert!(stats.entities.iter().sum::<u64>() > entities * 8 / 10, "{stats:?}");
        assert_eq!(found, [], "{stats:?}");
    }
    group.finish();
}
