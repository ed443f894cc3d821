//! What a finding looks like to its readers: a SIEM ([`ocsf`], [`ecs`], [`cef`], [`json`]) or a person ([`text`]).
//!
//! Invariant: every format is a pure function of the finding (and of this program's version). A delivery that is
//! repeated after a crash sends the same bytes, so a receiver can recognise it by id and by content. Where a receiver
//! needs to know when a record was sent, the sink says so ([`ecs::Delivered`]).
//!
//! Not here: sending, and anything that depends on when it is sent.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;
use crate::finding::{Finding, Lifecycle};

pub mod analytic;
pub mod attack;
pub mod cef;
pub mod ecs;
mod figures;
pub mod fit;
pub mod json;
pub mod ocsf;
pub mod prose;
pub mod severity;
pub mod syslog;
pub mod text;

/// This program, as vendor and product.
const PRODUCT: &str = "authspike";
/// What the records are records of.
const DATASET: &str = "authspike.findings";
/// The first moment of year 1: RFC 3339 has no years before.
const FIRST: i64 = -62_135_596_800_000;
/// As late as a moment prints: nearly the end of year 9999.
const LAST: i64 = 253_402_207_200_000;

/// What a sink that sends JSON can be told to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// OCSF 1.5.0.
    #[default]
    #[serde(rename = "ocsf")]
    Ocsf,
    /// OCSF 1.8.0.
    #[serde(rename = "ocsf-1.8.0")]
    OcsfNewest,
    /// ECS.
    #[serde(rename = "ecs")]
    Ecs,
    /// The plain form.
    #[serde(rename = "json")]
    Json,
}

impl Body {
    /// Every body.
    pub const ALL: [Self; 4] = [Self::Ocsf, Self::OcsfNewest, Self::Ecs, Self::Json];

    /// `finding` as one line of JSON, without the newline.
    ///
    /// # Errors
    /// None that a record can cause; `serde_json` cannot know that.
    pub fn line(self, finding: &Finding) -> serde_json::Result<Vec<u8>> {
        self.encode(finding, None)
    }

    /// The same within `max_bytes`, with lists shortened as far as it takes; `None` when that is not enough.
    ///
    /// # Errors
    /// See [`Body::line`].
    pub fn line_within(self, finding: &Finding, max_bytes: usize) -> serde_json::Result<Option<Vec<u8>>> {
        fit::within(finding, max_bytes, |finding, cut_from_bytes| self.encode(finding, cut_from_bytes))
    }

    fn encode(self, finding: &Finding, cut_from_bytes: Option<usize>) -> serde_json::Result<Vec<u8>> {
        let ocsf = |version| serde_json::to_vec(&ocsf::detection_finding_as(finding, version, cut_from_bytes));
        match self {
            Self::Ocsf => ocsf(ocsf::Version::V1_5_0),
            Self::OcsfNewest => ocsf(ocsf::Version::V1_8_0),
            Self::Ecs => ecs::line(finding, ecs::Delivered::default(), cut_from_bytes),
            Self::Json => json::line(finding, cut_from_bytes),
        }
    }
}

/// Whether this revision tells of something that came to light after the finding had closed: an account broken into. Who is
/// only told of beginnings and ends would never hear of it.
#[must_use]
pub fn is_afterword(finding: &Finding) -> bool {
    finding.lifecycle == Lifecycle::Closed && finding.episode.closed_at.is_some_and(|closed_at| finding.at > closed_at)
}

/// `at` in RFC 3339 with milliseconds; what lies outside the years that format can hold is its first or last moment.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    Timestamp(at.0.clamp(FIRST, LAST)).to_string()
}

/// `203.0.113.7` as it is, `2001:db8:1:2::/64` as the first address of it. `None` for what is no address.
fn address(value: &str) -> Option<IpAddr> {
    value.split_once('/').map_or(value, |(address, _)| address).parse().ok()
}
