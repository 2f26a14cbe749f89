//! Medians and their spread.

use std::time::Duration;

/// The middle of some figures, with the lowest and the highest of them.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// `None` without a figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Some(Self { median, low, high })
    }

    /// Of the ratios of two peers in the same round. A round in which one of the two has no figure does not count.
    pub fn of_ratios(figures: &[Option<f64>], base: &[Option<f64>]) -> Option<Self> {
        let rounds = figures.iter().zip(base);
        Self::of(rounds.filter_map(|(figure, base)| {
            let base = (*base)?;
            (base > 0.0).then_some((*figure)? / base)
        }))
    }
}

/// The time within which this share of all ended.
pub fn quantile(times: &mut [Duration], share: f64) -> Duration {
    if times.is_empty() {
        return Duration::ZERO;
    }
    let rank = (times.len() as f64 * share).ceil() as usize;
    *times.select_nth_unstable(rank.clamp(1, times.len()) - 1).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(figures: &[f64], median: f64, low: f64, high: f64) {
        assert_eq!(Spread::of(figures.iter().copied()), Some(Spread { median, low, high }));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0);
        check(&[7.0], 7.0, 7.0, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was half as fast in the second round, for both.
        let ratios = Spread::of_ratios(
            &[Some(2.0), Some(4.0), None, Some(1.0)],
            &[Some(1.0), Some(2.0), Some(5.0), None],
        );
        assert_eq!(ratios, Some(Spread { median: 2.0, low: 2.0, high: 2.0 }));
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut times, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&mut times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&mut times, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
    }
}
