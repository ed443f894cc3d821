//! MITRE ATT&CK: which techniques a finding shows.
//!
//! Invariant: names and ids are those of [`VERSION`] and travel with it, since ATT&CK renames and moves techniques.
//!
//! Not here: how the shape of an attack is told from its numbers (`detect`).

use crate::finding::{Finding, Shape};

/// The release of ATT&CK (Enterprise) these ids are from.
pub const VERSION: &str = "17.1";

/// An id and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// `TA0006`, `T1110`, `T1110.004`
    pub uid: &'static str,
    /// What ATT&CK calls it.
    pub name: &'static str,
}

/// A technique under the tactic it serves here; many techniques serve several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Technique {
    /// What the attacker wants.
    pub tactic: Named,
    /// How.
    pub technique: Named,
    /// How, more exactly.
    pub sub_technique: Option<Named>,
}

const CREDENTIAL_ACCESS: Named = Named { uid: "TA0006", name: "Credential Access" };
const BRUTE_FORCE: Named = Named { uid: "T1110", name: "Brute Force" };

/// Probing a sign-in form for identifiers that exist happens before any access: reconnaissance, not account discovery
/// (T1087), which is done from inside.
const ENUMERATION: Technique = Technique {
    tactic: Named { uid: "TA0043", name: "Reconnaissance" },
    technique: Named { uid: "T1589", name: "Gather Victim Identity Information" },
    sub_technique: None,
};

/// Codes and prompts sent until somebody gives in.
const CODE_FLOOD: Technique = Technique {
    tactic: CREDENTIAL_ACCESS,
    technique: Named { uid: "T1621", name: "Multi-Factor Authentication Request Generation" },
    sub_technique: None,
};

/// Accounts made unusable for their owners.
const LOCKOUT: Technique = Technique {
    tactic: Named { uid: "TA0040", name: "Impact" },
    technique: Named { uid: "T1531", name: "Account Access Removal" },
    sub_technique: None,
};

/// An account that the attacker can now use.
const CLOUD_ACCOUNT: Technique = Technique {
    tactic: Named { uid: "TA0001", name: "Initial Access" },
    technique: Named { uid: "T1078", name: "Valid Accounts" },
    sub_technique: Some(Named { uid: "T1078.004", name: "Cloud Accounts" }),
};

const fn brute_force(uid: &'static str, name: &'static str) -> Technique {
    Technique { tactic: CREDENTIAL_ACCESS, technique: BRUTE_FORCE, sub_technique: Some(Named { uid, name }) }
}

/// What was done, and what came of it: first the technique of the shape, then, once an account has been broken into,
/// the use of that account.
#[must_use]
pub fn techniques(finding: &Finding) -> Vec<Technique> {
    let shape = match finding.shape {
        Shape::CredentialStuffing => brute_force("T1110.004", "Credential Stuffing"),
        Shape::PasswordSpraying => brute_force("T1110.003", "Password Spraying"),
        Shape::PasswordGuessing | Shape::CodeGuessing => brute_force("T1110.001", "Password Guessing"),
        Shape::Enumeration => ENUMERATION,
        Shape::CodeFlood => CODE_FLOOD,
        Shape::LockoutWave => LOCKOUT,
        Shape::Outage => return Vec::new(),
        // How the passwords or sessions were come by was not seen, only that they are used.
        Shape::SuccessFanOut => return vec![CLOUD_ACCOUNT],
    };
    let broken_into = finding.evidence.compromised_total > 0 || !finding.evidence.compromised.is_empty();
    if broken_into { vec![shape, CLOUD_ACCOUNT] } else { vec![shape] }
}
