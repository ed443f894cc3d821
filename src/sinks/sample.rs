//! Findings for this module's tests.

use uuid::Uuid;

use crate::finding::{Finding, Lifecycle, revision_id};

/// The finding of `tests/fixtures/findings/stuffing.json`.
pub(crate) fn stuffing() -> Finding {
    serde_json::from_str(include_str!("../../tests/fixtures/findings/stuffing.json")).unwrap()
}

/// Revision `revision` of the finding number `finding`: opened first, then updated.
pub(crate) fn revision(finding: u128, revision: u32) -> Finding {
    let finding_id = Uuid::from_u128(finding);
    Finding {
        finding_id,
        revision_id: revision_id(finding_id, revision),
        revision,
        lifecycle: if revision == 1 { Lifecycle::Opened } else { Lifecycle::Updated },
        ..stuffing()
    }
}
