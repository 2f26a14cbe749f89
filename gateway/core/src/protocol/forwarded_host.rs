//! The host that the proxy in front was asked for, where it replaces `Host` by a name of its own.

use super::host::Host;

/// The fields of a proxy do not name one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("X-Forwarded-Host and Forwarded do not name one host")]
pub struct Unclear;

/// What the last elements of `X-Forwarded-Host` and of `Forwarded` name, with its port. `None` if
/// neither names a host.
///
/// The last element is the one of the proxy that sends the request: what stands before it was
/// handed on. To be asked only of what a trusted proxy has sent.
///
/// # Errors
/// The two name two hosts, or one of them what is none.
///
/// # Source
/// RFC 7239 sections 4 and 5.3.
pub fn named<'v>(
    x_forwarded_host: impl DoubleEndedIterator<Item = &'v [u8]>,
    forwarded: impl DoubleEndedIterator<Item = &'v [u8]>,
) -> Result<Option<&'v str>, Unclear> {
    let plain = last_element(x_forwarded_host)?.map(host).transpose()?;
    let pair = last_element(forwarded)?.map(host_of_element).transpose()?.flatten();
    match (plain, pair) {
        (Some(one), Some(other)) if !is_same_name(one, other) => Err(Unclear),
        (one, other) => Ok(one.or(other)),
    }
}

/// Of a list that may be spread over several fields.
fn last_element<'v>(
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
) -> Result<Option<&'v str>, Unclear> {
    for value in values.rev() {
        let text = std::str::from_utf8(value).map_err(|_| Unclear)?;
        let elements = split(text, ',').ok_or(Unclear)?;
        let last = elements.into_iter().map(str::trim).rfind(|element| !element.is_empty());
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

fn host_of_element(element: &str) -> Result<Option<&str>, Unclear> {
    let mut named = None;
    for pair in split(element, ';').ok_or(Unclear)? {
        let Some((name, value)) = pair.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("host") {
            continue;
        }
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        // It stands once in an element.
        if named.replace(host(unquoted.unwrap_or(value))?).is_some() {
            return Err(Unclear);
        }
    }
    Ok(named)
}

fn host(text: &str) -> Result<&str, Unclear> {
    Host::parse(text).map(|_| text).ok_or(Unclear)
}

/// Names are compared as host ids are: without a port, which many proxies leave out.
fn is_same_name(one: &str, other: &str) -> bool {
    let key = |text| Host::parse(text).map(|host| host.with_key(<[u8]>::to_vec));
    key(one) == key(other)
}

/// At each `mark` outside of quotes; `None` if a quote does not end.
fn split(text: &str, mark: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            other if other == mark && !quoted => {
                parts.push(&text[start..at]);
                start = at + mark.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(x: &[&str], forwarded: &[&str], expected: Result<Option<&str>, Unclear>) {
        let x_bytes = x.iter().map(|value| value.as_bytes());
        let forwarded_bytes = forwarded.iter().map(|value| value.as_bytes());
        assert_eq!(named(x_bytes, forwarded_bytes), expected, "{x:?} {forwarded:?}");
    }

    #[test]
    fn the_last_element_counts() {
        check(&[], &[], Ok(None));
        check(&["up.test"], &[], Ok(Some("up.test")));
        check(&["a.test, up.test:8443 "], &[], Ok(Some("up.test:8443")));
        check(&["a.test", "b.test,up.test, ,"], &[], Ok(Some("up.test")));
        check(&["up.test", ""], &[], Ok(Some("up.test")));
        check(&["[::1]:80"], &[], Ok(Some("[::1]:80")));
        check(&[], &["for=1.1.1.1;host=a.test, for=2.2.2.2;Host=up.test"], Ok(Some("up.test")));
        check(
            &[],
            &["host=a.test", "proto=https; host=\"up.test:8443\""],
            Ok(Some("up.test:8443")),
        );
        // It names no host, and what was handed on is not asked.
        check(&[], &["host=a.test, for=2.2.2.2"], Ok(None));
        check(&[], &["for=\"a, host=evil.test\""], Ok(None));
        check(&[], &["for=\"a;host=evil.test\";host=up.test"], Ok(Some("up.test")));
        check(&[], &["for=\"a\\\";host=evil.test\";host=up.test"], Ok(Some("up.test")));
    }

    #[test]
    fn two_hosts_and_none_are_refused() {
        check(&["up.test"], &["host=UP.test."], Ok(Some("up.test")));
        check(&["up.test:8443"], &["host=up.test"], Ok(Some("up.test:8443")));
        check(&["up.test"], &["for=1.1.1.1"], Ok(Some("up.test")));
        for (x, forwarded) in [
            ("up.test", "host=other.test"),
            ("a b", ""),
            ("user@up.test", ""),
            ("up.test/x", ""),
            ("\"up.test", ""),
            ("up.test", "host=a b"),
            ("", "host="),
            ("", "host=\"up.test"),
            ("", "for=\"x, host=up.test"),
            ("", "host=up.test;host=up.test"),
            ("", "host=\"up\\.test\""),
        ] {
            check(&[x], &[forwarded], Err(Unclear));
        }
        assert_eq!(named([&b"\xff"[..]].into_iter(), [].into_iter()), Err(Unclear));
    }
}
