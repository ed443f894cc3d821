//! How many different members has a set too large to keep? Exact up to 64, then `HyperLogLog`.
//!
//! Invariant: the sketch is a function of the set alone. Members in any order, any number of times, in one sketch or in
//! several that are merged, give the same bytes and the same estimate. Past 64 members the standard error is 2.3 %
//! (`1.04 / sqrt(2048)`) at every size; the estimator is Ertl's improved one (arXiv 1702.01284, section 4), which needs no
//! table of measured biases and no switch between estimators at small sizes.
//!
//! Memory: 144 bytes of frame, up to 64 × 8 bytes while exact, 2 KiB from then on.
//!
//! Not here: removing members, and intersections (their error is that of the larger set).

use serde::{Deserialize, Serialize};

/// Members kept by themselves: what a finding prints as an exact count, at a quarter of the registers' memory.
const MAX_EXACT: usize = 64;
/// Bits of a hash that choose its register.
const INDEX_BITS: u32 = 11;
/// Registers: the error falls with the root of their number, the memory grows with it.
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that are left for the rank.
const RANK_BITS: u32 = u64::BITS - INDEX_BITS;
/// Largest value of a register: all [`RANK_BITS`] were zero.
const MAX_RANK: usize = RANK_BITS as usize + 1;
/// `1 / (2 ln 2)`: the bias of the harmonic mean for infinitely many registers.
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// A set that is counted, known by the 64-bit hashes of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub(crate) enum Sketch {
    /// The mixed hashes themselves, ascending.
    Exact(Vec<u64>),
    /// The largest rank seen by each register.
    Registers(Registers),
}

/// The registers, and how many hold each rank: all that the estimate is made of, so that reading it does not mean reading
/// them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    ranks: Vec<u8>,
    histogram: [u16; MAX_RANK + 1],
}

impl Serialize for Registers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ranks.serialize(serializer)
    }
}

impl From<Vec<u8>> for Registers {
    fn from(ranks: Vec<u8>) -> Self {
        let mut histogram = [0; MAX_RANK + 1];
        for rank in &ranks {
            if let Some(count) = histogram.get_mut(usize::from(*rank)) {
                *count += 1;
            }
        }
        Self { ranks, histogram }
    }
}

impl Registers {
    /// Raises register `index` to `rank`; answers whether that changed it.
    fn raise(&mut self, index: usize, rank: u8) -> bool {
        let Some(known) = self.ranks.get_mut(index).filter(|known| **known < rank) else { return false };
        if let Some(count) = self.histogram.get_mut(usize::from(*known)) {
            *count -= 1;
        }
        *known = rank;
        if let Some(count) = self.histogram.get_mut(usize::from(rank)) {
            *count += 1;
        }
        true
    }

    /// Shows `hash` to its register; answers whether that changed it.
    fn show(&mut self, hash: u64) -> bool {
        // The bit below the rank's ends the run of zeros.
        let rest = hash << INDEX_BITS | 1 << (INDEX_BITS - 1);
        #[expect(clippy::cast_possible_truncation, reason = "an index of 11 bits and a rank of at most 54")]
        self.raise((hash >> RANK_BITS) as usize, rest.leading_zeros() as u8 + 1)
    }
}

/// A sketch as it was stored, before it is believed.
#[derive(Deserialize)]
enum Stored {
    Exact(Vec<u64>),
    Registers(Vec<u8>),
}

/// A stored sketch that no set can have given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a distinct-count sketch of an impossible shape")]
pub(crate) struct Misshapen;

impl TryFrom<Stored> for Sketch {
    type Error = Misshapen;

    fn try_from(stored: Stored) -> Result<Self, Misshapen> {
        match stored {
            Stored::Exact(members) if members.len() <= MAX_EXACT && members.is_sorted_by(|a, b| a < b) => {
                Ok(Self::Exact(members))
            }
            Stored::Registers(ranks)
                if ranks.len() == REGISTERS && ranks.iter().all(|rank| usize::from(*rank) <= MAX_RANK) =>
            {
                Ok(Self::Registers(ranks.into()))
            }
            Stored::Exact(_) | Stored::Registers(_) => Err(Misshapen),
        }
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Sketch {
    /// Adds the member with this hash. Answers whether the sketch changed: only then can the estimate have.
    pub(crate) fn add(&mut self, hash: u64) -> bool {
        self.add_mixed(mix(hash))
    }

    /// Makes this the sketch of the union of both sets.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tenants whose events are spread over partitions"))]
    pub(crate) fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(members) => {
                for member in members {
                    self.add_mixed(*member);
                }
            }
            Self::Registers(theirs) => {
                self.widen();
                let Self::Registers(mine) = self else { return };
                for (index, rank) in theirs.ranks.iter().enumerate() {
                    mine.raise(index, *rank);
                }
            }
        }
    }

    /// Number of members: exact up to 64.
    pub(crate) fn estimate(&self) -> u64 {
        match self {
            Self::Exact(members) => members.len() as u64,
            Self::Registers(registers) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, below 2^64")]
                let rounded = estimate(&registers.histogram).round() as u64;
                rounded
            }
        }
    }

    /// Whether [`Sketch::estimate`] is the number itself.
    #[cfg(test)]
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(members) => members.capacity() * size_of::<u64>(),
            Self::Registers(registers) => registers.ranks.capacity(),
        }
    }

    fn add_mixed(&mut self, hash: u64) -> bool {
        match self {
            Self::Exact(members) => match members.binary_search(&hash) {
                Ok(_) => false,
                Err(place) if members.len() < MAX_EXACT => {
                    members.insert(place, hash);
                    true
                }
                Err(_) => {
                    self.widen();
                    self.add_mixed(hash);
                    true
                }
            },
            Self::Registers(registers) => registers.show(hash),
        }
    }

    /// Members kept by themselves are counted by registers from now on.
    fn widen(&mut self) {
        if let Self::Exact(members) = self {
            let mut registers = Registers::from(vec![0; REGISTERS]);
            for member in members {
                registers.show(*member);
            }
            *self = Self::Registers(registers);
        }
    }
}

/// Spreads a hash over all its bits (the finaliser of `MurmurHash3`). One-to-one, so no two members become one; needed
/// because a register is as good as the leading bits, and callers hash for tables that look at the trailing ones.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Ertl's improved raw estimator.
fn estimate(histogram: &[u16; MAX_RANK + 1]) -> f64 {
    let [zeros, counts @ .., full] = histogram;
    #[expect(clippy::cast_precision_loss, reason = "2048")]
    let registers = REGISTERS as f64;
    let mut sum = registers * tau(1.0 - f64::from(*full) / registers);
    for count in counts.iter().rev() {
        sum = 0.5 * (sum + f64::from(*count));
    }
    sum += registers * sigma(f64::from(*zeros) / registers);
    ALPHA * registers * registers / sum
}

/// `x + sum over k >= 1 of x^(2^k) 2^(k-1)`: what the empty registers say. Infinite at 1, where all are.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum <= before {
            return sum;
        }
    }
}

/// `(1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 2^-k) / 3`: what the full registers say.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = libm::sqrt(x);
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests;
