//! Logins that belong to a connection and not to a request.
//!
//! With NTLM, and with Negotiate whatever it carries, a server believes every later request on the
//! TCP connection over which somebody logged in. Basic, Digest and Bearer prove each request by
//! itself and are none of this module's business.
//!
//! # Source
//! RFC 4559 section 6; MC-BUP 2.2.4.

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
}
