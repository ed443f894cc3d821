//! A finding in sentences, for a person who was asleep a minute ago.
//!
//! Invariant: what an attacker can choose (user agents, identifiers) cannot act on the reader's screen: control and
//! direction characters come out as visible escapes. Numbers come straight from the evidence; nothing is judged here.
//!
//! Not here: layout (`text`) and record fields (`ocsf`).

use std::fmt::Write as _;

use crate::finding::{
    BaselineEvidence, BaselineSource, Compromise, Entity, EntityKind, Finding, Lifecycle, Rule, WindowEvidence,
};

/// Accounts named in a sentence; the record itself lists more.
const NAMED: usize = 3;
/// A ratio is "at least" so much when the expectation it was divided by had been raised to a floor. Baselines are
/// floats, so what was not raised may still differ by a rounding.
const FLOOR_TOLERANCE: f64 = 1.001;
/// What the hash of an identifier begins with.
const IDENTIFIER: &str = "idh_";
const DAY_MILLIS: f64 = 86_400_000.0;

/// `Credential stuffing from 203.0.113.7`: what it is and who it is about.
#[must_use]
pub fn title(finding: &Finding) -> String {
    let (preposition, noun) = match (finding.rule, finding.entity.kind) {
        (Rule::DistributedAttack, _) => ("from many networks against", ""),
        (Rule::LockoutWave | Rule::SignInOutage, _) => ("at", ""),
        (_, EntityKind::Ip) => ("from", ""),
        (_, EntityKind::Network) => ("from", "network "),
        (_, EntityKind::Account | EntityKind::Tenant) => ("against", ""),
    };
    format!("{} {preposition} {noun}{}", finding.shape.title(), visible(&finding.entity.value))
}

/// What happened, against what is normal, in one sentence.
#[must_use]
pub fn headline(finding: &Finding) -> String {
    let over = if finding.lifecycle == Lifecycle::Closed { "Over: " } else { "" };
    format!(
        "{over}{} in {}; {}, so this is {} times that rate.",
        judged(finding.rule, &finding.entity, &finding.evidence.peak),
        window(finding),
        normal(finding),
        ratio(finding)
    )
}

/// One or two sentences: the [`headline`], and whether it worked.
#[must_use]
pub fn message(finding: &Finding) -> String {
    let headline = headline(finding);
    match compromised(finding) {
        Some(compromised) => format!("{headline} {compromised}"),
        None => headline,
    }
}

/// Everything worth a sentence, the [`message`] first.
#[must_use]
pub fn description(finding: &Finding) -> String {
    let totals = &finding.evidence.totals;
    let episode = &finding.episode;
    let mut text = message(finding);
    let _ = write!(
        text,
        " Since {} there {} and {}.",
        episode.first_seen_at,
        counted_were(totals.failures, "failed attempt", "failed attempts"),
        counted(totals.successes, "successful sign-in", "successful sign-ins"),
    );
    if totals.unknown_identifiers > 0 {
        let _ = write!(text, " Of the failed attempts, {} named identifiers nobody has.", totals.unknown_identifiers);
    }
    if let Some(suspected) = suspected(finding) {
        let _ = write!(text, " {suspected}");
    }
    if finding.entity.kind == EntityKind::Account && finding.entity.value.starts_with(IDENTIFIER) {
        text.push_str(
            " This is an identifier (an e-mail address, a phone number or a user name) that was not known to belong to a \
             user: what is seen under a user id is counted apart from it.",
        );
    }
    if let Some(within) = &finding.evidence.within
        && *within != finding.entity.value
    {
        // The entity was decided when it opened.
        let _ = if within.ends_with("/56") {
            write!(text, " By now nearly all of its addresses lie in {}.", visible(within))
        } else {
            write!(text, " It has since spread over {}.", visible(within))
        };
    }
    if finding.rule == Rule::SignInOutage {
        text.push_str(" Attackers cannot stop people from signing in; look at sign-in itself.");
    }
    if finding.lifecycle == Lifecycle::Closed {
        let _ = write!(text, " The last one was at {}; it has been quiet since.", episode.last_seen_at);
    }
    text
}

/// The count the rule judged, as a clause: `148 different accounts failed to sign in from 203.0.113.7`.
pub(crate) fn judged(rule: Rule, of: &Entity, peak: &WindowEvidence) -> String {
    let entity = visible(&of.value);
    match rule {
        Rule::CodeFlood if of.kind == EntityKind::Ip => {
            return format!("{} had codes sent from {entity}", counted(peak.distinct, "account", "different accounts"));
        }
        Rule::CodeFlood => return format!("{} sent to {entity}", counted(peak.failures, "code was", "codes were")),
        Rule::LockoutWave => {
            return format!("{} locked at {entity}", counted(peak.distinct, "account was", "accounts were"));
        }
        Rule::SignInOutage => {
            return format!(
                "{} at {entity} from {} and {} succeeded",
                counted(peak.failures, "sign-in failed", "sign-ins failed"),
                counted(peak.distinct, "network", "networks where people usually get in"),
                peak.successes
            );
        }
        Rule::SuccessFanOut => {
            let network = if of.kind == EntityKind::Network { "network " } else { "" };
            return format!(
                "{} never used from there and never with such a device got in from {network}{entity}",
                counted(peak.distinct, "account", "different accounts")
            );
        }
        Rule::AddressFailureSpike | Rule::NetworkFailureSpike | Rule::AccountFailureSpike | Rule::DistributedAttack => {
        }
    }
    match of.kind {
        EntityKind::Tenant => {
            format!(
                "{} failed to sign in to {entity} from networks where nobody signs in",
                counted(peak.distinct, "account", "different accounts")
            )
        }
        EntityKind::Ip => {
            format!("{} failed to sign in from {entity}", counted(peak.distinct, "account", "different accounts"))
        }
        EntityKind::Network => {
            format!(
                "{} failed to sign in from network {entity}",
                counted(peak.distinct, "account", "different accounts")
            )
        }
        EntityKind::Account => {
            format!("{} to {entity} failed", counted(peak.failures, "sign-in", "sign-ins"))
        }
    }
}

/// What is normal and how we know, as a clause: `normal here is 0.2 a day`.
fn normal(finding: &Finding) -> String {
    let baseline = &finding.evidence.baseline;
    let whose = match (baseline.source, finding.entity.kind) {
        (BaselineSource::Entity, EntityKind::Ip) => "normal for this address is",
        (BaselineSource::Entity, EntityKind::Network) => "normal for this network is",
        (BaselineSource::Entity | BaselineSource::Tenant, EntityKind::Tenant) => "normal at this instance is",
        (BaselineSource::Entity, EntityKind::Account) => "normal for this account is",
        (BaselineSource::Tenant, EntityKind::Ip) => "normal for an address of this tenant is",
        (BaselineSource::Tenant, EntityKind::Network) => "normal for a network of this tenant is",
        (BaselineSource::Tenant, EntityKind::Account) => "normal for an account of this tenant is",
        (BaselineSource::Prior, _) => "normal here is not known yet and assumed to be",
    };
    format!("{whose} {} a day", figure(baseline.per_day))
}

/// How many times the expectation, as a phrase: `at least 80` or `212`.
#[must_use]
pub fn ratio(finding: &Finding) -> String {
    ratio_of(&finding.evidence.peak, &finding.evidence.baseline)
}

/// See [`ratio`].
pub(crate) fn ratio_of(window: &WindowEvidence, baseline: &BaselineEvidence) -> String {
    let figure = figure(window.ratio);
    if expected_was_raised(window, baseline) { format!("at least {figure}") } else { figure }
}

/// Whether the expectation had been raised to a floor before it divided the count.
fn expected_was_raised(peak: &WindowEvidence, baseline: &BaselineEvidence) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "windows are hours; an f64 holds milliseconds of 285 000 years")]
    let span = peak.end.millis_since(peak.start).max(0) as f64;
    peak.expected > baseline.per_day * span / DAY_MILLIS * FLOOR_TOLERANCE
}

/// The length of the window, in words: `5 minutes`.
#[must_use]
pub fn window(finding: &Finding) -> String {
    let peak = &finding.evidence.peak;
    duration(peak.end.millis_since(peak.start))
}

/// The accounts to look at first, as a sentence; `None` when there are none.
fn compromised(finding: &Finding) -> Option<String> {
    let evidence = &finding.evidence;
    let total = evidence.compromised_total.max(u64::try_from(evidence.compromised.len()).unwrap_or(u64::MAX));
    if total == 0 {
        return None;
    }
    let mut named: Vec<String> = evidence
        .compromised
        .iter()
        .take(NAMED)
        .map(|one| format!("{} ({})", visible(&one.account), compromise(one.how)))
        .collect();
    let rest = total.saturating_sub(u64::try_from(named.len()).unwrap_or(u64::MAX));
    if rest > 0 {
        named.push(format!("{rest} more"));
    }
    Some(format!("Consider {} taken over: {}.", counted(total, "account", "accounts"), named.join(", ")))
}

/// The accounts that may be the attacker's or may be on a journey, as a sentence.
fn suspected(finding: &Finding) -> Option<String> {
    let total = finding.evidence.suspected_total;
    (total > 0).then(|| {
        format!(
            "{} signed in meanwhile from networks new to them and to everybody; some of them may be the attacker's.",
            counted(total, "account", "accounts")
        )
    })
}

/// What was seen, in words.
#[must_use]
pub const fn compromise(how: Compromise) -> &'static str {
    match how {
        Compromise::SignedIn => "signed in",
        Compromise::PasswordCorrect => "right password, stopped by a further check",
    }
}

/// What a rule counts, one and several of it.
pub(crate) const fn unit(rule: Rule) -> (&'static str, &'static str) {
    match rule {
        Rule::CodeFlood => ("code", "codes"),
        Rule::LockoutWave => ("lock-out", "lock-outs"),
        Rule::SuccessFanOut => ("stranger's sign-in", "strangers' sign-ins"),
        Rule::AddressFailureSpike
        | Rule::NetworkFailureSpike
        | Rule::AccountFailureSpike
        | Rule::DistributedAttack
        | Rule::SignInOutage => ("failure", "failures"),
    }
}

/// `1 account`, `7 accounts`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn counted_were(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", if count == 1 { "was" } else { "were" }, counted(count, one, many))
}

/// A rate or ratio with as many digits as a person wants: `0.2`, `3.5`, `212`; anything below a hundredth is `under 0.01`.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "an unknown number of".into();
    }
    if value > 0.0 && value < 0.01 {
        return "under 0.01".into();
    }
    let digits = if value >= 100.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// A span in the largest unit that still tells it apart: `40 seconds`, `5 minutes`, `26 hours`, `13 days`.
pub(crate) fn duration(millis: i64) -> String {
    // The window's end is inclusive, so a window of five minutes may measure a millisecond less.
    let seconds = u64::try_from(millis.saturating_add(500) / 1000).unwrap_or(0);
    match seconds {
        0..120 => counted(seconds, "second", "seconds"),
        3570..3630 => "1 hour".into(),
        120..7200 => counted((seconds + 30) / 60, "minute", "minutes"),
        7200..172_800 => counted((seconds + 1800) / 3600, "hour", "hours"),
        _ => counted(seconds.saturating_add(43_200) / 86_400, "day", "days"),
    }
}

/// `text` with everything that could act on a terminal or reorder a line made visible: control characters (ANSI
/// sequences begin with one), line and paragraph separators, direction overrides, zero-width characters.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if acts_on_the_reader(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn acts_on_the_reader(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_spans_read_like_a_person_wrote_them() {
        assert_eq!(
            [0.0, 0.004, 0.2, 0.25, 3.0, 3.52, 80.0, 99.96, 212.4, 1e9].map(figure),
            ["0", "under 0.01", "0.2", "0.25", "3", "3.5", "80", "100", "212", "1000000000"]
        );
        assert_eq!(figure(f64::NAN), "an unknown number of");
        assert_eq!(
            [1000, 40_000, 299_999, 300_000, 3_599_999, 7_200_000, 1_123_200_000, -5].map(duration),
            ["1 second", "40 seconds", "5 minutes", "5 minutes", "1 hour", "2 hours", "13 days", "0 seconds"]
        );
    }

    #[test]
    fn an_identifier_without_a_user_is_told_as_such() {
        let account = |value: &str| {
            let mut finding = crate::sinks::sample::stuffing();
            finding.entity = Entity { kind: EntityKind::Account, value: value.into() };
            description(&finding).contains("not known to belong to a user")
        };
        assert!(account("idh_000102030405060708090a0b0c0d0e0f") && !account("user_1"));
    }

    #[test]
    fn what_could_act_on_a_terminal_is_shown_instead() {
        assert_eq!(visible("a\u{1b}[2Jb\r\n"), "a\\u{1b}[2Jb\\u{d}\\u{a}");
        assert_eq!(visible("x\u{202e}y\u{9b}z\u{2028}"), "x\\u{202e}y\\u{9b}z\\u{2028}");
        assert_eq!(visible("Zoë 日本 🦀"), "Zoë 日本 🦀");
    }
}
