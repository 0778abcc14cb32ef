//! Statistics of repeated measurements.

use serde::{Serialize, Serializer};

/// The spread of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median: the middle value, or the mean of the two middle values.
    #[serde(serialize_with = "hundredths")]
    pub median: f64,
    /// The smallest.
    #[serde(serialize_with = "hundredths")]
    pub min: f64,
    /// The largest.
    #[serde(serialize_with = "hundredths")]
    pub max: f64,
}

impl Spread {
    /// The spread of `values`; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper)
        } else {
            upper
        };
        Some(Self { median, min, max })
    }

    /// `17 [16-18]`.
    pub fn text(&self) -> String {
        format!("{} [{}-{}]", number(self.median), number(self.min), number(self.max))
    }
}

/// The value that `percent` of the sorted values do not exceed (nearest rank).
pub(crate) fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// A figure for a table: a whole number if it is whole or large, otherwise with one digit, or two for
/// small figures such as ratios.
fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn hundredths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(spread(&[4.0, 1.0, 9.0, 3.0]).map(|spread| spread.median), Some(3.5));
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn figures_are_short() {
        let spread = Spread { median: 16.5, min: 16.0, max: 120.4 };
        assert_eq!(spread.text(), "16.5 [16-120]");
        let ratio = Spread { median: 2.454, min: 2.0, max: 9.99 };
        assert_eq!(ratio.text(), "2.45 [2-9.99]");
        assert_eq!(
            serde_json::to_string(&spread).unwrap(),
            r#"{"median":16.5,"min":16.0,"max":120.4}"#
        );
    }
}
