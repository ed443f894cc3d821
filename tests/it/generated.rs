//! Findings for property tests: any that the types allow, however odd.

use authspike::event::{Tenant, Timestamp};
use authspike::finding::{
    BaselineEvidence, BaselineSource, Compromise, Compromised, Counted, Entity, EntityKind, Episode, Evidence, Finding,
    Learning, Lifecycle, Likelihood, Rule, Sample, Severity, Shape, Totals, WindowEvidence,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

/// Anything an attacker or a careless sender might get into a string, and what we expect there.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        any::<String>(),
        "user_[a-zA-Z0-9]{27}",
        "idh_[0-9a-f]{32}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("{ip}/64")),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        select(vec!["", "\0", "\n\r\n", "\u{1b}[31m", "\u{2028}", "\u{202e}abc", "\"}\\", "::ffff:203.0.113.7", "::"])
            .prop_map(str::to_owned),
    ]
}

fn moment() -> impl Strategy<Value = Timestamp> {
    prop_oneof![1_600_000_000_000..1_900_000_000_000_i64, any::<i64>()].prop_map(Timestamp)
}

/// Mostly sane, sometimes at the end of the range.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..2000_u64, any::<u64>()]
}

fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1000.0_f64, any::<f64>(), select(vec![f64::NAN, f64::INFINITY, 0.0, 1e-300])]
}

fn sample() -> impl Strategy<Value = Sample> {
    (vec(text(), 0..40), count(), any::<bool>()).prop_map(|(values, total, exact)| Sample { values, total, exact })
}

fn counted() -> impl Strategy<Value = Vec<Counted>> {
    vec((text(), count()).prop_map(|(value, count)| Counted { value, count }), 0..12)
}

fn compromised() -> impl Strategy<Value = Vec<Compromised>> {
    let how = select(vec![Compromise::SignedIn, Compromise::PasswordCorrect]);
    let one = (text(), option::of(text()), moment(), how);
    vec(one.prop_map(|(account, address, at, how)| Compromised { account, address, at, how }), 0..60)
}

fn peak() -> impl Strategy<Value = WindowEvidence> {
    (moment(), moment(), count(), count(), count(), figure(), figure(), count()).prop_map(
        |(start, end, failures, distinct, successes, ratio, expected, threshold)| WindowEvidence {
            start,
            end,
            failures,
            distinct,
            successes,
            ratio,
            expected,
            threshold,
        },
    )
}

fn totals() -> impl Strategy<Value = Totals> {
    proptest::array::uniform8(count()).prop_map(|counts| Totals {
        failures: counts[0],
        unknown_identifiers: counts[1],
        successes: counts[2],
        password_correct_stopped: counts[3],
        locked: counts[4],
        rate_limited: counts[5],
        blocked: counts[6],
        codes_sent: counts[7],
    })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let source = select(vec![BaselineSource::Prior, BaselineSource::Tenant, BaselineSource::Entity]);
    let learning = select(Learning::ALL.to_vec());
    let baseline = (source, figure(), count(), learning).prop_map(|(source, per_day, observed_seconds, learning)| {
        BaselineEvidence { source, per_day, observed_seconds, learning }
    });
    let shapes = vec((select(Shape::ALL.to_vec()), figure()).prop_map(|(shape, fit)| Likelihood { shape, fit }), 0..5);
    let within = option::of(select(vec!["2001:db8:1::/48".to_owned(), "2001:db8:1:ab00::/56".to_owned()]));
    let distributed = (compromised(), count(), counted(), count(), within, count(), shapes);
    let samples = (sample(), sample(), counted(), counted());
    (peak(), baseline, totals(), samples, (compromised(), count()), distributed).prop_map(
        |(peak, baseline, totals, samples, (compromised, compromised_total), distributed)| {
            let (accounts, addresses, reasons, user_agents) = samples;
            let (suspected, suspected_total, networks, networks_total, within, folded_total, shapes) = distributed;
            Evidence {
                peak,
                baseline,
                totals,
                accounts,
                addresses,
                reasons,
                user_agents,
                compromised,
                compromised_total,
                suspected,
                suspected_total,
                networks,
                networks_total,
                within,
                folded_total,
                shapes,
                cut_from_bytes: None,
            }
        },
    )
}

fn episode() -> impl Strategy<Value = Episode> {
    (moment(), moment(), moment(), option::of(moment())).prop_map(
        |(started_at, first_seen_at, last_seen_at, closed_at)| Episode {
            started_at,
            first_seen_at,
            last_seen_at,
            closed_at,
        },
    )
}

/// Any finding.
pub(crate) fn finding() -> impl Strategy<Value = Finding> {
    let kinds = (
        select(Lifecycle::ALL.to_vec()),
        select(Rule::ALL.to_vec()),
        select(EntityKind::ALL.to_vec()),
        select(Shape::ALL.to_vec()),
        select(Severity::ALL.to_vec()),
    );
    let ids = (any::<u128>(), any::<u128>(), any::<u32>(), option::of(any::<u128>()));
    (ids, kinds, moment(), text(), text(), episode(), evidence()).prop_map(
        |(ids, (lifecycle, rule, kind, shape, severity), at, tenant, value, episode, evidence)| Finding {
            finding_id: Uuid::from_u128(ids.0),
            revision_id: Uuid::from_u128(ids.1),
            revision: ids.2,
            lifecycle,
            at,
            tenant: Tenant::from(tenant.as_str()),
            rule,
            entity: Entity { kind, value },
            shape,
            severity,
            episode,
            correlation: ids.3.map(Uuid::from_u128),
            evidence,
        },
    )
}
