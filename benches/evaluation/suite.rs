//! How good is it? Labelled traffic is played to the detector and to the comparators, and what they say is held against what
//! was true.
//!
//! Shared by the long form (`benches/evaluation.rs`, tables) and the gate form (`tests/it/evaluation.rs`, lower bounds).
//!
//! Invariant: what is judged sees events only; labels go to the score alone. The detector is used through its public
//! interface, its findings by what they carry for a SIEM, so that a new rule or kind of entity needs no change here.

pub mod comparators;
pub mod ledger;
pub mod panel;
pub mod play;
pub mod scenarios;
pub mod score;
pub mod truth;
