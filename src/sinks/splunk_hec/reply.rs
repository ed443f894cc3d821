//! What the collector says in a body.
//!
//! Facts: Splunk's table of HEC status codes. One status stands for several of them, of which some say that the event is
//! bad and some that the set-up is.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::sinks::Delivery;

/// The body of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    code: Option<u32>,
    #[serde(rename = "ackId")]
    pub(super) ack_id: Option<u64>,
}

impl Reply {
    /// Whatever can be read of it.
    pub(super) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// What the code says, where that is more than the status does.
    pub(super) fn verdict(self, status: u16, reason: String) -> Option<Delivery> {
        match (status, self.code?) {
            // Wrong index, channel missing or invalid, acknowledgement disabled, query-string authorisation, token
            // disabled: not the event's fault.
            (400, 1 | 4 | 7 | 10 | 11 | 14 | 16 | 21 | 22) => Some(Delivery::Blocked(reason)),
            // Queues full, server busy, shutting down.
            (_, 8 | 9 | 18 | 19 | 20 | 23 | 26) if status >= 400 => Some(Delivery::retry(reason)),
            _ => None,
        }
    }
}

/// The ids that are written, of an answer to a question about several.
pub(super) fn acks(body: &[u8]) -> BTreeSet<u64> {
    #[derive(Default, Deserialize)]
    struct Acks {
        #[serde(default)]
        acks: std::collections::BTreeMap<u64, bool>,
    }
    let acks: Acks = serde_json::from_slice(body).unwrap_or_default();
    acks.acks.into_iter().filter_map(|(id, written)| written.then_some(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_up_that_is_wrong_is_no_bad_event() {
        let of = |status, body: &str| {
            let reply = Reply::read(body.as_bytes());
            reply.verdict(status, "r".into()).map_or("status", |delivery| delivery.as_str())
        };
        assert_eq!(of(400, r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#), "blocked");
        assert_eq!(of(400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#), "status");
        assert_eq!(of(400, r#"{"text":"Data channel is missing","code":10}"#), "blocked");
        assert_eq!(of(503, r#"{"text":"Server is busy","code":9}"#), "retry");
        assert_eq!(of(200, r#"{"text":"Success","code":0,"ackId":7}"#), "status");
        assert_eq!(of(502, "<html>"), "status");
    }

    #[test]
    fn only_what_is_said_to_be_written_is() {
        assert_eq!(acks(br#"{"acks":{"0":true,"1":false,"7":true}}"#), BTreeSet::from([0, 7]));
        assert_eq!(acks(b"{}"), BTreeSet::new());
        assert_eq!(acks(b"Not Found"), BTreeSet::new());
    }
}
