//! A mapping as it is written: in `[ingest.mapping.NAME]`, and in the presets.

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use super::record::{Pattern, Pointer};
use super::time::TimeFormat;
use super::{Condition, Decide, Mapping, Rule};
use crate::event::{Outcome, Tenant};
use crate::normalize::text;

/// The largest preset has 11 rules; more than this is a program.
const MAX_RULES: usize = 200;
/// Memory of one compiled pattern: ten times what the longest preset takes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Where the fields of a record stand. A place is a JSON pointer (`/a/b`) or, where there are patterns, a named group
/// (`$name`); of several the first that holds something counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Regular expressions with named groups, for lines that are not JSON; the first that matches counts.
    pub patterns: Vec<String>,
    /// Pointer to the text the patterns are for, in records that are JSON; empty: the line itself.
    pub pattern_at: String,
    /// Unique per attempt, and never chosen by the client. Without one an id is made of the record and its place.
    pub id: Vec<String>,
    /// When it happened.
    pub occurred_at: Vec<String>,
    /// "auto", or a format of `strptime`; of several the first that fits.
    pub time: Vec<String>,
    /// Of times without an offset: minutes east of UTC.
    pub utc_offset_minutes: i32,
    /// The person's address.
    pub ip: Vec<String>,
    /// Whose account.
    pub user_id: Vec<String>,
    /// What a user id begins with; what does not is none.
    pub user_id_prefix: String,
    /// What was typed; hashed on arrival.
    pub identifier: Vec<String>,
    /// The browser's own description.
    pub user_agent: Vec<String>,
    /// The instance.
    pub instance_id: Vec<String>,
    /// The instance of all records, instead.
    pub instance: String,
    /// The session that was made.
    pub session_id: Vec<String>,
    /// A code of the reason, where the rule gives none.
    pub reason: Vec<String>,
    /// What makes a record an attempt: the first that holds decides.
    pub rules: Vec<RuleConfig>,
    /// Instead of rules: the record is an access log's line of Clerk's Frontend API, by these three.
    pub method: Vec<String>,
    /// Path, with or without query and host.
    pub path: Vec<String>,
    /// Status of the answer.
    pub status: Vec<String>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// All must hold.
    pub when: Vec<ConditionConfig>,
    /// What the record then is; left out: context, which is skipped.
    pub outcome: Option<Outcome>,
    /// The reason's code.
    pub reason: String,
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionConfig {
    /// Where to look; of a list any element counts.
    pub at: Vec<String>,
    /// The values it holds for; `*` stands for any characters.
    pub is: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            pattern_at: String::new(),
            id: Vec::new(),
            occurred_at: Vec::new(),
            time: vec!["auto".to_owned()],
            utc_offset_minutes: 0,
            ip: Vec::new(),
            user_id: Vec::new(),
            user_id_prefix: String::new(),
            identifier: Vec::new(),
            user_agent: Vec::new(),
            instance_id: Vec::new(),
            instance: String::new(),
            session_id: Vec::new(),
            reason: Vec::new(),
            rules: Vec::new(),
            method: Vec::new(),
            path: Vec::new(),
            status: Vec::new(),
        }
    }
}

/// Collects what is wrong.
struct Check(Vec<String>);

impl Check {
    fn pointers(&mut self, key: &str, texts: &[String]) -> Vec<Pointer> {
        let mut places = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match Pointer::parse(text) {
                Some(pointer) => places.push(pointer),
                None => self.0.push(format!("{key}.{index}: must be a JSON pointer (/a/b) or a group ($name)")),
            }
        }
        places
    }

    fn patterns(&mut self, texts: &[String]) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build() {
                Ok(pattern) => patterns.push(pattern),
                Err(_) => self.0.push(format!("patterns.{index}: is not a regular expression, or too large a one")),
            }
        }
        patterns
    }

    fn rules(&mut self, rules: &[RuleConfig]) -> Vec<Rule> {
        let mut compiled = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let mut when = Vec::new();
            for (place, condition) in rule.when.iter().enumerate() {
                let key = format!("rules.{index}.when.{place}");
                let at = self.pointers(&format!("{key}.at"), &condition.at);
                if at.is_empty() || condition.is.is_empty() {
                    self.0.push(format!("{key}: needs at and is"));
                }
                when.push(Condition { at, is: condition.is.iter().map(|value| value.as_str().into()).collect() });
            }
            let reason = (!rule.reason.is_empty()).then(|| text::code("reason", &rule.reason));
            let reason = reason.transpose().unwrap_or_else(|fault| {
                self.0.push(format!("rules.{index}.{fault}"));
                None
            });
            compiled.push(Rule { when, outcome: rule.outcome, reason });
        }
        compiled
    }
}

impl Config {
    /// The mapping.
    ///
    /// # Errors
    /// Every fault, as `key: what is wrong`, without a value.
    pub fn compile(&self) -> Result<Mapping, Vec<String>> {
        let mut check = Check(Vec::new());
        let time = self.time.iter().map(|format| TimeFormat::parse(format, self.utc_offset_minutes));
        let time = time.collect::<Result<Vec<_>, _>>();
        let time = time.map_err(|fault| check.0.push(fault.to_owned())).ok();
        let pattern_at = (!self.pattern_at.is_empty()).then(|| Pointer::parse(&self.pattern_at));
        if matches!(pattern_at, Some(None | Some(Pointer::Group(_)))) {
            check.0.push("pattern_at: must be a JSON pointer (/a/b)".to_owned());
        }
        let instance = (!self.instance.is_empty()).then(|| text::clerk_id("instance", &self.instance));
        let instance = instance.transpose().map_err(|fault| check.0.push(fault.to_string())).ok().flatten();
        let decide = self.decide(&mut check);
        if self.occurred_at.is_empty() || self.time.is_empty() {
            check.0.push("occurred_at: it and time must have at least one item".to_owned());
        }
        let mapping = time.map(|time| Mapping {
            patterns: check.patterns(&self.patterns),
            pattern_at: pattern_at.flatten(),
            id: check.pointers("id", &self.id),
            occurred_at: check.pointers("occurred_at", &self.occurred_at),
            time,
            ip: check.pointers("ip", &self.ip),
            user_id: check.pointers("user_id", &self.user_id),
            user_id_prefix: self.user_id_prefix.as_str().into(),
            identifier: check.pointers("identifier", &self.identifier),
            user_agent: check.pointers("user_agent", &self.user_agent),
            instance_id: check.pointers("instance_id", &self.instance_id),
            instance: instance.map(Tenant),
            session_id: check.pointers("session_id", &self.session_id),
            reason: check.pointers("reason", &self.reason),
            decide,
        });
        mapping.filter(|_| check.0.is_empty()).ok_or(check.0)
    }

    fn decide(&self, check: &mut Check) -> Decide {
        let of_access_log = [("method", &self.method), ("path", &self.path), ("status", &self.status)];
        let named = of_access_log.iter().filter(|(_, places)| !places.is_empty()).count();
        if named == 0 {
            if self.rules.is_empty() || self.rules.len() > MAX_RULES {
                check.0.push(format!("rules: must be from 1 to {MAX_RULES}, or method, path and status be named"));
            }
            return Decide::Rules(check.rules(&self.rules));
        }
        if named < of_access_log.len() || !self.rules.is_empty() {
            check.0.push("method: method, path and status go together, and without rules".to_owned());
        }
        Decide::FrontendApi {
            method: check.pointers("method", &self.method),
            path: check.pointers("path", &self.path),
            status: check.pointers("status", &self.status),
        }
    }
}
