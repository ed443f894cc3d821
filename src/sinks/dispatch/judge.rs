//! What the answers to one part say of the sink as a whole, and when what was not taken is due again.
//!
//! Invariant: a sink that refuses everything loses [`MAX_REFUSALS`] findings to the dead letters at most, and none while it
//! is blocked. An answer to what was sent before the sink got into trouble neither ends that trouble nor adds to it; only
//! its wish to be left alone counts.
//!
//! Not here: recording it.

use crate::event::Timestamp;
use crate::sinks::Delivery;
use crate::sinks::outbox::Outcome;
use crate::sinks::standing::{OPEN_AFTER, Standing, State};

/// Findings refused in a row, with none taken between them, after which it is not them that are bad but how the sink is
/// set up (an index, a source type, a mapping): far more than one bad format makes, and few enough to look through and to
/// replay.
pub(super) const MAX_REFUSALS: u32 = 50;

/// What a part's answers mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The sink took or refused something: the rest of the batch is worth sending.
    pub(super) go_on: bool,
    /// It did, for the first time after failures.
    pub(super) recovered: bool,
}

/// Judges `outcomes`, which are those of one part; `is_stale`: it was sent before the sink last got into trouble.
pub(super) fn judge(
    name: &str,
    outcomes: &mut [Outcome],
    standing: &mut Standing,
    is_stale: bool,
    now: Timestamp,
) -> Verdict {
    let keeps = keep_refused(outcomes, standing);
    report_refused(name, outcomes);
    let (count, failed) = (outcomes.len(), outcomes.iter().filter(|outcome| !is_settled(outcome)).count());
    if failed < count && !keeps {
        let recovered = !is_stale && standing.progressed();
        if recovered {
            tracing::info!(sink = name, "takes deliveries again");
        }
        // What failed alone waits alone, for as long as it has failed.
        for outcome in outcomes.iter_mut().filter(|outcome| !is_settled(outcome)) {
            outcome.wait_alone(now);
        }
        if failed > 0 {
            tracing::warn!(sink = name, findings = failed, "not delivered with the others, trying again");
        }
        return Verdict { go_on: true, recovered };
    }
    // A single one that fails makes room for the next probe: it may be the one that is at fault.
    if let [one] = outcomes {
        one.wait_alone(now);
    }
    let blocked = outcomes.iter().find(|outcome| matches!(outcome.delivery, Delivery::Blocked(_)));
    if let Some(reason) = blocked.and_then(|outcome| outcome.delivery.reason()) {
        if standing.blocked(reason, now) {
            tracing::error!(sink = name, reason, "blocked: everything is kept until this is repaired");
        }
        return Verdict::default();
    }
    let longest = outcomes.iter().filter_map(|outcome| outcome.delivery.after()).max();
    if is_stale {
        standing.quiet(longest, now);
        return Verdict::default();
    }
    let reason = outcomes.first().and_then(|outcome| outcome.delivery.reason()).unwrap_or_default();
    standing.failed(reason, longest, now);
    if standing.failures <= OPEN_AFTER {
        tracing::warn!(sink = name, findings = count, reason, "not delivered, trying again");
    }
    Verdict::default()
}

fn is_settled(outcome: &Outcome) -> bool {
    matches!(outcome.delivery, Delivery::Accepted | Delivery::Refused(_))
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome.delivery, Delivery::Refused(_))
}

/// Turns refusals that are about the sink into what keeps the finding; whether there were any.
fn keep_refused(outcomes: &mut [Outcome], standing: &mut Standing) -> bool {
    if let Some(last) = outcomes.iter().rposition(|outcome| outcome.delivery == Delivery::Accepted) {
        let since = outcomes.iter().skip(last).filter(|outcome| is_refused(outcome)).count();
        standing.refusals = u32::try_from(since).unwrap_or(u32::MAX);
        return false;
    }
    let mut keeps = false;
    for outcome in outcomes {
        let Delivery::Refused(reason) = &outcome.delivery else { continue };
        if standing.state == State::Blocked || standing.refusals >= MAX_REFUSALS {
            let reason = format!("it refuses every finding, the last with: {reason}");
            outcome.delivery = Delivery::Blocked(reason);
            keeps = true;
        } else {
            standing.refusals += 1;
        }
    }
    keeps
}

fn report_refused(name: &str, outcomes: &[Outcome]) {
    let mut refused = outcomes.iter().filter(|outcome| is_refused(outcome));
    if let Some(reason) = refused.next().and_then(|outcome| outcome.delivery.reason()) {
        let findings = 1 + refused.count();
        tracing::error!(sink = name, findings, reason, "refused for good (see the dead letters)");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_716_883_500_000);

    fn outcomes(deliveries: impl IntoIterator<Item = Delivery>) -> Vec<Outcome> {
        (0..).zip(deliveries).map(|(entry, one)| Outcome::new(entry, 0, one)).collect()
    }

    fn refused(count: usize) -> Vec<Outcome> {
        outcomes(vec![Delivery::Refused("400".into()); count])
    }

    fn kept(outcomes: &[Outcome]) -> usize {
        outcomes.iter().filter(|outcome| matches!(outcome.delivery, Delivery::Blocked(_))).count()
    }

    #[test]
    fn a_sink_that_refuses_everything_is_blocked_after_fifty_and_nothing_more_is_given_up() {
        let mut standing = Standing::default();
        let mut batch = refused(500);
        let verdict = judge("s", &mut batch, &mut standing, false, NOW);
        assert_eq!((kept(&batch), verdict.go_on, standing.state), (450, false, State::Blocked));
        assert!(standing.reason.as_ref().unwrap().contains("refuses every finding, the last with: 400"));

        // A restart does not forget it.
        let mut restored = Standing::restored("blocked", 1, None, Some(NOW), standing.reason.clone());
        for standing in [&mut standing, &mut restored] {
            let mut probe = refused(1);
            judge("s", &mut probe, standing, false, NOW);
            assert_eq!((kept(&probe), standing.state), (1, State::Blocked));
            assert!(probe[0].next_at.is_some(), "the next probe is another finding");
            let verdict = judge("s", &mut outcomes([Delivery::Accepted]), standing, false, NOW);
            assert!(verdict.go_on && verdict.recovered && standing.state == State::Ok);
            let mut bad = refused(1);
            judge("s", &mut bad, standing, false, NOW);
            assert_eq!(kept(&bad), 0, "it takes others, so this one is bad");
        }
    }

    #[test]
    fn bad_findings_among_good_ones_are_given_up_however_many() {
        let mut standing = Standing::default();
        for _ in 0..10 {
            assert!(judge("s", &mut refused(49), &mut standing, false, NOW).go_on);
            let mut mixed = refused(200);
            mixed[100].delivery = Delivery::Accepted;
            mixed.truncate(101);
            assert!(judge("s", &mut mixed, &mut standing, false, NOW).go_on);
            assert_eq!((kept(&mixed), standing.refusals), (0, 0));
        }
        let mut mixed = refused(40);
        mixed[9].delivery = Delivery::Accepted;
        judge("s", &mut mixed, &mut standing, false, NOW);
        let mut more = refused(40);
        judge("s", &mut more, &mut standing, false, NOW);
        assert_eq!(kept(&more), 20, "thirty of the last batch count");
    }

    #[test]
    fn what_was_sent_before_the_trouble_neither_ends_it_nor_counts_again_but_its_wish_is_kept() {
        let mut standing = Standing::default();
        let busy = |after| outcomes([Delivery::retry("429"), Delivery::Retry { reason: "429".into(), after }]);
        judge("s", &mut busy(Some(Duration::from_mins(5))), &mut standing, false, NOW);
        let before = standing.clone();
        for late in [outcomes([Delivery::Accepted]), busy(None), busy(Some(Duration::from_secs(1)))] {
            let mut late = late;
            assert!(!judge("s", &mut late, &mut standing, true, NOW).recovered);
            assert_eq!(standing, before);
        }
        judge("s", &mut busy(Some(Duration::from_mins(10))), &mut standing, true, NOW);
        assert_eq!((standing.failures, standing.state), (1, State::Failing));
        assert!(standing.allowance(NOW.plus_millis(599_000)).is_err());
        judge("s", &mut outcomes([Delivery::Blocked("401".into())]), &mut standing, true, NOW);
        assert_eq!(standing.state, State::Blocked);
    }
}
