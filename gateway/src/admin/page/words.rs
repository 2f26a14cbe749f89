//! Numbers and times as people read them.

use bytesize::ByteSize;
use maud::{Markup, html};

pub use crate::base::spans::span;

/// "1.2 GiB".
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// "1.2 MiB/s", or a dash where nothing is known.
pub fn rate(bytes: Option<u64>) -> String {
    bytes.map_or_else(dash, |bytes| format!("{}/s", size(bytes)))
}

pub fn dash() -> String {
    "\u{2013}".to_owned()
}

/// "1,234,567".
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 upload", "2 uploads".
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A word with a shape and a colour, so that none of the three is needed.
pub fn state(kind: &str, shape: &str, word: &str) -> Markup {
    html! { span class={ "state " (kind) } { span aria-hidden="true" { (shape) } " " (word) } }
}

/// The time of day and the date of an RFC 3339 time, without what nobody reads.
pub fn time(rfc3339: &str) -> Markup {
    let short = rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ");
    html! { time datetime=(rfc3339) { (short) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (counted(1, "upload"), counted(2, "upload")),
            ("1 upload".into(), "2 uploads".into())
        );
    }

    #[test]
    fn a_time_is_shown_in_short_and_kept_in_full() {
        let shown = time("2026-03-01T08:00:00.123Z").into_string();
        let expected = "<time datetime=\"2026-03-01T08:00:00.123Z\">2026-03-01 08:00:00</time>";
        assert_eq!(shown, expected);
    }
}
