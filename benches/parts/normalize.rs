//! Bytes to events: one attempt line, one session.created body as documented.

use authspike::event::Timestamp;
use authspike::normalize::identifier::IdentifierKey;
use authspike::normalize::{attempt, clerk_webhook};
use criterion::{Criterion, Throughput};

const SESSION: &[u8] = include_bytes!("../../tests/fixtures/clerk/session.created.json");
const ATTEMPT: &[u8] = br#"{"id":"sim-3b8da9ead25f5605-0","occurred_at":"2026-01-05T00:00:41.870Z","outcome":"failure","reason":"form_password_incorrect","ip":"3fff:82c:9be9:0:22d0:867b:14f9:23da","user_id":"user_sim00016940","identifier":"person16940@example.com","user_agent":"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36","instance_id":"ins_simulated"}"#;

pub(crate) fn bench(criterion: &mut Criterion) {
    let key = IdentifierKey::new(&[7; 32]);
    let mut group = criterion.benchmark_group("normalize");
    group.throughput(Throughput::Elements(1));
    group.bench_function("attempt", |bencher| bencher.iter(|| attempt::normalize(ATTEMPT, None, &key).unwrap()));
    group.bench_function("session_created", |bencher| {
        let at = Some(Timestamp(1_716_883_205_000));
        bencher.iter(|| clerk_webhook::normalize(Some("msg_1"), SESSION, at, &key).unwrap());
    });
    group.finish();
}
