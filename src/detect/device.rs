//! What kind of device was it, and does a new kind mean anything at the moment? The first half of telling that a stranger
//! uses an account ([`Device`], [`Devices`]); the other is that the account was never used from that network.
//!
//! People carry their devices along: to a hotel, to a new office, to the first day at a campus. Whoever bought an account's
//! password has not got its owner's device. So of an account with a history, a network *and* a kind of device that are both
//! new to it are what is counted ([`Met::is_stranger`]), and the share of those who come to a new network with a new device
//! anyway says how many of a crowd that may be. An account without a history says nothing: while everybody is new, nobody is
//! a stranger.
//!
//! Invariant: a kind is what is left of a user agent without its digits, so that an update is no new device; where no user
//! agent is reported, all devices are of one kind and nobody is a stranger.
//!
//! [`Met::is_stranger`]: super::count
//! Not here: how many strangers are an attack (`rules`, `fan_out`).

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// What a device is told by, as one of [`Device::KINDS`]: so a new device passes for a known one of an account with two in
/// one case of twelve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device(u8);

/// A letter's share of the sum that stands for a user agent; everything else has none.
#[expect(clippy::indexing_slicing, reason = "worked out by the compiler, which would refuse it")]
const LETTERS: [u32; 256] = {
    let mut shares = [0; 256];
    let mut letter = b'A';
    while letter <= b'z' {
        if letter.is_ascii_alphabetic() {
            // Knuth's multiplier: letters that follow each other get unrelated shares.
            let share = (letter as u32).wrapping_mul(2_654_435_761);
            shares[letter as usize] = share ^ share >> 15;
        }
        letter += 1;
    }
    shares
};

impl Device {
    /// Kinds told apart.
    pub(crate) const KINDS: u32 = 24;

    /// The kind of the device with this user agent. A sum over its letters, in whatever order: the cheapest thing that
    /// tells one family of browsers on one system from the next.
    pub(crate) fn of(user_agent: Option<&str>) -> Self {
        let letters = user_agent.unwrap_or_default().bytes();
        let sum = letters
            .fold(0_u32, |sum, byte| sum.wrapping_add(LETTERS.get(usize::from(byte)).copied().unwrap_or_default()));
        let mixed = u64::from(sum).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        #[expect(clippy::cast_possible_truncation, reason = "below KINDS")]
        let kind = ((mixed * u64::from(Self::KINDS)) >> 32) as u8;
        Self(kind)
    }

    /// Its place among the kinds.
    pub(crate) const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// Accounts with a new device per account with a known one, at networks new to them, before a tenant's own are known, and
/// the sign-ins that weigh as much.
const SHIPPED: (f64, f64) = (0.1, 50.0);
/// Bounds of what is learned of it: above the upper one, an attacker's own would soon explain him.
const BOUNDS: (f64, f64) = (0.05, 0.2);
/// `2^(-1 h / 28 d)` and `2^(-1 h / 6 h)`.
const KEPT_AWAY_PER_HOUR: f64 = 0.998_969_062_762_623_5;
const KEPT_AT_HOME_PER_HOUR: f64 = 0.890_898_718_140_339_3;
/// New devices per known one at home from which on a new device says little; second devices make a tenth or two of every day.
const UNUSUAL_AT_HOME: f64 = 0.3;
/// Strangers per guest when a new device says nothing: more than any address has accounts.
const EVERYBODY: f64 = 1e6;
/// Sign-ins at home with known devices that are taken for granted before any is seen.
const AT_HOME_PRIOR: f64 = 20.0;
const HOUR_MILLIS: i64 = 3_600_000;

/// Sign-ins of accounts with a history, with new devices and with known ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    new: f64,
    known: f64,
}

impl Seen {
    fn decay(&mut self, kept: f64) {
        (self.new, self.known) = (self.new * kept, self.known * kept);
    }

    fn count(&mut self, known: bool) {
        *(if known { &mut self.known } else { &mut self.new }) += 1.0;
    }
}

/// How often the people of one tenant use a device they had not used before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Devices {
    /// At networks new to them: learned over weeks.
    away: Seen,
    /// Where they always sign in: the last hours. No attacker moves it from elsewhere.
    at_home: Seen,
    /// Hours since the epoch up to which both have decayed.
    hour: i64,
}

impl Devices {
    /// An account with a history got in, with a device it had used before or not, at a network new to it (`away`) or not.
    pub(crate) fn count(&mut self, at: Timestamp, away: bool, known: bool) {
        let hour = at.0 / HOUR_MILLIS;
        // Past a few months nothing is left.
        for _ in 0..(hour - self.hour).clamp(0, 4096) {
            self.away.decay(KEPT_AWAY_PER_HOUR);
            self.at_home.decay(KEPT_AT_HOME_PER_HOUR);
        }
        self.hour = self.hour.max(hour);
        (if away { &mut self.away } else { &mut self.at_home }).count(known);
    }

    /// Strangers to be expected per guest, an account with a history that comes to a network new to it with a device it had
    /// used before, leaving out the `strangers` and `guests` of whoever asks. On a day on which everybody has a new device at home (an app's release that calls itself otherwise, the first days of a
    /// tenant), that is everybody: a new device means nothing then.
    pub(crate) fn strangers_per_guest(&self, strangers: f64, guests: f64) -> f64 {
        let away = ((self.away.new - strangers).max(0.0) + SHIPPED.0 * SHIPPED.1)
            / ((self.away.known - guests).max(0.0) + SHIPPED.1);
        let at_home = self.at_home.new / (self.at_home.known + AT_HOME_PRIOR);
        let away = away.clamp(BOUNDS.0, BOUNDS.1);
        if at_home > UNUSUAL_AT_HOME { EVERYBODY } else { away }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_what_they_say() {
        assert!((KEPT_AWAY_PER_HOUR - 0.5_f64.powf(1.0 / (28.0 * 24.0))).abs() < 1e-12);
        assert!((KEPT_AT_HOME_PER_HOUR - 0.5_f64.powf(1.0 / 6.0)).abs() < 1e-12);
    }

    #[test]
    fn an_update_is_no_new_device_and_another_browser_is_one() {
        let chrome =
            |version: &str| format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/{version} Safari/537.36");
        let kinds = |agents: &[&str]| agents.iter().map(|agent| Device::of(Some(agent)).0).collect::<Vec<_>>();
        assert_eq!(Device::of(Some(&chrome("99.0.0.0"))), Device::of(Some(&chrome("142.0.7444.60"))));
        let mut agents = kinds(&[
            &chrome("142.0.0.0"),
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
            "python-requests/2.32.5",
        ]);
        agents.sort_unstable();
        agents.dedup();
        assert!(agents.len() >= 5, "six agents in 24 kinds: {agents:?}");
        assert_eq!(Device::of(None), Device::of(Some("")));
    }

    #[test]
    fn what_is_expected_follows_the_tenant_within_bounds_and_leaves_out_who_asks() {
        let (mut devices, at) = (Devices::default(), Timestamp(1_767_600_000_000));
        assert!((devices.strangers_per_guest(0.0, 0.0) - 0.1).abs() < 1e-12);
        for number in 0..1000 {
            devices.count(at, true, number % 7 != 0);
        }
        let learned = devices.strangers_per_guest(0.0, 0.0);
        assert!((0.15..0.17).contains(&learned), "143 of 857: {learned}");
        assert!(devices.strangers_per_guest(100.0, 100.0) < 0.07);
        (0..10_000).for_each(|_| devices.count(at, true, false));
        assert!((devices.strangers_per_guest(0.0, 0.0) - 0.2).abs() < 1e-12, "bounded");
    }

    #[test]
    fn when_everybody_has_a_new_device_at_home_it_means_nothing_for_some_hours() {
        let (mut devices, at) = (Devices::default(), Timestamp(1_767_600_000_000));
        (0..1000).for_each(|_| devices.count(at, false, true));
        assert!(devices.strangers_per_guest(0.0, 0.0) < 0.11);
        let release = at.plus_millis(24 * HOUR_MILLIS);
        (0..500).for_each(|_| devices.count(release, false, false));
        assert!(devices.strangers_per_guest(0.0, 0.0) > 1000.0, "{}", devices.strangers_per_guest(0.0, 0.0));
        let day = release.plus_millis(36 * HOUR_MILLIS);
        (0..1000).for_each(|_| devices.count(day, false, true));
        assert!(devices.strangers_per_guest(0.0, 0.0) < 0.11, "{}", devices.strangers_per_guest(0.0, 0.0));
    }
}
