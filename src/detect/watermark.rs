//! What time it is in the log.
//!
//! Invariant: event time never goes back and never outruns what a record's own arrival allows. Between events it moves at
//! the pace of the wall clock from where the last event left it (ticks), so a live partition closes its windows when
//! nothing happens, and one that is being fed the past is not torn to the present.

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// A sender's clock may be this far ahead before its events are taken to have happened when they arrived.
pub(crate) const ALLOWED_SKEW_MILLIS: i64 = 120_000;

/// The event-time clock of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    at: Timestamp,
    /// Where the clock stood, and the wall time, when the last event arrived.
    anchor: Option<(Timestamp, Timestamp)>,
}

impl Watermark {
    /// Event time up to which everything is believed seen.
    pub(crate) fn now(self) -> Timestamp {
        self.at
    }

    /// The time an event counts for.
    pub(crate) fn effective(occurred_at: Timestamp, received_at: Timestamp) -> Timestamp {
        if occurred_at.millis_since(received_at) > ALLOWED_SKEW_MILLIS { received_at } else { occurred_at }
    }

    /// An event that counts for `effective` arrived at `received_at`.
    pub(crate) fn on_event(&mut self, effective: Timestamp, received_at: Timestamp) {
        self.at = self.at.max(effective);
        self.anchor = Some((self.at, received_at));
    }

    /// Nothing happened until wall time `at`.
    pub(crate) fn on_tick(&mut self, at: Timestamp) {
        if let Some(projected) = self.projected(at) {
            self.at = self.at.max(projected);
        }
    }

    /// Event time at wall time `wall`, if nothing happens until then; `None` before the first event.
    pub(crate) fn projected(self, wall: Timestamp) -> Option<Timestamp> {
        let (at, received_at) = self.anchor?;
        Some(at.plus_millis(wall.millis_since(received_at).max(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_events_and_moves_at_wall_pace_between_them() {
        let mut watermark = Watermark::default();
        watermark.on_tick(Timestamp(99));
        assert_eq!(watermark.now(), Timestamp(0), "no event yet: no time");
        // The past, read at wall time 1_000_000.
        watermark.on_event(Timestamp(5_000), Timestamp(1_000_000));
        watermark.on_event(Timestamp(4_000), Timestamp(1_000_010));
        assert_eq!(watermark.now(), Timestamp(5_000));
        watermark.on_tick(Timestamp(1_060_010));
        assert_eq!(watermark.now(), Timestamp(65_000), "a minute of silence is a minute");
        watermark.on_tick(Timestamp(1_000_000));
        assert_eq!(watermark.now(), Timestamp(65_000), "never back");
    }

    #[test]
    fn a_clock_far_ahead_does_not_move_it() {
        let received = Timestamp(1_000_000);
        assert_eq!(Watermark::effective(Timestamp(1_100_000), received), Timestamp(1_100_000));
        assert_eq!(Watermark::effective(Timestamp(1_200_000), received), received);
        assert_eq!(Watermark::effective(Timestamp(10), received), Timestamp(10));
    }
}
