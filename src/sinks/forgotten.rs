//! Accounts that were forgotten a moment ago: what a sink on this machine no longer writes, though it was handed over.
//!
//! A delivery takes its findings from the outbox before it writes them. One that is on its way while its account is
//! forgotten there would write the name into a file that has just been cleaned.
//!
//! Invariant: whoever writes holds the list for as long as that takes, and so does whoever cleans: after the cleaning no
//! write has the name. Names are kept for as long as a delivery can be on its way, and only in memory: a restart ends
//! every delivery.
//!
//! Not here: sinks that send elsewhere. What is on its way there has left.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{Tenant, Timestamp};
use crate::finding::Finding;

/// Ten times as long as a delivery may take, for a disk that hangs.
const KEPT_MILLIS: i64 = 10 * 60_000;
/// Far more than are forgotten in ten minutes at a pass of 64 in ten seconds.
const MAX_NAMES: usize = 4096;

/// An account, and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Whose account it was; perhaps [`Tenant::EVERY`].
    pub tenant: Tenant,
    /// As findings write it.
    pub from: String,
    /// The pseudonym.
    pub to: String,
}

/// The list. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Forgotten(Arc<Mutex<VecDeque<(Timestamp, Name)>>>);

/// The list, held: nobody writes meanwhile.
pub struct Held<'a>(MutexGuard<'a, VecDeque<(Timestamp, Name)>>);

impl Forgotten {
    /// Holds the list. Blocks until whoever has it is done.
    #[must_use]
    pub fn hold(&self) -> Held<'_> {
        Held(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held<'_> {
    /// From now on `names` are written by their pseudonyms; those of long ago are dropped.
    pub fn add(&mut self, names: impl IntoIterator<Item = Name>, now: Timestamp) {
        self.0.retain(|(at, _)| now.millis_since(*at).abs() < KEPT_MILLIS);
        for name in names {
            if self.0.len() >= MAX_NAMES {
                self.0.pop_front();
            }
            self.0.push_back((now, name));
        }
    }

    /// `findings` as they may be written.
    #[must_use]
    pub fn clean<'a>(&self, findings: &'a [Finding]) -> Cow<'a, [Finding]> {
        if self.0.is_empty() {
            return Cow::Borrowed(findings);
        }
        let clean = |finding: &Finding| {
            let mut finding = finding.clone();
            for (_, name) in &*self.0 {
                if name.tenant.covers(&finding.tenant) {
                    finding.rename_account(&name.from, &name.to);
                }
            }
            finding
        };
        findings.iter().map(clean).collect()
    }
}
