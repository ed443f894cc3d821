//! The rules as analytics: what a SIEM shows about the rule behind a finding.
//!
//! Not here: what the rules do (`detect`).

use crate::finding::Rule;

/// Of the rules' meaning, not of the program: raise it when a rule starts to fire for other reasons.
pub const VERSION: &str = "1";
/// What all of them watch.
pub const CATEGORY: &str = "Authentication";

/// What the rule compares with what, in one sentence.
#[must_use]
pub const fn description(rule: Rule) -> &'static str {
    match rule {
        Rule::AddressFailureSpike => {
            "Different accounts failing to sign in from one address, against what is normal for that address."
        }
        Rule::NetworkFailureSpike => {
            "Different accounts failing to sign in from one network, against what is normal for that network."
        }
        Rule::AccountFailureSpike => {
            "Failed sign-ins to one account from anywhere, against what is normal for that account."
        }
        Rule::DistributedAttack => {
            "Different accounts failing from networks where nobody signs in, against what is normal for the instance."
        }
        Rule::CodeFlood => "One-time codes sent to one account, or to many accounts from one address.",
        Rule::LockoutWave => "Different accounts being locked, against what is normal for the instance.",
        Rule::SignInOutage => "Sign-in failing for everyone where people usually sign in from.",
        Rule::SuccessFanOut => {
            "Accounts with a history elsewhere getting in from one address or network, with devices new to them, against \
             what is normal there."
        }
    }
}
