//! What a request says for the next hop alone, and what must reach the server.

use super::{Request, is_token, list};

/// A request as its client sent it, less what is for the next hop alone.
pub(super) fn for_the_server(mut request: Request) -> Option<Request> {
    let named: Vec<Vec<u8>> = request.values("connection").flat_map(list).map(read).collect();
    let words = named.iter().filter(|word| is_token(word));
    if words.clone().any(|word| !is_for_next_hop(word) && must_stay(word)) {
        return None;
    }
    let named: Vec<Vec<u8>> =
        words.filter(|w| !is_for_next_hop(w) && &***w != b"close").cloned().collect();
    // What the request itself says of its connection is still asked for.
    request.fields.retain(|(name, _)| {
        let name = read(name);
        name == b"connection" || (!is_for_next_hop(&name) && !named.contains(&name))
    });
    Some(request)
}

/// As some servers read a name.
pub(super) fn read(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect()
}

pub(super) fn is_for_next_hop(name: &[u8]) -> bool {
    let names = ["connection", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"];
    names.iter().any(|known| known.as_bytes() == name)
}

/// A field that `Connection` must not take off.
fn must_stay(name: &[u8]) -> bool {
    let names = [
        "authorization",
        "client-ip",
        "cookie",
        "expect",
        "front-end-https",
        "host",
        "proxy",
        "range",
        "remote-addr",
        "remote-user",
        "trailer",
        "transfer-encoding",
        "true-client-ip",
        "via",
        "www-authenticate",
        "x-client-ip",
        "x-host",
        "x-original-host",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    ];
    let starts = [
        "bits-",
        "client-cert",
        "content-",
        "forwarded",
        "if-",
        "proxy-",
        "ssl-client-",
        "x-forward",
        "x-http-method",
        "x-method-override",
    ];
    names.iter().any(|known| known.as_bytes() == name)
        || starts.iter().any(|start| name.starts_with(start.as_bytes()))
}
