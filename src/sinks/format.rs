//! What a finding looks like outside. Pure functions of the finding: the same finding gives the same bytes, wherever and
//! whenever it is sent.

pub mod ocsf;
pub mod text;
mod words;
