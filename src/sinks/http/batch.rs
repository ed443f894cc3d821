//! How many findings go into one request.

use std::ops::Range;

/// Cuts items of `sizes` bytes into runs of at most `max_bytes` each; an item above that is a run of its own, which the
/// receiver may still take.
#[must_use]
pub fn runs(sizes: impl IntoIterator<Item = usize>, max_bytes: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0_usize;
    for (index, size) in sizes.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if bytes.saturating_add(size) <= max_bytes => {
                run.end = index + 1;
                bytes += size;
            }
            _ => {
                runs.push(index..index + 1);
                bytes = size;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_fits_and_nothing_is_left_out() {
        assert_eq!(runs([4, 4, 4, 20, 1, 9, 1], 10), [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert!(runs([], 10).is_empty());
        assert_eq!(runs([99], 10), vec![0..1; 1]);
    }
}
