//! When it is told that a certificate ends.

/// How near the end of a certificate is; each step is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Not within the next two weeks.
    Far,
    Weeks,
    Week,
    Day,
    Over,
}

const DAY: i64 = 24 * 60 * 60;

/// Where a certificate is that ends in so many seconds.
pub fn ending(left: i64) -> Ending {
    match left {
        ..0 => Ending::Over,
        _ if left < DAY => Ending::Day,
        _ if left < 7 * DAY => Ending::Week,
        _ if left < 14 * DAY => Ending::Weeks,
        _ => Ending::Far,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_nearer_in_steps() {
        for (left, near) in [
            (i64::MAX, Ending::Far),
            (14 * DAY, Ending::Far),
            (14 * DAY - 1, Ending::Weeks),
            (7 * DAY - 1, Ending::Week),
            (DAY, Ending::Week),
            (DAY - 1, Ending::Day),
            (0, Ending::Day),
            (-1, Ending::Over),
            (i64::MIN, Ending::Over),
        ] {
            assert_eq!(ending(left), near, "{left}");
        }
        assert!(Ending::Far < Ending::Over);
    }
}
