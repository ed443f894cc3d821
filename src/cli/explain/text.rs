//! An explanation for a person: one block for every window, the verdict first.
//!
//! Invariant: the figures are those of the answer, nothing is judged here; what others chose (ids) cannot act on the
//! reader's screen.

use std::io::{self, Write};

use crate::detect::Explanation;
use crate::finding::{EntityKind, Finding, Learning, Lifecycle, Rule, Verdict};
use crate::pipeline::Answer;
use crate::sinks::format::prose::{self, counted, duration, figure, visible};
use crate::sinks::format::text::normal;

/// Chances of 1 in so many are written as a power of ten: nobody reads sixteen digits.
const MOST_ODDS: f64 = 1e15;

/// The answer: whom it is about, then a block for every window, each after an empty line.
pub(in crate::cli) fn write(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    writeln!(out, "{}, as of {} by the time of the events", visible(&answer.entity), answer.watermark)?;
    for one in &answer.explanations {
        let finding = answer.findings.iter().find(|finding| Some(finding.finding_id) == one.finding);
        writeln!(out)?;
        block(out, one, finding)?;
    }
    if let Some(note) = &answer.note {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn block(out: &mut impl Write, one: &Explanation, finding: Option<&Finding>) -> io::Result<()> {
    let (window, unit) = (&one.window, unit(one));
    let span = duration(window.end.millis_since(window.start));
    writeln!(out, "{}", headline(one, finding, &span))?;
    field(out, "rule", &format!("{} ({})", rule(one), one.rule.as_str()))?;
    field(out, "instance", &format!("{}, {}", visible(&one.tenant.0), learning(one.baseline.learning)))?;
    field(out, "window", &format!("{} to {} ({span}): {}", window.start, window.end, counts(one)))?;
    field(out, "normal", &normal(one.entity.kind, &one.baseline))?;
    let ratio = if one.judged() == 0 { "0".to_owned() } else { prose::ratio_of(window, &one.baseline) };
    let expected = format!("{} expected in that window", figure(window.expected));
    field(out, "ratio", &format!("{ratio}x normal ({expected}); it takes {}x", figure(one.factor)))?;
    let limit = odds(one.chance_limit);
    match one.chance {
        Some(chance) => field(out, "chance", &format!("{}; it takes less than {limit}", odds(chance)))?,
        None => field(out, "chance", &format!("it takes less than {limit}"))?,
    }
    if one.succeeding > 0 {
        let got_in = counted(one.succeeding, "account", "accounts");
        field(out, "shared", &format!("{got_in} got in, so {} that fail are excused", figure(one.excused)))?;
    }
    let ceiling = one.ceiling.map_or_else(String::new, |most| format!("; {most} do whatever is normal"));
    let fires = format!("{} {unit} (never fewer than {}){ceiling}", window.threshold, one.minimum);
    field(out, "fires at", &fires)?;
    match finding {
        Some(finding) => tell(out, finding),
        None => field(out, "finding", "none"),
    }
}

fn headline(one: &Explanation, finding: Option<&Finding>, span: &str) -> String {
    let is_open = finding.is_some_and(|finding| finding.lifecycle != Lifecycle::Closed);
    if one.verdict == Verdict::Allowed {
        return format!("Allowed: {}; what fails there is not counted.", visible(&one.because));
    }
    let label = match (one.verdict == Verdict::Spike, is_open) {
        (true, true) => "Fired",
        (true, false) => "Over the threshold",
        (false, true) => "Quieter now",
        (false, false) => "Quiet",
    };
    let judged = prose::judged(one.rule, &one.entity, &one.window);
    format!("{label}: in {span} {judged}; {}.", visible(&one.because))
}

const fn rule(one: &Explanation) -> &'static str {
    match (one.rule, one.entity.kind) {
        (Rule::AddressFailureSpike, _) => "many accounts fail from one address",
        (Rule::NetworkFailureSpike, _) => "many accounts fail from several addresses of one network",
        (Rule::AccountFailureSpike, _) => "one account fails over and over, from anywhere",
        (Rule::DistributedAttack, _) => "many accounts fail from networks where nobody signs in",
        (Rule::CodeFlood, EntityKind::Account) => "one account is sent codes over and over",
        (Rule::CodeFlood, _) => "one address has codes sent to many accounts",
        (Rule::LockoutWave, _) => "accounts are locked in numbers",
        (Rule::SuccessFanOut, EntityKind::Network) => "strangers get in to many accounts from one network",
        (Rule::SuccessFanOut, _) => "strangers get in to many accounts from one address",
        (Rule::SignInOutage, _) => "sign-in fails for everyone: an incident, no attack",
    }
}

const fn unit(one: &Explanation) -> &'static str {
    match (one.rule, one.entity.kind) {
        (Rule::AccountFailureSpike | Rule::SignInOutage, _) => "failures",
        (Rule::CodeFlood, EntityKind::Account) => "codes",
        _ => "accounts",
    }
}

const fn learning(learning: Learning) -> &'static str {
    match learning {
        Learning::Learning => "still learning (less than a day was seen)",
        Learning::Provisional => "provisional (less than two weeks were seen)",
        Learning::Learned => "learned",
    }
}

fn counts(one: &Explanation) -> String {
    let window = &one.window;
    let (single, several) = prose::unit(one.rule);
    let failures = counted(window.failures, single, several);
    let of = match one.entity.kind {
        EntityKind::Ip | EntityKind::Network => format!(" on {}", counted(window.distinct, "account", "accounts")),
        EntityKind::Account | EntityKind::Tenant => String::new(),
    };
    let spread = match (one.entity.kind, one.spread) {
        (_, 0) | (EntityKind::Ip | EntityKind::Tenant, _) => String::new(),
        (EntityKind::Network, spread) => format!(" from {}", counted(spread, "address", "addresses")),
        (EntityKind::Account, spread) => format!(" from {}", counted(spread, "network", "networks")),
    };
    // A series holds its successes in what it expects.
    let in_expectation = matches!(one.rule, Rule::DistributedAttack | Rule::LockoutWave);
    let successes = counted(window.successes, "success", "successes");
    let successes = if in_expectation { String::new() } else { format!(", {successes}") };
    format!("{failures}{of}{spread}{successes}")
}

/// The finding, in two lines.
fn tell(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let state = match finding.episode.closed_at {
        Some(at) => format!("closed {at}"),
        None => "open".to_owned(),
    };
    let ratio = prose::ratio_of(&finding.evidence.peak, &finding.evidence.baseline);
    let since = finding.episode.first_seen_at;
    field(out, "finding", &format!("{}, {}, {state}", finding.finding_id, finding.severity.as_str()))?;
    field(out, "", &format!("{} since {since}, at its peak {ratio}x normal", prose::title(finding)))
}

/// A probability as people say it: `20 %`, `1 in 3,200`, `1 in 10^19`.
fn odds(probability: f64) -> String {
    let one_in = 1.0 / probability;
    if probability >= 0.01 {
        format!("{:.0} %", probability * 100.0)
    } else if one_in < MOST_ODDS {
        // Two digits are all that is known of it.
        let unit = libm::pow(10.0, (one_in.log10() - 1.0).floor());
        format!("1 in {}", grouped(&format!("{:.0}", (one_in / unit).round() * unit)))
    } else if one_in.is_finite() {
        format!("1 in 10^{:.0}", one_in.log10().floor())
    } else {
        "none".to_owned()
    }
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:<8}  {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_read_like_a_person_wrote_them() {
        assert_eq!(
            [1.0, 0.2, 0.01, 0.0099, 3.1e-4, 1e-7, 3.3e-9, 1e-19, 0.0].map(odds),
            [
                "100 %",
                "20 %",
                "1 %",
                "1 in 100",
                "1 in 3,200",
                "1 in 10,000,000",
                "1 in 300,000,000",
                "1 in 10^19",
                "none"
            ]
        );
    }
}
