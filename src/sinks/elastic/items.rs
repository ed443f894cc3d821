//! What `_bulk` says of each item.
//!
//! Invariant: an item is delivered only if its own status says so, and an answer that does not speak of all of them
//! delivers none.

use serde::Deserialize;

use crate::sinks::Delivery;
use crate::sinks::http::Answer;

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    error: Option<Fault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
}

/// What became of the `count` items that were sent.
pub(super) fn deliveries(answer: &Answer, count: usize) -> Result<Vec<Delivery>, Delivery> {
    let unreadable = |what: &str| Delivery::retry(format!("{} ({what})", answer.reason()));
    let bulk: Bulk = serde_json::from_slice(answer.body()).map_err(|_| unreadable("that is no answer of _bulk"))?;
    if bulk.items.len() != count {
        return Err(unreadable(&format!("it speaks of {} items; {count} were sent", bulk.items.len())));
    }
    Ok(bulk.items.into_iter().map(|item| verdict(item.create)).collect())
}

fn verdict(created: Created) -> Delivery {
    let Created { status, error } = created;
    let fault = error.unwrap_or_default();
    let reason = format!("item answered {status}: {}: {}", fault.kind, fault.reason);
    match status {
        // 409: this revision is there already.
        200..=299 | 409 => Delivery::Accepted,
        429 | 500..=599 => Delivery::retry(reason),
        401 | 403 | 404 => Delivery::Blocked(reason),
        _ => Delivery::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_its_own_result() {
        let of = |status| verdict(Created { status, error: None }).as_str();
        assert_eq!(
            [201, 409, 429, 503, 403, 404, 400].map(of),
            ["accepted", "accepted", "retry", "retry", "blocked", "blocked", "refused"]
        );
        let error = Some(Fault { kind: "mapper_parsing_exception".into(), reason: "failed".into() });
        let refused = verdict(Created { status: 400, error });
        assert_eq!(refused.reason(), Some("item answered 400: mapper_parsing_exception: failed"));
    }
}
