//! `CDN-Loop`: by this field a gateway knows a request that it has forwarded before.
//!
//! A backend whose address leads back to the gateway would pass a request round until every
//! connection is taken. So each request says by which gateways it came, and which backend each of
//! them had chosen.
//!
//! # Source
//! RFC 8586. The entry is a token with the parameter `id`: `bits-gateway;id=PROCESS.BACKEND`.

use http::HeaderName;

pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

const NAME: &str = "bits-gateway";

/// What a gateway adds to a request for a backend. `process` is 32 hexadecimal digits that no other
/// process has.
pub fn entry(process: &str, backend: u32) -> String {
    format!("{NAME};id={process}.{backend}")
}

/// The backend by which a request has come back to the gateway `process`; `None` if it is here for
/// the first time. `values` are those of all its `CDN-Loop` fields.
///
/// Any client can write an entry. It does not know the process, and with a wrong one it changes
/// nothing.
pub fn came_back<'v>(values: impl Iterator<Item = &'v [u8]>, process: &str) -> Option<u32> {
    let entries = values.flat_map(|value| value.split(|&byte| byte == b','));
    entries.filter_map(|entry| std::str::from_utf8(entry).ok()).find_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let ours = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(NAME));
        let id = parts.filter(|_| ours).find_map(|part| part.strip_prefix("id="))?;
        id.strip_prefix(process)?.strip_prefix('.')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = "0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(values: &[&str], expected: Option<u32>) {
        let values = values.iter().map(|value| value.as_bytes());
        assert_eq!(came_back(values, PROCESS), expected);
    }

    #[test]
    fn a_request_that_was_forwarded_is_known_again() {
        let own = entry(PROCESS, 7);
        check(&[&own], Some(7));
        check(&["cloudflare", &own], Some(7));
        check(&[&format!("fastly; v=\"a\" , {}", own.replace(';', " ; ")), "x"], Some(7));
        check(
            &[&own.to_uppercase().replace("ID=", "id=").replace(&PROCESS.to_uppercase(), PROCESS)],
            Some(7),
        );
    }

    #[test]
    fn what_others_write_means_nothing() {
        let other = PROCESS.replace('0', "f");
        for value in [
            "",
            ",",
            "cloudflare",
            "bits-gateway",
            "bits-gateway;id=",
            &format!("bits-gateway;id={PROCESS}"),
            &format!("bits-gateway;id={PROCESS}."),
            &format!("bits-gateway;id={PROCESS}.x"),
            &format!("other;id={PROCESS}.7"),
            &format!("bits-gateway;x={PROCESS}.7"),
            &entry(&other, 7),
            &format!("x{}", entry(PROCESS, 7)),
        ] {
            check(&[value], None);
        }
        assert_eq!(came_back([&b"\xff"[..]].into_iter(), PROCESS), None);
    }
}
