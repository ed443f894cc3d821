//! What every event pays for users' names: a look that finds nobody, one that finds a user, and hearing again what is known.

use authspike::alias::{Aliases, Config};
use authspike::event::{Account, IdentifierHash, Timestamp};
use authspike::metrics::Metrics;
use authspike::normalize::identifier::IdentifierKey;
use authspike::normalize::{Names, attempt};
use criterion::{Criterion, Throughput};

const ATTEMPT: &[u8] = br#"{"id":"1","occurred_at":1767600000000,"outcome":"failure","user_id":"user_2g7np7Hrk0SN6kj5EDMLDaKNL0S","identifier":"a@example.com","instance_id":"ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"}"#;
const NAMES: u64 = 1_000_000;

fn name(number: u64) -> IdentifierHash {
    // Odd multipliers spread them as a hash does, and no two are the same.
    let half = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half);
    bytes[8..].copy_from_slice(&half);
    IdentifierHash(bytes)
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let aliases = Aliases::in_memory(&Config::default(), &Metrics::new().unwrap().alias);
    let mut event = attempt::normalize(ATTEMPT, Some(Timestamp(1_767_600_000_000)), &IdentifierKey::new(&[7; 32]));
    let event = &mut event.as_mut().unwrap().event;
    for number in 0..NAMES {
        event.account = Some(Account::User(format!("user_{number:027}").into()));
        event.identifier = Some(name(number));
        aliases.learn(event, &Names::Tried);
    }
    let mut group = criterion.benchmark_group("alias");
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    for (what, from) in [("resolve", 0), ("resolve_nobody", NAMES)] {
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % NAMES;
                event.account = Some(Account::Identifier(name(from + number)));
                aliases.resolve(event);
            });
        });
    }
    group.bench_function("learn_what_is_known", |bencher| {
        event.account = Some(Account::User(format!("user_{:027}", 5).into()));
        event.identifier = Some(name(5));
        bencher.iter(|| aliases.learn(event, &Names::Tried));
    });
    group.finish();
}
