//! What a finding looks like to its readers: a SIEM ([`ocsf`]) or a person ([`text`]).
//!
//! Invariant: every format is a pure function of the finding (and of this program's version). A delivery that is
//! repeated after a crash sends the same bytes, so a receiver can recognise it by id and by content.
//!
//! Not here: sending, and anything that depends on when it is sent.

pub mod attack;
pub mod ocsf;
pub mod prose;
pub mod severity;
pub mod text;
