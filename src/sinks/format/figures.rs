//! The window, the baseline and the exact counts, for which no foreign format has a place: `unmapped.authspike` in OCSF,
//! `authspike` in ECS, `figures` in the plain form.
//!
//! Invariant: a contract of its own. These are copies with names of their own, so that renaming a field of
//! [`Finding`] cannot silently change what a SIEM's saved searches look for.
//!
//! Not here: anything a format has an attribute for, except where that attribute is bounded and this is the full list.

use serde::Serialize;

use crate::finding::{Compromised, Counted, Finding, Sample};

/// Suspected accounts in a record, which has to pass through log shippers; `suspected_total` says how many there are, and
/// the read API has the full list.
const MAX_SUSPECTED: usize = 250;

/// Moments are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures<'a> {
    lifecycle: &'static str,
    shape: &'static str,
    entity: EntityFigures<'a>,
    window: WindowFigures,
    baseline: BaselineFigures,
    totals: TotalFigures,
    accounts: SampleFigures<'a>,
    addresses: SampleFigures<'a>,
    reasons: Vec<CountedFigures<'a>>,
    user_agents: Vec<CountedFigures<'a>>,
    compromised: Vec<CompromisedFigures<'a>>,
    compromised_total: u64,
    suspected: Vec<CompromisedFigures<'a>>,
    suspected_total: u64,
    networks: Vec<CountedFigures<'a>>,
    networks_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<&'a str>,
    folded_total: u64,
    shapes: Vec<LikelihoodFigures>,
    /// Lists were shortened to fit; so many bytes had the whole record.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_from_bytes: Option<usize>,
}

#[derive(Clone, Debug, Serialize)]
struct LikelihoodFigures {
    shape: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct EntityFigures<'a> {
    kind: &'static str,
    value: &'a str,
}

#[derive(Clone, Debug, Serialize)]
struct WindowFigures {
    start_time: i64,
    end_time: i64,
    failures: u64,
    distinct: u64,
    successes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<f64>,
    threshold: u64,
}

#[derive(Clone, Debug, Serialize)]
struct BaselineFigures {
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_day: Option<f64>,
    observed_seconds: u64,
    learning: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct TotalFigures {
    failures: u64,
    unknown_identifiers: u64,
    successes: u64,
    password_correct_stopped: u64,
    locked: u64,
    rate_limited: u64,
    blocked: u64,
    codes_sent: u64,
}

#[derive(Clone, Debug, Serialize)]
struct SampleFigures<'a> {
    values: &'a [String],
    total: u64,
    exact: bool,
}

#[derive(Clone, Debug, Serialize)]
struct CountedFigures<'a> {
    value: &'a str,
    count: u64,
}

#[derive(Clone, Debug, Serialize)]
struct CompromisedFigures<'a> {
    account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    time: i64,
    how: &'static str,
}

/// Everything of `finding` that other formats have no attribute for; `cut_from_bytes` as in [`super::fit`].
pub(super) fn figures(finding: &Finding, cut_from_bytes: Option<usize>) -> Figures<'_> {
    let evidence = &finding.evidence;
    Figures {
        lifecycle: finding.lifecycle.as_str(),
        shape: finding.shape.as_str(),
        entity: EntityFigures { kind: finding.entity.kind.as_str(), value: &finding.entity.value },
        window: window(finding),
        baseline: BaselineFigures {
            source: evidence.baseline.source.as_str(),
            per_day: significant(evidence.baseline.per_day),
            observed_seconds: evidence.baseline.observed_seconds,
            learning: evidence.baseline.learning.as_str(),
        },
        totals: totals(finding),
        accounts: sample(&evidence.accounts),
        addresses: sample(&evidence.addresses),
        reasons: counted(&evidence.reasons),
        user_agents: counted(&evidence.user_agents),
        compromised: compromised(&evidence.compromised),
        compromised_total: evidence.compromised_total,
        suspected: compromised(evidence.suspected.get(..MAX_SUSPECTED).unwrap_or(&evidence.suspected)),
        suspected_total: evidence.suspected_total,
        networks: counted(&evidence.networks),
        networks_total: evidence.networks_total,
        within: evidence.within.as_deref(),
        folded_total: evidence.folded_total,
        shapes: evidence
            .shapes
            .iter()
            .map(|one| LikelihoodFigures { shape: one.shape.as_str(), fit: one.fit.is_finite().then_some(one.fit) })
            .collect(),
        cut_from_bytes: cut_from_bytes.or(evidence.cut_from_bytes),
    }
}

fn window(finding: &Finding) -> WindowFigures {
    let peak = &finding.evidence.peak;
    WindowFigures {
        start_time: peak.start.0,
        end_time: peak.end.0,
        failures: peak.failures,
        distinct: peak.distinct,
        successes: peak.successes,
        ratio: peak.ratio.is_finite().then_some(peak.ratio),
        expected: significant(peak.expected),
        threshold: peak.threshold,
    }
}

fn totals(finding: &Finding) -> TotalFigures {
    let totals = &finding.evidence.totals;
    TotalFigures {
        failures: totals.failures,
        unknown_identifiers: totals.unknown_identifiers,
        successes: totals.successes,
        password_correct_stopped: totals.password_correct_stopped,
        locked: totals.locked,
        rate_limited: totals.rate_limited,
        blocked: totals.blocked,
        codes_sent: totals.codes_sent,
    }
}

fn compromised(accounts: &[Compromised]) -> Vec<CompromisedFigures<'_>> {
    accounts
        .iter()
        .map(|one| CompromisedFigures {
            account: &one.account,
            address: one.address.as_deref(),
            time: one.at.0,
            how: one.how.as_str(),
        })
        .collect()
}

fn sample(sample: &Sample) -> SampleFigures<'_> {
    SampleFigures { values: &sample.values, total: sample.total, exact: sample.exact }
}

fn counted(values: &[Counted]) -> Vec<CountedFigures<'_>> {
    values.iter().map(|one| CountedFigures { value: &one.value, count: one.count }).collect()
}

/// `value` to four significant digits: a learned rate is no better than that, and its last bits would make a line hard
/// to read. `None` for what JSON cannot hold.
fn significant(value: f64) -> Option<f64> {
    if value.is_finite() { format!("{value:.3e}").parse().ok() } else { None }
}
