//! A finding as a block of text for a person at a terminal, the accounts broken into first.
//!
//! Invariant: nothing an attacker chose reaches the terminal unescaped ([`prose::visible`]); the only control characters
//! in the block are its own newlines and, with [`Style::Colour`], its own colours.
//!
//! Not here: deciding whether the output is a terminal (`sinks::stdout`).

use std::fmt::Write as _;

use crate::finding::{BaselineEvidence, BaselineSource, Counted, EntityKind, Finding, Lifecycle, Sample, Severity};

use super::prose::{self, counted, duration, figure, visible};

/// Values shown of a list; the record in the file has the rest.
const SHOWN: usize = 5;
/// Accounts broken into are what the reader must act on, so more of them are shown.
const SHOWN_COMPROMISED: usize = 20;

/// Whether the block has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For files, pipes and `NO_COLOR`.
    Plain,
    /// For a terminal.
    Colour,
}

/// The block of `finding`: a headline, indented lines and an empty line.
#[must_use]
pub fn block(finding: &Finding, style: Style) -> String {
    let mut lines = Lines(String::with_capacity(1024));
    lines.headline(finding, style);
    lines.compromised(finding, style);
    lines.sentence(finding);
    lines.figures(finding);
    lines.samples(finding);
    lines.field("tenant", &visible(&finding.tenant.0));
    lines.field("finding", &format!("{}, revision {}", finding.finding_id, finding.revision));
    lines.field("event", &finding.revision_id.to_string());
    lines.0.push('\n');
    lines.0
}

struct Lines(String);

impl Lines {
    fn headline(&mut self, finding: &Finding, style: Style) {
        let lifecycle = match finding.lifecycle {
            Lifecycle::Opened => "OPENED",
            Lifecycle::Updated => "UPDATED",
            Lifecycle::Closed => "CLOSED",
        };
        let severity = finding.severity.as_str().to_uppercase();
        let severity = coloured(&severity, colour(finding.severity), style);
        let title = coloured(&prose::title(finding), "1", style);
        let _ = writeln!(self.0, "{}  {lifecycle}  {severity}  {title}", finding.at);
    }

    fn sentence(&mut self, finding: &Finding) {
        let _ = writeln!(self.0, "  {}", prose::headline(finding));
    }

    fn compromised(&mut self, finding: &Finding, style: Style) {
        let evidence = &finding.evidence;
        for one in evidence.compromised.iter().take(SHOWN_COMPROMISED) {
            let from =
                one.address.as_deref().map_or_else(String::new, |address| format!(", from {}", visible(address)));
            let what = format!("{}: {}{from}, at {}", visible(&one.account), prose::compromise(one.how), one.at);
            self.field(&coloured("taken over", colour(Severity::Critical), style), &what);
        }
        let shown = length(evidence.compromised.len().min(SHOWN_COMPROMISED));
        if evidence.compromised_total > shown {
            self.field("", &format!("and {} more", evidence.compromised_total - shown));
        }
    }

    fn figures(&mut self, finding: &Finding) {
        let (peak, totals) = (&finding.evidence.peak, &finding.evidence.totals);
        let accounts = match finding.entity.kind {
            EntityKind::Ip | EntityKind::Network => format!(" on {}", counted(peak.distinct, "account", "accounts")),
            EntityKind::Account | EntityKind::Tenant => String::new(),
        };
        let (one, several) = prose::unit(finding.rule);
        let window = format!(
            "{} to {} ({}): {}{accounts}, {}",
            peak.start,
            peak.end,
            prose::window(finding),
            counted(peak.failures, one, several),
            counted(peak.successes, "success", "successes"),
        );
        self.field("window", &window);
        self.field("normal", &normal(finding.entity.kind, &finding.evidence.baseline));
        let ratio = format!(
            "{}x: {} expected in that window, {} needed to open",
            prose::ratio(finding),
            figure(peak.expected),
            peak.threshold
        );
        self.field("ratio", &ratio);
        let totals = [
            (totals.failures, "failed"),
            (totals.unknown_identifiers, "of them for identifiers nobody has"),
            (totals.successes, "signed in"),
            (totals.password_correct_stopped, "stopped after the right password"),
            (totals.locked, "met a locked account"),
            (totals.rate_limited, "rate limited"),
            (totals.blocked, "blocked"),
            (totals.codes_sent, "codes sent"),
        ];
        let totals: Vec<String> =
            totals.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if !totals.is_empty() {
            self.field("in all", &totals.join(", "));
        }
    }

    fn samples(&mut self, finding: &Finding) {
        let evidence = &finding.evidence;
        self.sample("accounts", &evidence.accounts);
        self.sample("addresses", &evidence.addresses);
        self.counted("networks", &evidence.networks);
        self.counted("reasons", &evidence.reasons);
        self.counted("agents", &evidence.user_agents);
    }

    fn sample(&mut self, name: &str, sample: &Sample) {
        if sample.values.is_empty() {
            return;
        }
        let mut shown: Vec<String> = sample.values.iter().take(SHOWN).map(|value| visible(value)).collect();
        let rest = sample.total.saturating_sub(length(shown.len()));
        if rest > 0 {
            let at_least = if sample.exact { "" } else { "at least " };
            shown.push(format!("and {at_least}{rest} more"));
        }
        self.field(name, &shown.join(", "));
    }

    fn counted(&mut self, name: &str, values: &[Counted]) {
        if values.is_empty() {
            return;
        }
        let shown: Vec<String> =
            values.iter().take(SHOWN).map(|one| format!("{} x{}", visible(&one.value), one.count)).collect();
        self.field(name, &shown.join(", "));
    }

    /// One indented line; `name` may hold colours, which take no width.
    fn field(&mut self, name: &str, value: &str) {
        let width = if name.starts_with('\u{1b}') { 0 } else { 10 };
        let _ = writeln!(self.0, "  {name:<width$}  {value}");
    }
}

/// What is normal for a `whose` and how that is known: `0.2 a day (of this tenant; this address has been seen for 5 days)`.
pub(crate) fn normal(whose: EntityKind, baseline: &BaselineEvidence) -> String {
    let seen = duration(i64::try_from(baseline.observed_seconds).unwrap_or(i64::MAX).saturating_mul(1000));
    let source = match baseline.source {
        BaselineSource::Entity => format!("learned from this {} over {seen}", kind(whose)),
        BaselineSource::Tenant => {
            format!("of this tenant; this {} has been seen for {seen}", kind(whose))
        }
        BaselineSource::Prior => "assumed, nothing is learned yet".into(),
    };
    format!("{} a day ({source})", figure(baseline.per_day))
}

const fn kind(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Ip => "address",
        EntityKind::Network => "network",
        EntityKind::Account => "account",
        EntityKind::Tenant => "instance",
    }
}

/// The ANSI colour of a severity: the worse, the warmer.
const fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Informational | Severity::Low => "36",
        Severity::Medium => "33",
        Severity::High => "31",
        Severity::Critical => "1;31",
    }
}

fn coloured(text: &str, colour: &str, style: Style) -> String {
    match style {
        Style::Plain => text.into(),
        Style::Colour => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
