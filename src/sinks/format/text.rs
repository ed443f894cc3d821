//! A finding as a block of text for the person who reads it at night.

use std::fmt::Write as _;

use super::words::{explanation, headline};
use crate::finding::{Counted, Finding, Lifecycle, Sample, Severity};

/// Compromised accounts shown; all of them are in the record.
const MAX_SHOWN: usize = 20;

/// The block, with a blank line behind it.
#[must_use]
pub fn block(finding: &Finding, colour: bool) -> String {
    let mut text = String::with_capacity(1024);
    // Writing to a string does not fail.
    let _ = write_block(&mut text, finding, colour);
    text
}

fn write_block(text: &mut String, finding: &Finding, colour: bool) -> std::fmt::Result {
    let (evidence, totals) = (&finding.evidence, finding.evidence.totals);
    let (on, off) = if colour { (ansi(finding.severity), "\x1b[0m") } else { ("", "") };
    let lifecycle = finding.lifecycle.as_str().to_uppercase();
    let severity = finding.severity.as_str().to_uppercase();
    writeln!(text, "{on}{lifecycle} {severity}{off}  {}", headline(finding))?;
    if evidence.compromised_total > 0 {
        for account in evidence.compromised.iter().take(MAX_SHOWN) {
            let from = account.address.as_deref().unwrap_or("an unknown address");
            writeln!(
                text,
                "  broken into  {} from {from} at {} ({})",
                account.account,
                account.at,
                account.how.as_str()
            )?;
        }
        let hidden = evidence.compromised_total.saturating_sub(MAX_SHOWN as u64);
        if hidden > 0 {
            writeln!(text, "               and {hidden} more")?;
        }
    }
    writeln!(text, "  why          {}", explanation(finding))?;
    writeln!(text, "  threshold    {} in this window", evidence.peak.threshold)?;
    let closed = finding.lifecycle == Lifecycle::Closed;
    let until = if closed { " (over)" } else { "" };
    writeln!(text, "  seen         {} to {}{until}", finding.episode.first_seen_at, finding.episode.last_seen_at)?;
    writeln!(
        text,
        "  in all       {} failed ({} unknown identifiers), {} succeeded, {} right password but stopped, {} locked, {} rate \
         limited, {} blocked",
        totals.failures,
        totals.unknown_identifiers,
        totals.successes,
        totals.password_correct_stopped,
        totals.locked,
        totals.rate_limited,
        totals.blocked
    )?;
    write_sample(text, "accounts", &evidence.accounts)?;
    write_sample(text, "addresses", &evidence.addresses)?;
    write_counted(text, "answers", &evidence.reasons)?;
    write_counted(text, "browsers", &evidence.user_agents)?;
    writeln!(text, "  tenant       {}", finding.tenant)?;
    writeln!(text, "  finding      {} revision {}\n", finding.finding_id, finding.revision)
}

fn write_sample(text: &mut String, label: &str, sample: &Sample) -> std::fmt::Result {
    if sample.total == 0 {
        return Ok(());
    }
    let shown = sample.values.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if sample.total > 5 { ", …" } else { "" };
    let at_least = if sample.exact { "" } else { "at least " };
    writeln!(text, "  {label:<12} {at_least}{}: {shown}{more}", sample.total)
}

fn write_counted(text: &mut String, label: &str, rows: &[Counted]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let shown = rows.iter().take(3).map(|row| format!("{} × {}", row.count, row.value)).collect::<Vec<_>>().join("; ");
    writeln!(text, "  {label:<12} {shown}")
}

fn ansi(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "\x1b[1;97;41m",
        Severity::High => "\x1b[1;31m",
        Severity::Medium => "\x1b[1;33m",
        Severity::Low | Severity::Informational => "\x1b[1;36m",
    }
}
