//! Traffic played to a panel: the learning span once, and each scenario from what was learned.
//!
//! Invariant: attempts are drawn one at a time; only those with a label are kept.

use authspike::detect::Config;
use authspike::event::Timestamp;
use authspike::normalize::identifier::IdentifierKey;
use authspike::simulate::delivery::{Deliveries, Distortion};
use authspike::simulate::event::Events;
use authspike::simulate::{Attack, Benign, Ending, Load, Plan, Scenario, Traffic};

use super::comparators::{Comparator, DAY, HOUR};
use super::ledger::Ledger;
use super::panel::{Learned, Panel};
use super::truth::Truth;

/// A Monday, midnight (UTC).
const EPOCH: Timestamp = Timestamp(1_767_571_200_000);
/// Sign-ins of an account per day, on average.
const PER_DAY: f64 = 0.25;

/// The tenant whose traffic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub accounts: u32,
    pub seed: u64,
}

/// What happens after the learning span.
#[derive(Clone, Debug, Default)]
pub struct Episode {
    /// How long it is played.
    pub span: i64,
    /// When it begins, after the learning span.
    pub offset: i64,
    pub attacks: Vec<Attack>,
    pub benign: Vec<Benign>,
    pub distortion: Distortion,
    /// Whether nobody reports what failed.
    pub sessions_only: bool,
}

impl Episode {
    /// The part of it in which what opens belongs to its benign scenarios: they, and an hour after them.
    pub fn watched(&self) -> (i64, i64) {
        let from = self.benign.iter().filter_map(|scenario| scenario.at).min().unwrap_or(0);
        let ends = self.benign.iter().filter_map(|scenario| scenario.at.map(|at| at + scenario.span_millis));
        (from, ends.max().unwrap_or(self.span).saturating_add(HOUR).min(self.span))
    }
}

/// What came of it.
pub struct Played {
    pub truth: Truth,
    /// By name, ours first.
    pub ledgers: Vec<(&'static str, Ledger)>,
    pub from: i64,
    pub until: i64,
    pub events: u64,
}

impl Tenant {
    fn plan(self, start: Timestamp, span: i64) -> Plan {
        Plan {
            seed: self.seed,
            start,
            span_millis: Some(span),
            tenant: "ins_evaluation".to_owned(),
            accounts: self.accounts,
            load: Load::PerAccountPerDay(PER_DAY),
            lockout: 10,
            attacks: Vec::new(),
            benign: Vec::new(),
        }
    }

    /// A panel that has seen `days` days of this tenant's traffic.
    pub fn learn(self, config: &Config, comparators: Vec<Box<dyn Comparator>>, days: i64) -> Learned {
        let mut panel = Panel::new(config, comparators);
        let plan = self.plan(EPOCH, days * DAY);
        run(&plan, &Episode::default(), &mut panel, Scenario::Attack(0), &mut Truth::default());
        panel.learned(config)
    }

    /// Plays `episode` after `days` days of learning. The last of its attacks, or else its last benign scenario, is the
    /// one that is judged.
    pub fn play(self, mut panel: Panel, days: i64, episode: &Episode) -> Played {
        let start = EPOCH.plus_millis(days * DAY + episode.offset);
        let plan =
            Plan { attacks: episode.attacks.clone(), benign: episode.benign.clone(), ..self.plan(start, episode.span) };
        let last = |count: usize| u8::try_from(count.saturating_sub(1)).expect("a handful of scenarios");
        let judged = match plan.attacks.len() {
            0 => Scenario::Benign(last(plan.benign.len())),
            count => Scenario::Attack(last(count)),
        };
        let mut truth = Truth::default();
        let events = run(&plan, episode, &mut panel, judged, &mut truth);
        let until = start.plus_millis(episode.span);
        Played { truth, ledgers: panel.finish(), from: start.0, until: until.0, events }
    }
}

fn run(plan: &Plan, episode: &Episode, panel: &mut Panel, judged: Scenario, truth: &mut Truth) -> u64 {
    let mut events = Events::new(plan, IdentifierKey::new(&[7; IdentifierKey::BYTES]));
    let traffic = Traffic::new(plan).expect("a plan that can be simulated");
    let deliveries = Deliveries::new(traffic, episode.distortion, plan.seed).expect("a distortion in range");
    let mut count = 0;
    for delivered in deliveries {
        // The log drops a repeat before the detector sees it; the comparators are spared it too.
        let is_reported = !episode.sessions_only || delivered.attempt.ending == Ending::SignedIn;
        if delivered.is_repeat || !is_reported {
            continue;
        }
        let event = events.event(delivered.number, &delivered.attempt, delivered.received_at);
        truth.note(&delivered.attempt, &event, judged);
        panel.observe(event, truth.tries());
        count += 1;
    }
    count
}
