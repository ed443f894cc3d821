//! Could it be chance? The upper tail of the negative binomial distribution.
//!
//! A count whose rate is known only as a Gamma posterior is negative binomial. The tail is summed from its own end, term by
//! term, so that a probability of 1e-12 keeps its digits where `1 - sum` would have none.
//!
//! Invariant: only + - * / and a software `pow` (`libm`), so every machine gives the same bits.

/// Terms after which the rest cannot matter: the ratio of successive terms is below `q < 1` from there on.
const MAX_TERMS: u32 = 10_000;
/// A term this much smaller than the sum changes no digit that a comparison sees.
const NEGLIGIBLE: f64 = 1e-15;

/// `P(X >= at_least)` for `X ~ NB(shape, success)`: `P(X = j) = C(j + shape - 1, j) (1 - success)^shape success^j`.
/// `shape > 0`, `0 <= success < 1`.
pub(crate) fn negative_binomial_tail(at_least: u64, shape: f64, success: f64) -> f64 {
    let mut term = libm::pow(1.0 - success, shape);
    let mut sum = 0.0;
    for j in 0..MAX_TERMS {
        if u64::from(j) >= at_least {
            sum += term;
            if term < sum * NEGLIGIBLE {
                break;
            }
        }
        term *= success * (f64::from(j) + shape) / f64::from(j + 1);
    }
    if sum > 1.0 { 1.0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same probability by the definition, through logarithms of the gamma function.
    fn by_definition(at_least: u64, shape: f64, success: f64) -> f64 {
        (at_least..at_least + 20_000)
            .map(|j| {
                let j = j as f64;
                (libm::lgamma(j + shape) - libm::lgamma(j + 1.0) - libm::lgamma(shape)
                    + shape * (1.0 - success).ln()
                    + j * success.ln())
                .exp()
            })
            .sum()
    }

    #[test]
    fn it_agrees_with_the_definition() {
        for shape in [0.5, 1.0, 3.7, 40.0] {
            for success in [0.001, 0.1, 0.5, 0.9] {
                for at_least in [1, 4, 7, 20, 60] {
                    let (tail, exact) =
                        (negative_binomial_tail(at_least, shape, success), by_definition(at_least, shape, success));
                    assert!((tail / exact - 1.0).abs() < 1e-8, "{shape} {success} {at_least}: {tail} {exact}");
                }
            }
        }
    }

    #[test]
    fn everything_is_at_least_zero_often() {
        assert!((negative_binomial_tail(0, 0.5, 0.3) - 1.0).abs() < 1e-12);
        assert_eq!(negative_binomial_tail(1, 0.5, 0.0), 0.0);
    }
}
