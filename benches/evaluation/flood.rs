//! Twenty million addresses used once, and in the middle of them one that is not: does the memory hold, and is it found?

use std::net::{IpAddr, Ipv4Addr};

use authspike::detect::{Config, Detector};
use authspike::event::{Account, AuthEvent, IdentifierHash, Outcome, Source, Timestamp};
use authspike::finding::{EntityKind, Finding};

/// The flood lasts a day; the slow attacker tries an account every five minutes of it.
const DAY: i64 = 86_400_000;
const SLOW_EVERY: i64 = 300_000;
const START: i64 = 1_767_571_200_000;

/// What came of it.
pub struct Flooded {
    pub found_after: Option<u64>,
    pub resident_bytes: u64,
    pub entities: u64,
    pub max_entities: u64,
    pub evictions: u64,
    pub forgotten: u64,
    pub findings: usize,
}

fn failure(at: i64, ip: u32, account: u64) -> AuthEvent {
    let at = Timestamp(at);
    AuthEvent {
        id: String::new().into(),
        occurred_at: at,
        received_at: at,
        tenant: "ins_flooded".into(),
        source: Source::AttemptReport,
        outcome: Outcome::Failure,
        reason: Some("form_identifier_not_found".into()),
        ip: Some(IpAddr::V4(Ipv4Addr::from_bits(ip))),
        account: Some(Account::Identifier(IdentifierHash((u128::from(account) << 64 | 7).to_be_bytes()))),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

/// Plays a flood of `addresses`, each used once, under the default settings.
pub fn play(addresses: u32) -> Flooded {
    let mut detector = Detector::new(&Config::default());
    let mut found: Vec<Finding> = Vec::new();
    let (slow, mut tried, mut found_after, mut findings) = (0x0808_0808_u32, 0_u64, None, 0);
    for number in 0..addresses {
        let at = START + DAY * i64::from(number) / i64::from(addresses);
        if at >= START + SLOW_EVERY * i64::try_from(tried).unwrap_or(i64::MAX) {
            tried += 1;
            detector.observe(failure(at, slow, u64::MAX - tried), &mut found);
        }
        // An odd multiplier: every address once, all over the space.
        let stranger = number.wrapping_mul(2_654_435_761) ^ 0x1357_9bdf;
        detector.observe(failure(at, stranger, u64::from(number)), &mut found);
        for finding in found.drain(..) {
            findings += usize::from(finding.revision == 1);
            let is_slow = finding.entity.kind == EntityKind::Ip && finding.entity.value == "8.8.8.8";
            found_after = found_after.or(is_slow.then_some(tried));
        }
    }
    let stats = detector.stats();
    Flooded {
        found_after,
        resident_bytes: resident_bytes(),
        entities: stats.entities.iter().sum(),
        max_entities: stats.max_entities,
        evictions: stats.evictions.iter().sum(),
        forgotten: stats.overwritten,
        findings,
    }
}

/// The most this process has ever had in memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}
