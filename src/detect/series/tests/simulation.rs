//! Simulated tenants.
use super::traffic::*;
use crate::detect::series::*;

#[test]
fn explore() {
    for peak in [0.5, 2.0, 5.0, 30.0] {
        for (steadiness, days) in [(10.0, 0.15), (3.0, 0.3)] {
            for successes in [2.0, 8.0] {
                let mut counts = [[0_u32; 3]; 3];
                let mut days_of = [0_u32; 3];
                let mut v = 0.0;
                for seed in 0..7_u64 {
                    let start = MONDAY + (seed as u32) * DAY + 120;
                    let mut tenant = Tenant::new(Population { peak, successes, steadiness, days }, seed + 1, start);
                    let mut last = None;
                    for _ in 0..60 * DAY {
                        let alarm = tenant.bucket(1.0, 0);
                        let m = tenant.series.maturity() as usize;
                        days_of[m] += 1;
                        if alarm.is_some() && alarm != last {
                            counts[m][alarm.unwrap() as usize] += 1;
                        }
                        last = alarm;
                    }
                    v += tenant.series.spread.factor(peak * 0.7) / 7.0;
                }
                println!(
                    "peak {peak} k {steadiness} d {days} s {successes}: V {v:.2} learning {:?}/{:.0} prov {:?}/{:.0} learned {:?}/{:.0}",
                    counts[0],
                    f64::from(days_of[0]) / 288.0,
                    counts[1],
                    f64::from(days_of[1]) / 288.0,
                    counts[2],
                    f64::from(days_of[2]) / 288.0
                );
            }
        }
    }
}
