#[allow(dead_code, reason = "the gate form leaves some of it to the long one")]
#[path = "../../benches/evaluation/suite.rs"]
mod suite;

mod comparators;
mod ledger;
