//! What the user can set about detection, what it is when nothing is set, and what may not be.

use serde::{Deserialize, Serialize};

use super::rules::{Limits, Span, Thresholds};
use super::{allow, distinct, minutes, overrides};

/// Smallest memory: less than this and an ordinary evening evicts.
const MIN_STATE_BYTES: u64 = 1 << 20;
/// Largest memory: the index counts entities in 31 bits.
const MAX_STATE_BYTES: u64 = 1 << 38;

/// What the user can set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many times the normal rate of failures is an attack, over the last minutes.
    pub factor: f64,
    /// The same over a day: what goes on for a day can be believed sooner.
    pub day_factor: f64,
    /// False findings a day that a tenant is ready to bear from chance alone.
    pub false_findings_per_day: f64,
    /// An address is taken to be shared (an office, a mobile carrier) and left alone while its failing accounts are fewer
    /// than this many times what its succeeding accounts explain.
    pub shared_address_guard: f64,
    /// Fewer failing accounts of one address in five minutes are never a finding.
    pub address_minimum: u64,
    /// So many always are, whatever is normal: the bound on what a patient attacker can teach the baseline.
    pub address_ceiling: u64,
    /// See `address_minimum`, over a day.
    pub address_day_minimum: u64,
    /// See `address_ceiling`, over a day.
    pub address_day_ceiling: u64,
    /// See `address_minimum`, for networks.
    pub network_minimum: u64,
    /// See `address_ceiling`, for networks.
    pub network_ceiling: u64,
    /// See `address_day_minimum`, for networks.
    pub network_day_minimum: u64,
    /// See `address_day_ceiling`, for networks.
    pub network_day_ceiling: u64,
    /// Fewer failures of one account in five minutes are never a finding. Stays above Clerk's lock-out (10), where honest
    /// people pile up.
    pub account_minimum: u64,
    /// So many always are.
    pub account_ceiling: u64,
    /// See `account_minimum`, over a day.
    pub account_day_minimum: u64,
    /// See `account_ceiling`, over a day.
    pub account_day_ceiling: u64,
    /// An account that fails from so many networks within minutes is attacked, however few the failures.
    pub account_networks: u64,
    /// One-time codes sent to one account in five minutes that are a flood.
    pub code_minimum: u64,
    /// The same over a day.
    pub code_day_minimum: u64,
    /// Accounts with a history that are signed in to from one address, in five minutes, from where and with a kind of device
    /// they were never used: fewer are never a finding. Of a network it takes twice as many.
    pub fan_out_minimum: u64,
    /// The same over a day.
    pub fan_out_day_minimum: u64,
    /// Independent failures of a tenant from networks where nobody signs in, in five minutes, fewer of which are never a
    /// distributed attack; the same number of locked accounts is never a wave of lock-outs.
    pub tenant_minimum: u64,
    /// A finding closes after so many minutes without anything that would keep it open.
    pub quiet_minutes: u32,
    /// The same for findings that rest on a day's failures.
    pub day_quiet_minutes: u32,
    /// A finding that grows is updated at most this often; a rise in severity does not wait.
    pub update_minutes: u32,
    /// Bytes of memory for what is remembered of addresses, networks and accounts.
    pub max_state_bytes: u64,
    /// Findings open at one time; beyond it new ones are counted, not opened.
    pub max_open_findings: u32,
    /// Hours for which an account that was deleted is still named. Whoever breaks into one can delete it, and somebody has
    /// to learn which it was. 0: it is forgotten at once. What an operator asks to be forgotten is forgotten at once.
    pub erase_after_hours: u32,
    /// Addresses, networks and accounts that may fail.
    #[serde(skip_serializing)]
    pub allow: Vec<allow::Entry>,
    /// Thresholds of single tenants, by instance id.
    #[serde(skip_serializing)]
    pub tenants: overrides::Tenants,
    /// Thresholds that are tried out beside these.
    #[serde(skip_serializing)]
    pub shadow: overrides::Shadow,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            factor: 50.0,
            day_factor: 20.0,
            false_findings_per_day: 0.01,
            shared_address_guard: 5.0,
            address_minimum: 8,
            address_ceiling: 60,
            address_day_minimum: 25,
            address_day_ceiling: 200,
            network_minimum: 16,
            network_ceiling: 240,
            network_day_minimum: 60,
            network_day_ceiling: 500,
            account_minimum: 15,
            account_ceiling: 60,
            account_day_minimum: 30,
            account_day_ceiling: 150,
            account_networks: 5,
            code_minimum: 8,
            code_day_minimum: 25,
            fan_out_minimum: 10,
            fan_out_day_minimum: 20,
            tenant_minimum: 20,
            quiet_minutes: 15,
            day_quiet_minutes: 180,
            update_minutes: 5,
            max_state_bytes: 512 << 20,
            max_open_findings: 2000,
            // The night, until somebody has read what happened in it; and half of the day within which it has to be done.
            erase_after_hours: 12,
            allow: Vec::new(),
            tenants: overrides::Tenants::new(),
            shadow: overrides::Shadow::default(),
        }
    }
}

/// How `max_state_bytes` is shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) entities: usize,
    pub(super) cold: usize,
    pub(super) familiar: usize,
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        check(self.factor.is_finite() && self.factor >= 2.0, "factor: must be at least 2");
        check(self.day_factor.is_finite() && self.day_factor >= 2.0, "day_factor: must be at least 2");
        check(
            self.false_findings_per_day > 0.0 && self.false_findings_per_day <= 10.0,
            "false_findings_per_day: must be above 0 and at most 10",
        );
        check(
            self.shared_address_guard.is_finite() && self.shared_address_guard >= 0.0,
            "shared_address_guard: must be 0 or more",
        );
        let thresholds = self.thresholds();
        for (key, [fast, day], highest) in [
            ("address", thresholds.address, distinct::MAX_64),
            ("network", thresholds.network, distinct::MAX_64),
            ("account", thresholds.account, 10_000),
        ] {
            check(fast.minimum >= 3, &format!("{key}_minimum: must be at least 3"));
            check(
                (fast.minimum..=highest).contains(&fast.ceiling),
                &format!("{key}_ceiling: must be from {key}_minimum to {highest}"),
            );
            check(day.minimum >= 5, &format!("{key}_day_minimum: must be at least 5"));
            check(
                (day.minimum..=10_000).contains(&day.ceiling),
                &format!("{key}_day_ceiling: must be from {key}_day_minimum to 10000"),
            );
        }
        check((2..=32).contains(&self.account_networks), "account_networks: must be from 2 to 32");
        check((3..=200).contains(&self.code_minimum), "code_minimum: must be from 3 to 200");
        check((3..=2000).contains(&self.code_day_minimum), "code_day_minimum: must be from 3 to 2000");
        check((5..=30).contains(&self.fan_out_minimum), "fan_out_minimum: must be from 5 to 30");
        check((5..=1000).contains(&self.fan_out_day_minimum), "fan_out_day_minimum: must be from 5 to 1000");
        check((5..=100_000).contains(&self.tenant_minimum), "tenant_minimum: must be from 5 to 100000");
        check((1..=1440).contains(&self.quiet_minutes), "quiet_minutes: must be from 1 to 1440");
        check((1..=1440).contains(&self.day_quiet_minutes), "day_quiet_minutes: must be from 1 to 1440");
        check((1..=1440).contains(&self.update_minutes), "update_minutes: must be from 1 to 1440");
        check(
            (MIN_STATE_BYTES..=MAX_STATE_BYTES).contains(&self.max_state_bytes),
            "max_state_bytes: must be from 1048576 to 274877906944",
        );
        check((1..=100_000).contains(&self.max_open_findings), "max_open_findings: must be from 1 to 100000");
        // An hour is left of the day for the rest of the work.
        check(self.erase_after_hours <= 23, "erase_after_hours: must be from 0 to 23");
        faults.extend(allow::validate(&self.allow));
        faults.extend(self.validate_overrides(&faults));
        faults
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        let fast = |minimum, ceiling| Limits { minimum, ceiling, factor: self.factor };
        let day = |minimum, ceiling| Limits { minimum, ceiling, factor: self.day_factor };
        // What a code flood costs is the codes, so its ceilings lie closer to its minimum.
        let codes =
            [fast(self.code_minimum, self.code_minimum * 3), day(self.code_day_minimum, self.code_day_minimum * 3)];
        Thresholds {
            budget: self.false_findings_per_day,
            guard: self.shared_address_guard,
            address: [
                fast(self.address_minimum, self.address_ceiling),
                day(self.address_day_minimum, self.address_day_ceiling),
            ],
            network: [
                fast(self.network_minimum, self.network_ceiling),
                day(self.network_day_minimum, self.network_day_ceiling),
            ],
            account: [
                fast(self.account_minimum, self.account_ceiling),
                // Half again: a day of one person is less regular than a day of an address.
                Limits { factor: self.day_factor / 2.0, ..day(self.account_day_minimum, self.account_day_ceiling) },
            ],
            account_networks: self.account_networks,
            address_codes: codes,
            account_codes: codes,
            address_fan_out: self.fan_out(1),
            network_fan_out: self.fan_out(2),
            tenant_minimum: self.tenant_minimum,
        }
    }

    /// Of something that it takes `times` as many for as for an address. The ceilings are as far above the minimum as those
    /// of failures, within what the windows tell apart.
    fn fan_out(&self, times: u64) -> [Limits; 2] {
        let (fast, day) = (self.fan_out_minimum * times, self.fan_out_day_minimum * times);
        [
            Limits { minimum: fast, ceiling: (fast * 8).min(distinct::MAX_64), factor: self.factor },
            Limits { minimum: day, ceiling: day * 8, factor: self.day_factor },
        ]
    }

    /// A sixteenth for first contacts, a quarter for who signed in from where, five eighths for entities; the rest is for
    /// open episodes and what the tenants have learned.
    pub(super) fn shares(&self) -> Shares {
        let bytes = usize::try_from(self.max_state_bytes).unwrap_or(usize::MAX);
        Shares { entities: bytes / 8 * 5, cold: bytes / 16, familiar: bytes / 4 }
    }

    /// How long nothing must happen before an episode closes.
    pub(super) fn quiet_millis(&self, span: Span) -> i64 {
        minutes(match span {
            Span::Fast => self.quiet_minutes,
            Span::Day => self.day_quiet_minutes,
        })
    }
}
