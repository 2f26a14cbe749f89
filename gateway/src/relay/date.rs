//! The date of our own answers, and of those that came without one (RFC 9110 section 6.6.1).

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use super::head::write_field;
use crate::base::clock;

thread_local! {
    /// The second that was written last, and its text.
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Writes the field.
pub fn write(out: &mut Vec<u8>) {
    let now = clock::now().0 / 1000;
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        write_field(out, b"Date", text.as_bytes());
    });
}
