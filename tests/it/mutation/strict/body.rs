//! Chunked bodies, as a strict reader finds them.

use super::field;

/// The decoded body, and how many bytes it took if its end is there. Extensions and trailers are read over.
pub(super) fn chunks(bytes: &[u8]) -> (Vec<u8>, Option<usize>) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some((size, next)) = size_line(bytes, at) else { return (body, None) };
        at = next;
        if size == 0 {
            return (body, trailers(bytes, at));
        }
        let Some(end) = at.checked_add(size).filter(|&end| end <= bytes.len()) else {
            body.extend(&bytes[at..]);
            return (body, None);
        };
        body.extend(&bytes[at..end]);
        if bytes.get(end..end + 2) != Some(b"\r\n") {
            return (body, None);
        }
        at = end + 2;
    }
}

fn size_line(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let length = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
    let line = &bytes[at..at + length];
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    let hex = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let clean = line.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f));
    let size = std::str::from_utf8(digits).ok().filter(|_| hex && clean)?;
    Some((usize::from_str_radix(size, 16).ok()?, at + length + 2))
}

fn trailers(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let line = &bytes[at..at + length];
        at += length + 2;
        if length == 0 {
            return Some(at);
        }
        field(line)?;
        if line.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return None;
        }
    }
}
