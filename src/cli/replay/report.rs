//! What a replay prints.

use std::io::{self, Write};
use std::time::Duration;

use super::Counts;
use super::read::ReadSummary;
use crate::finding::{Finding, Rule, Severity, Shape};
use crate::sinks::format::ocsf;

/// What findings are counted by in the summary: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    severity: std::cmp::Reverse<Severity>,
    shape: Shape,
    rule: Rule,
}

impl Group {
    pub(super) fn of(finding: &Finding) -> Self {
        Self { severity: std::cmp::Reverse(finding.severity), shape: finding.shape, rule: finding.rule }
    }
}

/// One finding for a program.
pub(super) fn json(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    out.write_all(&ocsf::line(finding)?)?;
    out.write_all(b"\n")
}

/// One finding for a person, on two lines.
pub(super) fn line(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let (evidence, entity) = (&finding.evidence, &finding.entity);
    writeln!(
        out,
        "{:<13} {} {} {} of {}: {} until {}",
        finding.severity.as_str(),
        finding.shape.title(),
        if entity.kind == crate::finding::EntityKind::Account { "at" } else { "from" },
        entity.value,
        finding.tenant,
        finding.episode.first_seen_at,
        finding.episode.last_seen_at,
    )?;
    writeln!(
        out,
        "{:13} {} failures, {:.0} times the normal rate at the peak, {}{} accounts, {} broken into [{}]",
        "",
        evidence.totals.failures,
        evidence.peak.ratio,
        if evidence.accounts.exact { "" } else { "at least " },
        evidence.accounts.total,
        evidence.compromised_total,
        finding.finding_id,
    )
}

/// The first few lines that were no events, and the files that broke off.
pub(super) fn faults(err: &mut impl Write, read: &ReadSummary) -> io::Result<()> {
    for fault in &read.faults {
        writeln!(err, "authspike: {fault}")?;
    }
    let hidden = read.refused.saturating_sub(read.faults.len() as u64);
    if hidden > 0 {
        writeln!(err, "authspike: {hidden} more lines are no events")?;
    }
    for fault in &read.broken_files {
        writeln!(err, "authspike: cannot be read to its end: {fault}")?;
    }
    if read.events == 0 && read.refused > 0 {
        writeln!(
            err,
            "authspike: expected one JSON object per line; for a JSON array: jq -c '.[]' FILE | authspike replay -"
        )?;
    }
    Ok(())
}

/// The table at the end.
pub(super) fn summary(out: &mut impl Write, read: &ReadSummary, counts: &Counts, took: Duration) -> io::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "shown without a fraction")]
    let rate = read.events as f64 / took.as_secs_f64().max(1e-6);
    writeln!(out, "{:<10} {:>12}", "lines", read.lines)?;
    writeln!(out, "{:<10} {:>12}", "refused", read.refused)?;
    if read.skipped > 0 {
        writeln!(
            out,
            "{:<10} {:>12}   no attempts by the mapping, or told of by another record",
            "skipped", read.skipped
        )?;
    }
    writeln!(out, "{:<10} {:>12}   in {:.1} s, {rate:.0}/s", "events", read.events, took.as_secs_f64())?;
    if let Some((from, until)) = read.span {
        writeln!(out, "{:<10} {from} to {until}", "span")?;
    }
    writeln!(out, "{:<10} {:>12}", "findings", counts.values().sum::<u64>())?;
    for (group, count) in counts {
        let severity = group.severity.0.as_str();
        writeln!(out, "{:<10} {count:>12}   {severity} {} ({})", "", group.shape.title(), group.rule.as_str())?;
    }
    Ok(())
}

/// What the thresholds in force found beside what the shadow thresholds `name` found.
pub(super) fn side_by_side(out: &mut impl Write, name: &str, closed: &[(Severity, Rule, u64, u64)]) -> io::Result<()> {
    let sum = |of: fn(&(Severity, Rule, u64, u64)) -> u64| closed.iter().map(of).sum::<u64>();
    writeln!(out)?;
    writeln!(out, "{:<10} {:>12} {:>12}   ({name})", "", "in force", "shadow")?;
    writeln!(out, "{:<10} {:>12} {:>12}", "findings", sum(|row| row.2), sum(|row| row.3))?;
    for (severity, rule, live, shadow) in closed {
        writeln!(out, "{:<10} {live:>12} {shadow:>12}   {} {}", "", severity.as_str(), rule.as_str())?;
    }
    Ok(())
}
