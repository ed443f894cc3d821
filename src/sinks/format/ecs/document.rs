//! The document's shape: ECS field names, in the order they are written.
//!
//! Invariant: fields without a value are left out, never null. What ECS normalises to an array is an array even of one.
//!
//! Not here: fields this program never sets. Each that is added must pass `@elastic/ecs` in the tests.

use std::net::IpAddr;

use serde::Serialize;
use uuid::Uuid;

use super::super::attack::Named;
use super::DataStream;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Document<'a, Figures> {
    #[serde(rename = "@timestamp")]
    pub(super) timestamp: String,
    pub(super) message: String,
    pub(super) ecs: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_stream: Option<DataStream<'a>>,
    pub(super) event: Event,
    pub(super) rule: Rule,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threat: Option<Threat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<UserAgent<'a>>,
    pub(super) related: Related<'a>,
    pub(super) observer: Observer,
    pub(super) organization: Organization<'a>,
    pub(super) labels: Labels<'a>,
    pub(super) authspike: Figures,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Version {
    pub(super) version: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) category: [&'static str; 2],
    #[serde(rename = "type")]
    pub(super) types: [&'static str; 1],
    pub(super) action: &'static str,
    pub(super) code: &'static str,
    pub(super) id: Uuid,
    pub(super) module: &'static str,
    pub(super) dataset: &'static str,
    pub(super) provider: &'static str,
    pub(super) severity: u8,
    pub(super) sequence: u32,
    pub(super) start: String,
    pub(super) end: String,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<i64>,
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ingested: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) category: &'static str,
    pub(super) description: &'static str,
    pub(super) ruleset: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Threat {
    pub(super) framework: &'static str,
    pub(super) tactic: ThreatNames,
    pub(super) technique: ThreatTechniques,
}

/// Parallel lists, as ECS has them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ThreatNames {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    id: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    name: Vec<&'static str>,
}

impl ThreatNames {
    pub(super) fn add(&mut self, named: Named) {
        self.id.push(named.uid);
        self.name.push(named.name);
    }

    fn is_empty(&self) -> bool {
        self.id.is_empty()
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ThreatTechniques {
    #[serde(flatten)]
    pub(super) names: ThreatNames,
    #[serde(skip_serializing_if = "ThreatNames::is_empty")]
    pub(super) subtechnique: ThreatNames,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Source {
    pub(super) ip: IpAddr,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct User<'a> {
    pub(super) id: &'a str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct UserAgent<'a> {
    pub(super) original: &'a str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Related<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ip: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) user: Vec<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Observer {
    pub(super) vendor: &'static str,
    pub(super) product: &'static str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) version: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Organization<'a> {
    pub(super) id: &'a str,
}

/// Flat, and keywords all: what saved searches filter by.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Labels<'a> {
    pub(super) finding_uid: Uuid,
    pub(super) lifecycle: &'static str,
    pub(super) shape: &'static str,
    pub(super) entity_kind: &'static str,
    pub(super) entity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) correlation_uid: Option<Uuid>,
}
