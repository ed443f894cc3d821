//! One batch, sent in ever smaller parts where the receiver wants it smaller or calls something in it bad.
//!
//! Invariant: every finding of the batch is settled or comes back exactly once, whatever the answers; among `n` findings
//! one that is bad is found within 2 log₂ n requests, and the others arrive.
//!
//! Not here: sending.

use crate::event::Timestamp;
use crate::finding::Finding;
use crate::sinks::Delivery;
use crate::sinks::outbox::{Due, Outcome};
use crate::sinks::standing::delay_millis;

/// What one call of the sink gets.
#[derive(Debug)]
pub(super) struct Part {
    keys: Vec<Key>,
    findings: Vec<Finding>,
    /// It is a single finding and was cut down because it was too large.
    trimmed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    entry: i64,
    attempts: u32,
}

impl Part {
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

/// The parts that wait.
#[derive(Debug)]
pub(super) struct Halves(Vec<Part>);

impl Halves {
    /// Everything in one part, and what became of what cannot be read.
    pub(super) fn of(due: Vec<Due>) -> (Self, Vec<Outcome>) {
        let mut part = Part { keys: Vec::new(), findings: Vec::new(), trimmed: false };
        let mut unreadable = Vec::new();
        for Due { entry, attempts, finding, .. } in due {
            match finding {
                Ok(finding) => {
                    part.keys.push(Key { entry, attempts });
                    part.findings.push(finding);
                }
                Err(reason) => unreadable.push(Outcome::new(entry, attempts, Delivery::Refused(reason))),
            }
        }
        (Self(if part.keys.is_empty() { Vec::new() } else { vec![part] }), unreadable)
    }

    /// Everything in it.
    pub(super) fn entries(&self) -> Vec<i64> {
        self.0.iter().flat_map(|part| part.keys.iter().map(|key| key.entry)).collect()
    }

    /// The next part.
    pub(super) fn next(&mut self) -> Option<Part> {
        self.0.pop()
    }

    /// What became of `part`; what has to be sent in smaller parts waits here instead.
    pub(super) fn sort(&mut self, part: Part, deliveries: Vec<Delivery>) -> Vec<Outcome> {
        let Part { keys, findings, trimmed } = part;
        let mut outcomes = Vec::with_capacity(keys.len());
        let mut again = Part { keys: Vec::new(), findings: Vec::new(), trimmed: false };
        let mut why = None;
        for ((key, finding), delivery) in keys.into_iter().zip(findings).zip(deliveries) {
            if matches!(delivery, Delivery::Split(_) | Delivery::Bisect(_)) {
                again.keys.push(key);
                again.findings.push(finding);
                why.get_or_insert(delivery);
            } else {
                outcomes.push(Outcome::new(key.entry, key.attempts, delivery));
            }
        }
        let (Some(why), Some(key)) = (why, again.keys.first().copied()) else { return outcomes };
        if again.keys.len() > 1 {
            let middle = again.keys.len() / 2;
            let (keys, findings) = (again.keys.split_off(middle), again.findings.split_off(middle));
            self.0.push(Part { keys, findings, trimmed: false });
            self.0.push(again);
            return outcomes;
        }
        match why {
            Delivery::Split(_) if !trimmed => {
                again.findings.iter_mut().for_each(trim);
                self.0.push(Part { trimmed: true, ..again });
            }
            Delivery::Split(reason) => {
                let reason = format!("too large even without its lists: {reason}");
                outcomes.push(Outcome::new(key.entry, key.attempts, Delivery::Refused(reason)));
            }
            Delivery::Bisect(reason) | Delivery::Blocked(reason) | Delivery::Refused(reason) => {
                outcomes.push(Outcome::new(key.entry, key.attempts, Delivery::Refused(reason)));
            }
            Delivery::Accepted | Delivery::Retry { .. } => outcomes.push(Outcome::new(key.entry, key.attempts, why)),
        }
        outcomes
    }
}

/// Leaves the accounts broken into and the counts, which are what somebody must act on, and says that it was cut.
fn trim(finding: &mut Finding) {
    /// Of the lists, the beginning.
    const KEPT: usize = 5;
    // Writing what was read does not fail.
    let whole = serde_json::to_vec(finding).map_or(0, |whole| whole.len());
    let evidence = &mut finding.evidence;
    evidence.cut_from_bytes = Some(whole);
    evidence.accounts.values.truncate(KEPT);
    evidence.addresses.values.truncate(KEPT);
    evidence.user_agents.truncate(KEPT);
    for agent in &mut evidence.user_agents {
        agent.value = agent.value.chars().take(200).collect();
    }
    evidence.networks.truncate(KEPT);
    evidence.reasons.truncate(KEPT);
    evidence.suspected.truncate(KEPT);
    evidence.compromised.truncate(20);
}

impl Outcome {
    pub(super) fn new(entry: i64, attempts: u32, delivery: Delivery) -> Self {
        Self { entry, attempts, delivery, next_at: None }
    }

    /// Due again by its own failures, not by its sink's.
    pub(super) fn wait_alone(&mut self, now: Timestamp) {
        self.next_at = Some(now.plus_millis(delay_millis(self.attempts, self.delivery.after())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::format::ocsf::{Version, detection_finding_as};
    use crate::sinks::sample::revision;

    fn batch(count: u128) -> Halves {
        let due = (0..count).map(|number| {
            let finding = revision(number, 1);
            let entry = i64::try_from(number).unwrap();
            Due { entry, revision_id: finding.revision_id, attempts: 0, finding: Ok(finding) }
        });
        Halves::of(due.collect()).0
    }

    /// Sends `count` to a receiver that answers by `answer`; outcomes by entry, and the number of requests.
    fn run(count: u128, answer: impl Fn(&[Finding]) -> Delivery) -> (Vec<(i64, &'static str)>, usize) {
        let mut halves = batch(count);
        let (mut settled, mut requests) = (Vec::new(), 0);
        while let Some(part) = halves.next() {
            requests += 1;
            let deliveries = vec![answer(part.findings()); part.findings().len()];
            let outcomes = halves.sort(part, deliveries);
            settled.extend(outcomes.into_iter().map(|outcome| (outcome.entry, outcome.delivery.as_str())));
        }
        (settled, requests)
    }

    #[test]
    fn one_bad_finding_among_five_hundred_is_found_and_the_others_arrive_in_order() {
        let bad = |findings: &[Finding]| findings.iter().any(|finding| finding.finding_id.as_u128() == 321);
        let (settled, requests) =
            run(500, |findings| if bad(findings) { Delivery::Bisect("400".into()) } else { Delivery::Accepted });
        assert_eq!(settled.len(), 500);
        assert!(settled.is_sorted());
        let refused: Vec<_> = settled.iter().filter(|(_, result)| *result == "refused").collect();
        assert_eq!(refused, [&(321, "refused")]);
        assert!(requests <= 19, "{requests}");
    }

    #[test]
    fn what_is_too_large_goes_in_parts_and_a_single_one_cut_down() {
        let at_most = |most: usize| {
            move |findings: &[Finding]| {
                if findings.len() > most { Delivery::Split("413".into()) } else { Delivery::Accepted }
            }
        };
        let (settled, requests) = run(100, at_most(30));
        assert_eq!((settled.len(), requests), (100, 7));
        assert!(settled.iter().all(|(_, result)| *result == "accepted"));

        let short = |findings: &[Finding]| {
            let long = findings.iter().any(|finding| finding.evidence.accounts.values.len() > 5);
            if long { Delivery::Split("413".into()) } else { Delivery::Accepted }
        };
        let mut halves = batch(1);
        let mut part = halves.next().unwrap();
        part.findings[0].evidence.accounts.values = vec!["user_1".into(); 50];
        let answer = short(part.findings());
        assert!(halves.sort(part, vec![answer]).is_empty());
        let part = halves.next().unwrap();
        assert_eq!(short(part.findings()), Delivery::Accepted);
        let cut = &part.findings()[0];
        let record = serde_json::to_value(detection_finding_as(cut, Version::V1_8_0, None)).unwrap();
        assert_eq!(record["metadata"]["is_truncated"], true);
        let bytes = record["unmapped"]["authspike"]["cut_from_bytes"].as_u64().unwrap();
        assert!(bytes > serde_json::to_string(cut).unwrap().len() as u64, "{bytes}");
        let settled = halves.sort(part, vec![Delivery::Split("413".into())]);
        assert!(matches!(&settled[0].delivery, Delivery::Refused(reason) if reason.contains("too large even")));
        assert!(halves.next().is_none());
    }

    #[test]
    fn single_results_are_kept_and_only_the_rest_is_sent_again() {
        let mut halves = batch(4);
        let part = halves.next().unwrap();
        let bisect = Delivery::Bisect("400".into());
        let answers = vec![Delivery::Accepted, bisect.clone(), Delivery::retry("429"), bisect];
        let settled: Vec<_> =
            halves.sort(part, answers).iter().map(|outcome| (outcome.entry, outcome.delivery.as_str())).collect();
        assert_eq!(settled, [(0, "accepted"), (2, "retry")]);
        let sizes: Vec<i64> = std::iter::from_fn(|| halves.next()).map(|part| part.keys[0].entry).collect();
        assert_eq!(sizes, [1, 3]);
    }
}
