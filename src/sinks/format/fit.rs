//! Makes a record fit where only so many bytes are taken.
//!
//! Invariant: only lists are shortened, never a total, an id, a severity or a sentence; accounts broken into go last. The
//! record says that it was cut, and how large it was.
//!
//! Not here: which receiver takes how much (the sinks).

use crate::finding::{Compromised, Counted, Evidence, Finding, Sample};

/// What is kept of each list, step by step: of accounts, addresses, networks and suspects; of user agents and reasons; of
/// accounts broken into. After the last, what is left is fixed in size but for the finding's own names.
const STEPS: [(usize, usize, usize); 4] = [(20, 5, 100), (5, 2, 20), (0, 1, 5), (0, 0, 0)];

/// The record that `encode` makes of `finding`, with its lists shortened as far as it takes to stay within `max_bytes`;
/// `None` when even without them it does not. `encode` is told how many bytes the whole record had, once lists are cut.
///
/// # Errors
/// Those of `encode`.
pub fn within<E>(
    finding: &Finding,
    max_bytes: usize,
    encode: impl Fn(&Finding, Option<usize>) -> Result<Vec<u8>, E>,
) -> Result<Option<Vec<u8>>, E> {
    let whole = encode(finding, None)?;
    if whole.len() <= max_bytes {
        return Ok(Some(whole));
    }
    for step in STEPS {
        let cut = encode(&shortened(finding, step), Some(whole.len()))?;
        if cut.len() <= max_bytes {
            return Ok(Some(cut));
        }
    }
    Ok(None)
}

fn shortened(finding: &Finding, (names, counts, broken_into): (usize, usize, usize)) -> Finding {
    let evidence = &finding.evidence;
    let sample = |sample: &Sample| Sample { values: first(&sample.values, names), ..*sample };
    let counted = |list: &[Counted]| first(list, counts);
    let evidence = Evidence {
        accounts: sample(&evidence.accounts),
        addresses: sample(&evidence.addresses),
        reasons: counted(&evidence.reasons),
        user_agents: counted(&evidence.user_agents),
        compromised: first::<Compromised>(&evidence.compromised, broken_into),
        // Its own total stands beside it, but a finding from before that field has none.
        compromised_total: evidence.compromised_total.max(u64::try_from(evidence.compromised.len()).unwrap_or(0)),
        suspected: first::<Compromised>(&evidence.suspected, names),
        networks: first(&evidence.networks, names),
        shapes: evidence.shapes.clone(),
        within: evidence.within.clone(),
        ..*evidence
    };
    Finding { evidence, entity: finding.entity.clone(), tenant: finding.tenant.clone(), ..*finding }
}

fn first<T: Clone>(list: &[T], count: usize) -> Vec<T> {
    list.get(..count).unwrap_or(list).to_vec()
}
