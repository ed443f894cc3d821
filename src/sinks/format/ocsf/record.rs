//! The record's shape: OCSF's attribute names, in the order they are written.
//!
//! Invariant: the order of fields is the order of bytes; optional attributes are left out rather than written as null,
//! since the schema has no nulls.
//!
//! Not here: attributes this program never sets. Each that is added must pass the schema in `tests/schemas`.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;
use uuid::Uuid;

use super::super::figures::Figures;
use super::Version;

/// Class 2004. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
pub struct DetectionFinding<'a> {
    pub(super) activity_id: u32,
    pub(super) activity_name: &'static str,
    pub(super) category_uid: u32,
    pub(super) category_name: &'static str,
    pub(super) class_uid: u32,
    pub(super) class_name: &'static str,
    pub(super) type_uid: u32,
    pub(super) type_name: &'static str,
    pub(super) severity_id: u8,
    pub(super) severity: &'static str,
    pub(super) status_id: u8,
    pub(super) status: &'static str,
    pub(super) is_alert: bool,
    pub(super) time: i64,
    pub(super) start_time: i64,
    pub(super) end_time: i64,
    pub(super) count: i32,
    pub(super) message: String,
    pub(super) metadata: Metadata<'a>,
    pub(super) finding_info: FindingInfo,
    pub(super) evidences: Vec<Evidence<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) observables: Vec<Observable<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) resources: Vec<Resource<'a>>,
    pub(super) unmapped: Unmapped<'a>,
}

/// OCSF's object for everything else.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Unmapped<'a> {
    pub(super) authspike: Figures<'a>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Metadata<'a> {
    pub(super) version: Version,
    pub(super) uid: Uuid,
    pub(super) sequence: u32,
    pub(super) event_code: &'static str,
    pub(super) tenant_uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) correlation_uid: Option<Uuid>,
    pub(super) log_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) untruncated_size: Option<i32>,
    pub(super) product: Product,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Product {
    pub(super) name: &'static str,
    pub(super) uid: &'static str,
    pub(super) vendor_name: &'static str,
    pub(super) version: &'static str,
    pub(super) feature: ProductFeature,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ProductFeature {
    pub(super) name: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct FindingInfo {
    pub(super) uid: Uuid,
    pub(super) title: String,
    pub(super) desc: String,
    pub(super) types: [&'static str; 1],
    pub(super) first_seen_time: i64,
    pub(super) last_seen_time: i64,
    pub(super) modified_time: i64,
    pub(super) related_events_count: i32,
    pub(super) data_sources: [&'static str; 1],
    pub(super) analytic: Analytic,
    pub(super) attacks: Vec<Attack>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Analytic {
    pub(super) uid: &'static str,
    pub(super) name: &'static str,
    pub(super) type_id: u8,
    #[serde(rename = "type")]
    pub(super) type_name: &'static str,
    pub(super) version: &'static str,
    pub(super) category: &'static str,
    pub(super) desc: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Attack {
    pub(super) version: &'static str,
    pub(super) tactic: Named,
    pub(super) technique: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub_technique: Option<Named>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Named {
    pub(super) uid: &'static str,
    pub(super) name: &'static str,
}

/// The schema wants at least one attribute that says what was seen; `http_request` alone would not do, so `data` is
/// always there.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Evidence<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) src_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http_request: Option<HttpRequest<'a>>,
    pub(super) data: EvidenceFigures,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Endpoint {
    pub(super) ip: IpAddr,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct User<'a> {
    pub(super) uid: &'a str,
    pub(super) type_id: u8,
    #[serde(rename = "type")]
    pub(super) type_name: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct HttpRequest<'a> {
    pub(super) user_agent: &'a str,
}

/// Why this evidence is here, in figures of our own.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(super) enum EvidenceFigures {
    /// What the finding is about.
    Entity { failures: u64, distinct: u64, successes: u64 },
    /// An account to be considered taken over.
    Compromised { how: &'static str, time: i64 },
    /// One of the addresses that took part.
    Address,
    /// One of the user agents that took part.
    UserAgent { count: u64 },
    /// One of the accounts that were tried.
    TriedAccount,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Observable<'a> {
    pub(super) name: &'static str,
    pub(super) type_id: u8,
    pub(super) value: Cow<'a, str>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Resource<'a> {
    pub(super) uid: &'a str,
    #[serde(rename = "type")]
    pub(super) type_name: &'static str,
}
