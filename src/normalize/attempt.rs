//! (being written)

use serde::Deserialize;

use super::identifier::IdentifierKey;
use super::{NormalizeError, Normalized};
use crate::event::{Account, AuthEvent, Outcome, Source, Tenant, Timestamp};

#[derive(Deserialize)]
struct Report<'a> {
    id: &'a str,
    occurred_at: &'a str,
    outcome: Outcome,
    #[serde(borrow)]
    reason: Option<&'a str>,
    ip: Option<std::net::IpAddr>,
    #[serde(borrow)]
    user_id: Option<&'a str>,
    #[serde(borrow)]
    identifier: Option<&'a str>,
    #[serde(borrow)]
    user_agent: Option<&'a str>,
    #[serde(borrow)]
    instance_id: Option<&'a str>,
    #[serde(borrow)]
    session_id: Option<&'a str>,
}

/// One attempt report.
///
/// # Errors
/// Not an attempt.
pub fn normalize(
    item: &[u8],
    received_at: Option<Timestamp>,
    key: &IdentifierKey,
) -> Result<Normalized, NormalizeError> {
    let report: Report<'_> =
        serde_json::from_slice(item).map_err(|fault| NormalizeError::Malformed(fault.to_string()))?;
    let at: jiff::Timestamp =
        report.occurred_at.parse().map_err(|_| NormalizeError::Malformed("occurred_at".into()))?;
    let at = Timestamp(at.as_millisecond());
    let tenant = Tenant::from(report.instance_id.unwrap_or(Tenant::UNNAMED));
    let identifier = report.identifier.map(|identifier| key.hash(&tenant, identifier));
    Ok(Normalized {
        event: AuthEvent {
            id: report.id.into(),
            occurred_at: at,
            received_at: received_at.unwrap_or(at),
            source: Source::AttemptReport,
            outcome: report.outcome,
            reason: report.reason.map(Into::into),
            ip: report.ip,
            account: report.user_id.map(|id| Account::User(id.into())).or(identifier.map(Account::Identifier)),
            identifier,
            user_agent: report.user_agent.map(Into::into),
            session: report.session_id.map(Into::into),
            tenant,
        },
        clamped: false,
        unknown_type: false,
    })
}
