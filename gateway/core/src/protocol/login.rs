//! Logins that belong to a connection and not to a request.
//!
//! With NTLM, and with Negotiate whatever it carries, a server believes every later request on the
//! TCP connection over which somebody logged in. Basic, Digest and Bearer prove each request by
//! itself and are none of this module's business.
//!
//! # Source
//! RFC 4559 section 6; MC-BUP 2.2.4.

use http::HeaderValue;

use super::{Fields, headers};

/// What the challenges of one answer mean for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Challenge {
    /// No scheme that binds.
    Other,
    /// Such a login may begin.
    Offer,
    /// One has begun, or has ended well: the server's token lies beside the name of the scheme.
    Token,
}

/// What is left of the challenges of an answer for a client that must not log a connection in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// None of them logs a connection in.
    All,
    /// Others than those that were taken out, one for each field.
    Some(Vec<HeaderValue>),
    /// Nothing: all of them were taken out.
    Nothing,
}

/// Schemes that log a connection in. The last is what some servers call Negotiate with more.
const SCHEMES: [&str; 3] = ["NTLM", "Negotiate", "Nego2"];

/// Whether an `Authorization` logs the connection in that it comes over.
pub fn binds(credentials: &[u8]) -> bool {
    split_scheme(credentials).is_some_and(|(scheme, _)| is_bound(scheme))
}

/// The strongest challenge in one `WWW-Authenticate`, which may list several.
pub fn challenge(value: &[u8]) -> Challenge {
    let found = elements(value).filter_map(|element| {
        let (scheme, rest) = split_scheme(element)?;
        let token = if rest.is_empty() { Challenge::Offer } else { Challenge::Token };
        is_bound(scheme).then_some(token)
    });
    found.max().unwrap_or(Challenge::Other)
}

/// Takes the schemes that log a connection in out of the challenges of an answer.
pub fn without_bound(fields: &impl Fields) -> Left {
    let values = || fields.values(&headers::WWW_AUTHENTICATE);
    if values().all(|value| challenge(value) == Challenge::Other) {
        return Left::All;
    }
    let left: Vec<_> = values().filter_map(free).collect();
    if left.is_empty() { Left::Nothing } else { Left::Some(left) }
}

/// The challenges of one field without those that log a connection in.
fn free(value: &[u8]) -> Option<HeaderValue> {
    let mut bound = false;
    let kept = elements(value).filter(|element| {
        // An element without a scheme is a parameter of the challenge before it.
        if let Some(scheme) = scheme_of(element) {
            bound = is_bound(scheme);
        }
        !bound && !element.trim_ascii().is_empty()
    });
    let kept: Vec<&[u8]> = kept.map(<[u8]>::trim_ascii).collect();
    let named = kept.iter().any(|element| scheme_of(element).is_some());
    // Parts of a legal value with legal bytes between are one.
    HeaderValue::from_bytes(&kept.join(&b", "[..])).ok().filter(|_| named)
}

/// The scheme with which an element begins a challenge, unless it is a parameter: `name=value`,
/// also with spaces around the sign.
fn scheme_of(element: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = split_scheme(element)?;
    let parameter = scheme.contains(&b'=') || (rest.starts_with(b"=") && !is_bound(scheme));
    (!parameter).then_some(scheme)
}

fn is_bound(scheme: &[u8]) -> bool {
    SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
}

/// The first word of a challenge or of credentials, and what follows it.
fn split_scheme(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii();
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    let (scheme, rest) = text.split_at(end);
    (!scheme.is_empty()).then_some((scheme, rest.trim_ascii()))
}

/// What stands between the commas that are not inside quotes.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::WWW_AUTHENTICATE;

    use super::*;

    #[test]
    fn credentials_of_a_connection_are_told_from_those_of_a_request() {
        for bound in
            ["NTLM TlRMTVNTUAAB", "ntlm x", "Negotiate YII=", "NEGOTIATE\tx", " NTLM", "Nego2 x"]
        {
            assert!(binds(bound.as_bytes()), "{bound}");
        }
        for free in
            ["Basic dTpw", "Digest username=\"NTLM x\"", "Bearer NTLM", "NTLMx y", "", " ", "Nego"]
        {
            assert!(!binds(free.as_bytes()), "{free}");
        }
    }

    #[test]
    fn a_challenge_is_found_in_a_list_and_not_in_a_quoted_text() {
        use Challenge::{Offer, Other, Token};
        for (value, expected) in [
            ("NTLM", Offer),
            ("negotiate", Offer),
            ("Negotiate, NTLM, Basic realm=\"x\"", Offer),
            ("Basic realm=\"a, b\", Negotiate", Offer),
            ("Basic realm=\"a\\\", NTLM\"", Other),
            ("Digest realm=\"NTLM\", qop=\"auth, NTLM ,x\"", Other),
            ("NTLM TlRMTVNTUAACAAAA", Token),
            ("Negotiate,NTLM TlRMTVNTUAACAAAA==", Token),
            ("Negotiate oRQwEqADCgEA", Token),
            ("Basic realm=\"up\"", Other),
            ("ntlm=\"x\"", Other),
            ("", Other),
            (", ,", Other),
        ] {
            assert_eq!(challenge(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn a_client_among_many_is_offered_what_proves_each_request() {
        for (values, left) in [
            (&["Basic realm=\"a\""][..], None),
            (&["Basic realm=\"NTLM, x\", Digest realm=\"a\", qop=\"auth\""], None),
            (&[], None),
            (&["NTLM"], Some(&[][..])),
            (&["NTLM TlRMTVNTUAACAAAA=="], Some(&[])),
            (&["Negotiate, NTLM"], Some(&[])),
            (&["Negotiate", "NTLM", "Nego2"], Some(&[])),
            (&["Negotiate", "", ", ,"], Some(&[])),
            (&["NTLM realm=\"a\", charset=\"b\""], Some(&[])),
            (&["Negotiate", "NTLM", "Basic realm=\"a, b\""], Some(&["Basic realm=\"a, b\""])),
            (&["Negotiate, NTLM , Basic realm=\"a, b\""], Some(&["Basic realm=\"a, b\""])),
            (&["Basic realm=\"a\", Negotiate"], Some(&["Basic realm=\"a\""])),
            (
                &[
                    "Digest realm=\"a\", qop=\"auth, NTLM\", nonce=x,nTlM,Basic realm=\"b\\\", NTLM\"",
                ],
                Some(&[
                    "Digest realm=\"a\", qop=\"auth, NTLM\", nonce=x, Basic realm=\"b\\\", NTLM\"",
                ]),
            ),
            // Parameters go with their scheme.
            (&["Negotiate a=b, c = d, e=\"f, g\", Bearer"], Some(&["Bearer"])),
            (
                &["Basic realm = \"a\" , charset = \"UTF-8\", NTLM"],
                Some(&["Basic realm = \"a\", charset = \"UTF-8\""]),
            ),
            // What no client reads as a challenge is none.
            (&["realm=\"a\", NTLM"], Some(&[])),
        ] {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            let expected = match left {
                None => Left::All,
                Some([]) => Left::Nothing,
                Some(left) => {
                    Left::Some(left.iter().map(|v| HeaderValue::from_static(v)).collect())
                }
            };
            assert_eq!(without_bound(&fields), expected, "{values:?}");
            if let Left::Some(left) = expected {
                let again = left.iter().all(|v| challenge(v.as_bytes()) == Challenge::Other);
                assert!(again, "{left:?}");
            }
        }
    }
}
