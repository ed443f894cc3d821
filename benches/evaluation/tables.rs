//! The measured as Markdown.

use std::collections::{BTreeMap, BTreeSet};

use crate::Measured;
use crate::suite::comparators::DAY;
use crate::suite::scenarios::{Quiet, Row};
use crate::suite::score::{AttackScore, QuietScore};

/// Prints every table: for each size, then over all.
pub fn print(measured: &[Measured], attacks: &[Row], benign: &[Quiet]) {
    let mut by_size: BTreeMap<u32, Vec<&Measured>> = BTreeMap::new();
    for one in measured {
        by_size.entry(one.tenant.accounts).or_default().push(one);
    }
    for (accounts, tenants) in &by_size {
        println!("## {accounts} accounts\n");
        if !attacks.is_empty() {
            ours(tenants, attacks);
            side_by_side(tenants, attacks);
        }
        quiet(tenants, *accounts);
        if !benign.is_empty() {
            benign_days(tenants, benign);
        }
    }
    by_seed(measured, attacks);
}

/// The scores of one row and one detector, over tenants.
fn of<'a>(tenants: &[&'a Measured], row: usize, detector: usize) -> Vec<&'a AttackScore> {
    tenants.iter().filter_map(|one| one.attacks.get(row)?.get(detector)).collect()
}

fn ours(tenants: &[&Measured], attacks: &[Row]) {
    println!("### The detector, by attack\n");
    println!(
        "Medians over the tenants that found it; shares are means over all. \"Named\": accounts broken into that are\nnamed as compromised, or as that or as suspected; and how many of either list were. \"Beside\": stories about nothing in\nthe same days.\n"
    );
    println!(
        "| attack | found | after | attempts until | of all | attempts attributed | addresses | named | or suspected | right of named | right of suspected | stories | beside |"
    );
    println!("|{}", "---|".repeat(13));
    for (index, row) in attacks.iter().enumerate() {
        let scores = of(tenants, index, 0);
        let found: Vec<_> = scores.iter().filter_map(|score| Some((score.found?, score.attempts))).collect();
        let after = median(found.iter().map(|(found, _)| found.after_millis as f64).collect());
        let tries = median(found.iter().map(|(found, _)| found.after_attempts as f64).collect());
        let share =
            median(found.iter().map(|(found, all)| found.after_attempts as f64 / (*all).max(1) as f64).collect());
        println!(
            "| {} | {}/{} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            found.len(),
            scores.len(),
            after.map_or("–".to_owned(), span),
            tries.map_or("–".to_owned(), |tries| format!("{tries:.0}")),
            share.map_or("–".to_owned(), percent),
            percent(mean(scores.iter().map(|score| score.attempts_attributed))),
            percent(mean(scores.iter().map(|score| score.addresses_attributed))),
            ratio(sum(&scores, |score| score.named_rightly), sum(&scores, |score| score.broken_into)),
            ratio(
                sum(&scores, |score| score.named_rightly + score.suspected_rightly),
                sum(&scores, |score| score.broken_into)
            ),
            ratio(sum(&scores, |score| score.named_rightly), sum(&scores, |score| score.named)),
            ratio(sum(&scores, |score| score.suspected_rightly), sum(&scores, |score| score.suspected)),
            short(mean(scores.iter().map(|score| score.stories as f64))),
            short(mean(scores.iter().map(|score| score.false_stories as f64))),
        );
    }
    println!();
}

fn side_by_side(tenants: &[&Measured], attacks: &[Row]) {
    let Some(first) = tenants.first().filter(|one| one.detectors.len() > 1) else { return };
    println!("### Side by side: found, after how long, share of the attempts attributed\n");
    println!("| attack | {} |", first.detectors.join(" | "));
    println!("|---|{}", "---|".repeat(first.detectors.len()));
    for (index, row) in attacks.iter().enumerate() {
        let cells: Vec<_> = (0..first.detectors.len())
            .map(|detector| {
                let scores = of(tenants, index, detector);
                let found: Vec<_> = scores.iter().filter_map(|score| score.found).collect();
                let Some(after) = median(found.iter().map(|found| found.after_millis as f64).collect()) else {
                    return "–".to_owned();
                };
                let every = if found.len() == scores.len() {
                    String::new()
                } else {
                    format!("{}/{} ", found.len(), scores.len())
                };
                let share = mean(scores.iter().map(|score| score.attempts_attributed));
                format!("{every}{} · {}", span(after), percent(share))
            })
            .collect();
        println!("| {} | {} |", row.name, cells.join(" | "));
    }
    println!();
}

fn quiet(tenants: &[&Measured], accounts: u32) {
    let Some(first) = tenants.first() else { return };
    println!("### Without an attack\n");
    println!(
        "| detector | false findings | per tenant and day | per day and million accounts | time wrongly open | what fired |"
    );
    println!("|---|---|---|---|---|---|");
    for (index, name) in first.detectors.iter().enumerate() {
        let mut all = QuietScore::default();
        tenants.iter().filter_map(|one| one.quiet.get(index)).for_each(|score| all.add(score));
        let days = all.millis as f64 / DAY as f64;
        let per_day = all.false_stories as f64 / days;
        println!(
            "| {name} | {} in {days:.0} days | {} | {} | {} | {} |",
            all.false_stories,
            short(per_day),
            short(per_day * 1e6 / f64::from(accounts)),
            percent(all.open_millis as f64 / all.millis as f64),
            if index == 0 { labels(&all.labels) } else { String::new() },
        );
    }
    println!();
}

fn benign_days(tenants: &[&Measured], benign: &[Quiet]) {
    let Some(first) = tenants.first() else { return };
    println!("### Benign days: stories opened during the scenario and an hour after, per tenant\n");
    println!("\"+n\": incidents that say themselves that they are an outage and no attack.\n");
    println!("| day | {} | what fired of ours |", first.detectors.join(" | "));
    println!("|---|{}---|", "---|".repeat(first.detectors.len()));
    for (index, row) in benign.iter().enumerate() {
        let mut ours = BTreeSet::new();
        let cells: Vec<_> = (0..first.detectors.len())
            .map(|detector| {
                let scores: Vec<_> = tenants.iter().filter_map(|one| one.benign.get(index)?.get(detector)).collect();
                if detector == 0 {
                    ours.extend(scores.iter().flat_map(|score| score.labels.iter().cloned()));
                }
                let no_attacks = mean(scores.iter().map(|score| score.no_attacks as f64));
                let plus = if no_attacks > 0.0 { format!(" +{}", short(no_attacks)) } else { String::new() };
                format!("{}{plus}", short(mean(scores.iter().map(|score| score.false_stories as f64))))
            })
            .collect();
        println!("| {} | {} | {} |", row.name, cells.join(" | "), labels(&ours));
    }
    println!();
}

fn by_seed(measured: &[Measured], attacks: &[Row]) {
    println!("## By tenant: after how long the detector found it\n");
    let names: Vec<_> = measured.iter().map(|one| format!("{} / {}", one.tenant.accounts, one.tenant.seed)).collect();
    println!("| accounts / seed | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (index, row) in attacks.iter().enumerate() {
        line(row.name, measured, |one| {
            let found = one.attacks.get(index).and_then(|row| row.first()).and_then(|score| score.found);
            found.map_or("–".to_owned(), |found| span(found.after_millis as f64))
        });
    }
    let ours = |one: &Measured| one.attacks.iter().filter_map(|row| row.first()).cloned().collect::<Vec<_>>();
    line("**found**", measured, |one| {
        let scores = ours(one);
        format!("{}/{}", scores.iter().filter(|score| score.found.is_some()).count(), scores.len())
    });
    line("**accounts named or suspected**", measured, |one| {
        let scores = ours(one);
        let scores: Vec<_> = scores.iter().collect();
        ratio(
            sum(&scores, |score| score.named_rightly + score.suspected_rightly),
            sum(&scores, |score| score.broken_into),
        )
    });
    line("**false in the quiet days**", measured, |one| {
        one.quiet.first().map_or(0, |score| score.false_stories).to_string()
    });
    line("**stories on benign days**", measured, |one| {
        one.benign.iter().filter_map(|row| row.first()).map(|score| score.false_stories).sum::<u64>().to_string()
    });
    println!();
}

fn line(name: &str, measured: &[Measured], cell: impl Fn(&Measured) -> String) {
    println!("| {name} | {} |", measured.iter().map(cell).collect::<Vec<_>>().join(" | "));
}

fn sum(scores: &[&AttackScore], of: impl Fn(&AttackScore) -> u64) -> u64 {
    scores.iter().map(|score| of(score)).sum()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn ratio(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{part}/{whole}") }
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.1 {
        return format!("{:.1} %", share * 100.0);
    }
    format!("{:.0} %", share * 100.0)
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn span(millis: f64) -> String {
    let seconds = millis / 1000.0;
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

fn labels(labels: &BTreeSet<String>) -> String {
    labels.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
