//! Whom a sign-in is about: the identifier is told when it is created, and its later steps name the sign-in only.
//!
//! Invariant: bounded in number and in age, and each remembered for at least half the time given unless there are too many.
//! Two generations, of which the older is dropped whole: nothing is searched for what has expired.

use std::collections::HashMap;

use crate::event::{IdentifierHash, Timestamp};

/// Of one generation; about 6 MiB.
const MAX_SIGN_INS: usize = 50_000;
/// Of one generation: codes are valid for ten minutes, and a page that waited longer begins anew.
const MAX_AGE_MILLIS: i64 = 30 * 60 * 1000;

/// Identifiers' hashes by `sia_…`.
#[derive(Debug)]
pub(super) struct SignIns {
    young: HashMap<Box<str>, IdentifierHash>,
    old: HashMap<Box<str>, IdentifierHash>,
    since: Timestamp,
}

impl SignIns {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), since: now }
    }

    /// A sign-in was seen with the identifier it is about.
    pub(super) fn insert(&mut self, sign_in: Box<str>, identifier: IdentifierHash, now: Timestamp) {
        self.turn(now);
        if self.young.len() >= MAX_SIGN_INS {
            self.age(now);
        }
        self.young.insert(sign_in, identifier);
    }

    /// Whom a sign-in is about.
    pub(super) fn get(&mut self, sign_in: &str, now: Timestamp) -> Option<IdentifierHash> {
        self.turn(now);
        self.young.get(sign_in).or_else(|| self.old.get(sign_in)).copied()
    }

    fn turn(&mut self, now: Timestamp) {
        let age = now.millis_since(self.since);
        if age >= 2 * MAX_AGE_MILLIS {
            self.age(now);
        }
        if age >= MAX_AGE_MILLIS {
            self.age(now);
        }
    }

    fn age(&mut self, now: Timestamp) {
        self.old = std::mem::take(&mut self.young);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_remembered_for_half_an_hour_and_forgotten_after_an_hour() {
        let mut sign_ins = SignIns::new(Timestamp(0));
        sign_ins.insert("sia_1".into(), IdentifierHash([1; 16]), Timestamp(MAX_AGE_MILLIS - 1));
        let at = |sign_ins: &mut SignIns, now| sign_ins.get("sia_1", Timestamp(now)).is_some();
        assert!(at(&mut sign_ins, MAX_AGE_MILLIS - 1));
        assert!(at(&mut sign_ins, 2 * MAX_AGE_MILLIS - 2));
        assert!(!at(&mut sign_ins, 3 * MAX_AGE_MILLIS));
        sign_ins.insert("sia_1".into(), IdentifierHash([1; 16]), Timestamp(3 * MAX_AGE_MILLIS));
        assert!(!at(&mut sign_ins, 5 * MAX_AGE_MILLIS), "after a long silence too");
    }

    #[test]
    fn there_are_never_more_than_two_generations() {
        let mut sign_ins = SignIns::new(Timestamp(0));
        for number in 0..3 * MAX_SIGN_INS {
            sign_ins.insert(format!("sia_{number}").into(), IdentifierHash([0; 16]), Timestamp(1));
        }
        assert_eq!(sign_ins.young.len() + sign_ins.old.len(), 2 * MAX_SIGN_INS);
        let last = format!("sia_{}", 3 * MAX_SIGN_INS - 1);
        assert!(sign_ins.get(&last, Timestamp(1)).is_some() && sign_ins.get("sia_0", Timestamp(1)).is_none());
    }
}
