//! The long form of the evaluation: labelled traffic of several sizes and seeds, played to the detector and to the rules
//! that others ship, as Markdown tables on stdout. `cargo bench --bench evaluation -- --help`
//!
//! Figures are of simulated traffic (the constants of `authspike::simulate` name where each figure of that comes from):
//! they compare detectors on equal terms, and promise nothing about a real tenant.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark may print, and stop at the first surprise"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use authspike::clock::Stopwatch;
use authspike::detect::Config;
use authspike::simulate::parse;
use clap::Parser;

#[path = "evaluation/flood.rs"]
mod flood;
#[path = "evaluation/suite.rs"]
mod suite;
#[path = "evaluation/tables.rs"]
mod tables;

use suite::comparators::{self, DAY};
use suite::panel;
use suite::play::{Episode, Tenant};
use suite::scenarios::{ATTACKS, BENIGN};
use suite::score::{AttackScore, QuietScore};

#[derive(Debug, Parser)]
struct Options {
    /// Accounts of the tenants
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    sizes: Vec<u32>,
    /// Tenants of each size; the first has seed 1
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Days of traffic before anything is judged (whole weeks: it begins on a Monday, and so does what follows)
    #[arg(long, default_value_t = 14)]
    learn: i64,
    /// Days without an attack
    #[arg(long, default_value = "14d", value_parser = parse::span)]
    quiet: i64,
    /// Only the rows whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Only the detector, without the comparators
    #[arg(long)]
    alone: bool,
    /// Tenants at one time; each takes memory of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Instead of all this: a day's flood of so many addresses used once, and one slow attacker in it
    #[arg(long)]
    flood: Option<u32>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Everything about one tenant: by row, by detector.
pub struct Measured {
    pub tenant: Tenant,
    pub attacks: Vec<Vec<AttackScore>>,
    pub benign: Vec<Vec<QuietScore>>,
    pub quiet: Vec<QuietScore>,
    pub detectors: Vec<&'static str>,
    pub events: u64,
}

fn main() {
    let options = Options::parse();
    if let Some(addresses) = options.flood {
        flooded(addresses);
        return;
    }
    let watch = Stopwatch::start();
    let tenants: Vec<Tenant> = options
        .sizes
        .iter()
        .flat_map(|accounts| (1..=options.seeds).map(|seed| Tenant { accounts: *accounts, seed }))
        .collect();
    // The largest first, so that no thread is left with one alone at the end.
    let mut order: Vec<usize> = (0..tenants.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(tenants.get(*index).map(|tenant| tenant.accounts)));
    let (next, measured) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(tenant) = tenants.get(*index) else { continue };
                    let result = measure(*tenant, &options);
                    let seconds = watch.elapsed().as_secs();
                    eprintln!(
                        "{seconds:>4} s: {} accounts, seed {}: {} events",
                        tenant.accounts, tenant.seed, result.events
                    );
                    measured.lock().expect("no thread panicked").push((*index, result));
                }
            });
        }
    });
    let mut measured = measured.into_inner().expect("no thread panicked");
    measured.sort_by_key(|(index, _)| *index);
    let measured: Vec<Measured> = measured.into_iter().map(|(_, measured)| measured).collect();
    let events: u64 = measured.iter().map(|measured| measured.events).sum();
    println!(
        "{} tenants ({:?} accounts, {} seeds each), {} days of learning, {} attack-free days, {events} events in {} s\n",
        tenants.len(),
        options.sizes,
        options.seeds,
        options.learn,
        options.quiet / DAY,
        watch.elapsed().as_secs()
    );
    tables::print(&measured, &rows(&options, |row: &suite::scenarios::Row| row.name, &ATTACKS), &benign_rows(&options));
}

fn rows<T: Copy>(options: &Options, name: impl Fn(&T) -> &'static str, all: &[T]) -> Vec<T> {
    all.iter().filter(|row| name(row).contains(&options.only)).copied().collect()
}

fn benign_rows(options: &Options) -> Vec<suite::scenarios::Quiet> {
    rows(options, |row: &suite::scenarios::Quiet| row.name, &BENIGN)
}

fn measure(tenant: Tenant, options: &Options) -> Measured {
    let config = Config::default();
    let rules = || if options.alone { Vec::new() } else { comparators::all() };
    let learned = tenant.learn(&config, rules(), options.learn);
    let mut events = 0;
    let mut attacks = Vec::new();
    for row in rows(options, |row: &suite::scenarios::Row| row.name, &ATTACKS) {
        let panel = if row.learned { learned.panel() } else { panel::Panel::new(&config, rules()) };
        let played = tenant.play(panel, options.learn, &row.episode());
        events += played.events;
        attacks.push(played.ledgers.iter().map(|(_, ledger)| AttackScore::of(&played, ledger)).collect());
    }
    let mut benign = Vec::new();
    for row in benign_rows(options) {
        let episode = row.episode(tenant.accounts);
        let (from, until) = episode.watched();
        let panel = if row.learned { learned.panel() } else { panel::Panel::new(&config, rules()) };
        let played = tenant.play(panel, options.learn, &episode);
        events += played.events;
        let score = |ledger| QuietScore::of(ledger, played.from + from, played.from + until);
        benign.push(played.ledgers.iter().map(|(_, ledger)| score(ledger)).collect());
    }
    let nothing = Episode { span: options.quiet, ..Episode::default() };
    let played = tenant.play(learned.panel(), options.learn, &nothing);
    events += played.events;
    Measured {
        tenant,
        attacks,
        benign,
        quiet: played.ledgers.iter().map(|(_, ledger)| QuietScore::of(ledger, played.from, played.until)).collect(),
        detectors: played.ledgers.iter().map(|(name, _)| *name).collect(),
        events,
    }
}

/// Stops with a panic when the memory bound did not hold or the slow attacker was not found.
fn flooded(addresses: u32) {
    let watch = Stopwatch::start();
    let flooded = flood::play(addresses);
    let bound = Config::default().max_state_bytes;
    println!("| addresses used once | {addresses} |\n|---|---|");
    println!("| the slow attacker found after his try number | {:?} |", flooded.found_after);
    println!("| most memory of the process, MiB | {} of {} |", flooded.resident_bytes >> 20, bound >> 20);
    println!("| entities | {} of {} |", flooded.entities, flooded.max_entities);
    println!("| evicted | {} |", flooded.evictions);
    println!("| first contacts forgotten while in a window | {} |", flooded.forgotten);
    println!("| findings | {} |", flooded.findings);
    println!("| seconds | {:.0} |", watch.elapsed().as_secs_f64());
    assert!(flooded.found_after.is_some(), "the slow attacker was not found");
    assert!(flooded.resident_bytes <= bound, "the memory bound did not hold");
}
