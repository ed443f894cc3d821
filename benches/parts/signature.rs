//! Verifying one Svix signature, body sizes as documented events have them.

use authspike::event::Timestamp;
use authspike::secret::Secret;
use authspike::sources::signature::{Signed, SigningKey};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use criterion::{BenchmarkId, Criterion, Throughput};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("signature");
    let key = SigningKey::new(&Secret::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")).unwrap();
    for bytes in [700, 1300, 3000] {
        let body = vec![b'x'; bytes];
        let signature = key.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1716883200", &body);
        let headers: HeaderMap = [
            ("svix-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
            ("svix-timestamp", "1716883200"),
            ("svix-signature", &signature),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::new("verify_bytes", bytes), &body, |bencher, body| {
            let keys = [key.clone()];
            bencher.iter(|| Signed::from_headers(&headers, Timestamp(1_716_883_200_000)).unwrap().verify(&keys, body));
        });
    }
    group.finish();
}
