//! The series against a model that keeps every event, and against simulated tenants.

mod counting;
mod simulation;
pub(super) mod traffic;
