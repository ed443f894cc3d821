//! Common Event Format 0: for ArcSight, for Microsoft Sentinel by way of its agent, and for whoever reads syslog.
//!
//! Invariant: nothing a finding holds can end a field or a line early: `|` and `\` are escaped in the header, `=`, `\` and
//! line breaks in values, other control characters become spaces. Every value is within the length CEF gives its key, so
//! a line has a bound, whatever the finding holds: no receiver cuts it in the middle.
//!
//! Not here: the syslog message around it (`syslog`).

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::event::Timestamp;
use crate::finding::{EntityKind, Finding};

use super::{PRODUCT, address, attack, prose, severity};

/// Longest values in bytes, all within what CEF gives their keys in characters. Were every character one that has to be
/// escaped, a line would still be under the 8 KiB that syslog receivers should take.
const MAX_NAME: usize = 255;
/// `msg`: three sentences.
const MAX_TEXT: usize = 1023;
/// Some fifteen accounts; `cn2` says how many there are.
const MAX_LIST: usize = 511;

/// The line of `finding`, without a newline.
#[must_use]
pub fn line(finding: &Finding) -> String {
    line_within(finding, usize::MAX)
}

/// The same within `max_bytes`, without the fields that do not fit: those that identify it come first, sentences last. The
/// header alone may take 700 bytes.
#[must_use]
pub fn line_within(finding: &Finding, max_bytes: usize) -> String {
    let evidence = &finding.evidence;
    let compromised = evidence.compromised_total.max(u64::try_from(evidence.compromised.len()).unwrap_or(u64::MAX));
    let severity = severity::terms(finding.severity).cef;
    let mut line = Line::new(finding.rule.as_str(), &prose::title(finding), severity, max_bytes);
    line.moment("rt", finding.at);
    line.moment("start", finding.episode.first_seen_at);
    line.moment("end", finding.episode.last_seen_at);
    line.text("externalId", &finding.finding_id.to_string(), MAX_NAME);
    line.custom("cs3", "lifecycle", finding.lifecycle.as_str());
    line.custom("cs4", "revisionId", &finding.revision_id.to_string());
    line.custom_number("cn3", "revision", finding.revision.into());
    line.text("cat", finding.shape.as_str(), MAX_NAME);
    line.number("cnt", i64::from(i32::try_from(evidence.totals.failures).unwrap_or(i32::MAX)));
    match finding.entity.kind {
        EntityKind::Ip => match address(&finding.entity.value) {
            Some(IpAddr::V4(source)) => line.text("src", &source.to_string(), MAX_NAME),
            // `src` is for IPv4 alone.
            Some(IpAddr::V6(source)) => line.custom("c6a2", "Source IPv6 Address", &source.to_string()),
            None => {}
        },
        EntityKind::Account => line.text("duid", &finding.entity.value, MAX_NAME),
        EntityKind::Network | EntityKind::Tenant => {}
    }
    if let Some(agent) = evidence.user_agents.first() {
        line.text("requestClientApplication", &agent.value, MAX_NAME);
    }
    if let Some(reason) = evidence.reasons.first() {
        line.text("reason", &reason.value, MAX_NAME);
    }
    let techniques = attack::techniques(finding);
    let exact = techniques.iter().map(|one| one.sub_technique.unwrap_or(one.technique).uid);
    line.custom("cs1", "mitreTechniqueId", &list(exact));
    line.custom("cs2", "mitreTacticId", &list(techniques.iter().map(|one| one.tactic.uid)));
    line.custom("cs5", finding.entity.kind.as_str(), &finding.entity.value);
    line.custom("cs6", "tenant", &finding.tenant.0);
    line.custom_number("cn1", "distinct", evidence.peak.distinct);
    line.custom_number("cn2", "compromised", compromised);
    if evidence.peak.ratio.is_finite() {
        line.custom("cfp1", "ratio", &format!("{:.1}", evidence.peak.ratio));
    }
    line.custom(
        "flexString1",
        "compromisedAccounts",
        &list(evidence.compromised.iter().map(|one| one.account.as_str())),
    );
    line.text("msg", &prose::message(finding), MAX_TEXT);
    line.text
}

/// A line that grows by escaped fields only.
struct Line {
    text: String,
    /// Length of the header.
    header: usize,
    /// Fields are left out rather than go beyond this.
    max_bytes: usize,
}

impl Line {
    fn new(class: &str, name: &str, severity: u8, max_bytes: usize) -> Self {
        let mut text = String::with_capacity(2048);
        text.push_str("CEF:0");
        for field in [PRODUCT, PRODUCT, env!("CARGO_PKG_VERSION"), class, name] {
            text.push('|');
            for character in cut(field, MAX_NAME).chars() {
                match character {
                    '\\' | '|' => text.extend(['\\', character]),
                    // The header has no way to write a line break.
                    _ => text.push(printable(character)),
                }
            }
        }
        // The last separator stands even before an empty extension.
        let _ = write!(text, "|{severity}|");
        Self { header: text.len(), text, max_bytes }
    }

    /// A key and its value; nothing when there is none, since an empty value reads like the start of the next key.
    fn text(&mut self, key: &str, value: &str, max_bytes: usize) {
        let value = cut(value, max_bytes);
        if value.is_empty() {
            return;
        }
        let before = self.text.len();
        if before > self.header {
            self.text.push(' ');
        }
        self.text.push_str(key);
        self.text.push('=');
        for character in value.chars() {
            match character {
                '\\' | '=' => self.text.extend(['\\', character]),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                _ => self.text.push(printable(character)),
            }
        }
        if self.text.len() > self.max_bytes {
            self.text.truncate(before);
        }
    }

    fn number(&mut self, key: &str, value: i64) {
        self.text(key, &value.to_string(), MAX_NAME);
    }

    fn moment(&mut self, key: &str, at: Timestamp) {
        // Milliseconds since the epoch; receivers take no others.
        self.text(key, &at.0.max(0).to_string(), MAX_NAME);
    }

    /// One of CEF's numbered fields, which need a label to mean something.
    fn custom(&mut self, key: &str, label: &str, value: &str) {
        let before = self.text.len();
        self.text(key, value, MAX_LIST);
        let labelled = self.text.len();
        if labelled > before {
            self.text(&format!("{key}Label"), label, MAX_NAME);
            if self.text.len() == labelled {
                self.text.truncate(before);
            }
        }
    }

    fn custom_number(&mut self, key: &str, label: &str, value: u64) {
        // CEF's `Long` is signed.
        self.custom(key, label, &i64::try_from(value).unwrap_or(i64::MAX).to_string());
    }
}

/// At most `max_bytes` of `text`, in whole characters, without space at either end: parsers disagree about it.
fn cut(text: &str, max_bytes: usize) -> &str {
    let blank = |character: char| character.is_whitespace() || printable(character) == ' ';
    let text = text.trim_matches(blank);
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default().trim_end_matches(blank)
}

fn printable(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

/// The values by commas, whole ones only.
fn list<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for value in values {
        let separator = if list.is_empty() { "" } else { "," };
        if list.len() + separator.len() + value.len() > MAX_LIST {
            break;
        }
        list.push_str(separator);
        list.push_str(value);
    }
    list
}
