//! Several records about one attempt become one event.
//!
//! Invariant: of the records of one batch that bear one id, the one that says most is kept, in the place of the first. What
//! comes in a later batch is recognised by the log as a duplicate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::event::{AuthEvent, Outcome};

/// How much an outcome says about an attempt: a lock or a breached password is the reason of the failure beside it.
const fn weight(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Success => 7,
        Outcome::PasswordCorrectStopped => 6,
        Outcome::Locked => 5,
        Outcome::RateLimited => 4,
        Outcome::Blocked => 3,
        Outcome::Failure => 2,
        Outcome::Challenge => 1,
        Outcome::CodeSent
        | Outcome::AccountChanged
        | Outcome::AccountDeleted
        | Outcome::SessionEnded
        | Outcome::Other => 0,
    }
}

/// `batch` with one item for each id; `event` is the event of an item.
#[must_use]
pub fn collapse<T>(batch: Vec<T>, event: impl Fn(&T) -> &AuthEvent) -> Vec<T> {
    let mut places: HashMap<Box<str>, usize> = HashMap::with_capacity(batch.len());
    let mut kept: Vec<T> = Vec::with_capacity(batch.len());
    for item in batch {
        match places.entry(event(&item).id.clone()) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(item);
            }
            Entry::Occupied(place) => {
                if let Some(before) = kept.get_mut(*place.get())
                    && weight(event(&item).outcome) > weight(event(before).outcome)
                {
                    *before = item;
                }
            }
        }
    }
    kept
}
