//! The few statistics that the report rests on. Promises that no number is made up: of nothing there is no median.

/// The middle of the numbers, or the mean of the two in the middle; `None` when there are none.
#[must_use]
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let high = sorted.get(middle)?;
    if sorted.len().is_multiple_of(2) {
        let low = sorted.get(middle.checked_sub(1)?)?;
        Some(f64::midpoint(*low, *high))
    } else {
        Some(*high)
    }
}

/// The smallest of the sorted numbers that at least `percent` of them do not exceed (nearest rank); `None` when there
/// are none.
#[must_use]
pub fn percentile(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Microseconds in milliseconds.
#[must_use]
pub fn milliseconds(microseconds: u32) -> f64 {
    f64::from(microseconds) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn a_percentile_is_one_of_the_numbers() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&hundred, 100), Some(100));
        assert_eq!(percentile(&[5], 99), Some(5));
        assert_eq!(percentile(&[1, 2, 3], 99), Some(3));
        assert_eq!(percentile(&[1, 2, 3], 0), Some(1));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_median_that_no_round_disturbs() {
        // One slice that met a stall of the disk must not move the result.
        assert_eq!(median(&[100.0, 101.0, 3.0, 99.0, 102.0]), Some(100.0));
    }
}
