//! Medians, quartiles and ratios of a handful of rounds.
//!
//! A ratio is formed round by round, ours / peer, from two figures taken moments apart, and only then summarised:
//! drift of the machine between rounds cancels. A ratio whose quartiles straddle 1 is a tie.

use serde::Serialize;

/// Median and quartiles of some rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// A quarter of the values lie below.
    pub q1: f64,
    /// A quarter of the values lie above.
    pub q3: f64,
}

impl Spread {
    /// Summarises `values`; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { median: at(0.5), q1: at(0.25), q3: at(0.75) })
    }

    /// Summarises ours / peer, one ratio per round.
    ///
    /// Panics when the two were not measured in the same rounds.
    pub fn of_ratios(ours: &[f64], peer: &[f64]) -> Option<Self> {
        assert_eq!(ours.len(), peer.len(), "a ratio needs both figures of each round");
        // Nothing beside nothing is the same.
        let ratio = |(ours, peer): (&f64, &f64)| if ours == peer { 1.0 } else { ours / peer };
        let ratios: Vec<f64> = ours.iter().zip(peer).map(ratio).collect();
        Self::of(&ratios)
    }

    /// Whether these quartiles straddle 1, so that a ratio proves nothing.
    pub fn is_tie(&self) -> bool {
        self.q1 <= 1.0 && 1.0 <= self.q3
    }
}

/// Linear interpolation between the two nearest of the sorted values (type 7 of Hyndman and Fan, 1996).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quartiles_of_an_odd_number_of_rounds_are_measured_values() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, q1: 2.0, q3: 4.0 });
    }

    #[test]
    fn quartiles_of_an_even_number_of_rounds_are_interpolated() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, q1: 1.75, q3: 3.25 });
    }

    #[test]
    fn one_round_has_no_spread_and_none_has_no_median() {
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, q1: 7.0, q3: 7.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_formed_within_a_round_so_that_drift_cancels() {
        // The machine became ten times slower, the ratio stayed at 2.
        let ratio = Spread::of_ratios(&[20.0, 2.0, 0.2], &[10.0, 1.0, 0.1]).unwrap();
        assert_eq!(ratio, Spread { median: 2.0, q1: 2.0, q3: 2.0 });
    }

    #[test]
    fn a_tie_is_a_ratio_whose_quartiles_straddle_one() {
        let ratio = |q1, q3| Spread { median: 1.0, q1, q3 };
        assert!(ratio(0.9, 1.1).is_tie());
        assert!(ratio(1.0, 1.2).is_tie());
        assert!(!ratio(1.01, 1.2).is_tie());
        assert!(!ratio(0.8, 0.99).is_tie());
    }

    proptest! {
        #[test]
        fn quartiles_enclose_the_median_and_stay_within_the_values(
            values in prop::collection::vec(0.001_f64..1e9, 1..40)
        ) {
            let spread = Spread::of(&values).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            prop_assert!(least <= spread.q1 && spread.q1 <= spread.median);
            prop_assert!(spread.median <= spread.q3 && spread.q3 <= most);
        }
    }
}
