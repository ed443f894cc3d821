//! Everybody who is judged, side by side on the same events: the detector first, then the comparators.

use std::hash::{BuildHasher as _, Hasher as _};

use authspike::detect::{Config, Detector};
use authspike::event::{Account, AuthEvent, Outcome};
use authspike::finding::Finding;

use super::comparators::{Alert, Comparator, Seen};
use super::ledger::Ledger;

/// The name of the detector in tables.
pub const OURS: &str = "authspike";

/// A hash of an account as findings write it.
pub fn account_of(text: &str) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    match text.strip_prefix("idh_").and_then(|hex| u128::from_str_radix(hex, 16).ok()) {
        Some(hash) => hasher.write(&hash.to_be_bytes()),
        None => hasher.write(text.as_bytes()),
    }
    hasher.finish()
}

/// The same of an account as events carry it.
fn hash_of(account: Option<&Account>) -> u64 {
    match account {
        Some(Account::User(user)) => account_of(user),
        Some(Account::Identifier(hash)) => {
            let mut hasher = foldhash::fast::FixedState::default().build_hasher();
            hasher.write(&hash.0);
            hasher.finish()
        }
        None => 0,
    }
}

/// What a comparator reads in the log line of `event`; `None`: nothing, since it never got as far as a credential.
pub fn seen(event: &AuthEvent) -> Option<Seen> {
    let failed = match event.outcome {
        Outcome::Success => false,
        Outcome::Failure | Outcome::Locked => true,
        _ => return None,
    };
    let agent = event.user_agent.as_deref().map_or(0, account_of);
    Some(Seen { at: event.received_at.0, ip: event.ip?, account: hash_of(event.account.as_ref()), agent, failed })
}

/// The account of `event`, hashed like those of findings.
pub fn account(event: &AuthEvent) -> u64 {
    hash_of(event.account.as_ref())
}

/// The detector and the comparators, with what they have seen and what they have said.
pub struct Panel {
    detector: Detector,
    ours: Ledger,
    others: Vec<(Box<dyn Comparator>, Ledger)>,
    found: Vec<Finding>,
    alerts: Vec<Alert>,
}

impl Panel {
    /// A panel that has seen nothing.
    pub fn new(config: &Config, comparators: Vec<Box<dyn Comparator>>) -> Self {
        Self {
            detector: Detector::new(config),
            ours: Ledger::default(),
            others: comparators.into_iter().map(|rule| (rule, Ledger::default())).collect(),
            found: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Shows everybody one event, after `tries` labelled attempts, this one included.
    pub fn observe(&mut self, event: AuthEvent, tries: u64) {
        if let Some(seen) = seen(&event) {
            for (rule, ledger) in &mut self.others {
                rule.observe(&seen, &mut self.alerts);
                for alert in self.alerts.drain(..) {
                    ledger.alert(&alert, rule.name(), tries);
                }
            }
        }
        self.detector.observe(event, &mut self.found);
        for finding in self.found.drain(..) {
            self.ours.finding(&finding, tries);
        }
    }

    /// Nothing more comes: what each has said, by name.
    pub fn finish(mut self) -> Vec<(&'static str, Ledger)> {
        self.detector.finish(&mut self.found);
        for finding in self.found.drain(..) {
            self.ours.finding(&finding, u64::MAX);
        }
        let others = self.others.into_iter().map(|(rule, ledger)| (rule.name(), ledger));
        std::iter::once((OURS, self.ours)).chain(others).collect()
    }

    /// What has been learned, to go on from more than once.
    pub fn learned(&self, config: &Config) -> Learned {
        let snapshot = self.detector.snapshot().expect("a detector that can be saved");
        Learned { config: config.clone(), snapshot, others: self.others.iter().map(|(rule, _)| rule.fork()).collect() }
    }
}

/// A panel that has learned what is normal and said nothing yet.
pub struct Learned {
    config: Config,
    snapshot: Vec<u8>,
    others: Vec<Box<dyn Comparator>>,
}

impl Learned {
    /// A panel that goes on from here.
    pub fn panel(&self) -> Panel {
        let mut panel = Panel::new(&self.config, self.others.iter().map(|rule| rule.fork()).collect());
        panel.detector = Detector::restore(&self.config, &self.snapshot).expect("its own snapshot");
        panel
    }
}
