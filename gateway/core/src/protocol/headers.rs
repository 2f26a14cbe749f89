//! Every header name of the protocol, once.

use http::HeaderName;

/// A header: how it is looked up, and how it is spelled when we write it.
///
/// Names compare case-insensitively, yet some lab clients compare them byte for byte, so what we
/// write has the spelling of the specification.
#[derive(Debug)]
pub struct Field {
    pub name: HeaderName,
    pub wire: &'static str,
    pub id: Id,
}

/// Defines the fields that somebody here looks for. Each gets a number, by which a head that was
/// read once finds it without comparing names.
macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $name:literal, $wire:literal;)*) => {
        /// The number of a field.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the fields' own names")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Id {
            /// Any field without a number.
            OTHER,
            $($field,)*
        }

        $($(#[$doc])* pub static $field: Field =
            Field { name: HeaderName::from_static($name), wire: $wire, id: Id::$field };)*

        /// All fields that have a number.
        pub(crate) static KNOWN: [&Field; KNOWN_FIELDS] = [$(&$field,)*];

        const WIRES: [&str; KNOWN_FIELDS] = [$($wire,)*];

        /// How many fields have a number.
        pub const KNOWN_FIELDS: usize = [$($wire,)*].len();
    };
}

fields! {
    /// MC-BUP 2.2.1.2. Its section 2.2.1 once prints "BITS-Package-Type"; nobody sends that.
    PACKET_TYPE = "bits-packet-type", "BITS-Packet-Type";
    /// MC-BUP 2.2.2.2: GUIDs the client speaks, separated by spaces or commas.
    SUPPORTED_PROTOCOLS = "bits-supported-protocols", "BITS-Supported-Protocols";
    /// MC-BUP 2.2.3.2: the GUID the server chose.
    PROTOCOL = "bits-protocol", "BITS-Protocol";
    /// MC-BUP 2.2.1.2, 2.2.3.2.
    SESSION_ID = "bits-session-id", "BITS-Session-Id";
    /// MC-BUP 2.2.3.2: host, without port, that later packets go to.
    HOST_ID = "bits-host-id", "BITS-Host-Id";
    /// MC-BUP 2.2.3.2: seconds after which a client leaves an unreachable Host-Id.
    HOST_ID_FALLBACK_TIMEOUT = "bits-host-id-fallback-timeout", "BITS-Host-Id-Fallback-Timeout";
    /// MC-BUP 2.2.7: the next offset, one number.
    RECEIVED_CONTENT_RANGE = "bits-received-content-range", "BITS-Received-Content-Range";
    /// The same, as GoBITS misspells it in its 416.
    RECEIVED_CONTENT_RANGE_MISSPELT = "bits-recieved-content-range", "BITS-Recieved-Content-Range";
    /// MC-BUP 2.2.7: where the reply of an upload-reply job lies. IIS sends a relative path with
    /// backslashes.
    REPLY_URL = "bits-reply-url", "BITS-Reply-URL";
    /// MC-BUP's name of the error header; what Windows Server sends.
    ERROR = "bits-error", "BITS-Error";
    /// The Win32 documentation's name of the same header; what most other servers send.
    ERROR_CODE = "bits-error-code", "BITS-Error-Code";
    /// 0x5: found by the server itself. 0x7: came from the application behind it.
    ERROR_CONTEXT = "bits-error-context", "BITS-Error-Context";
    /// The local file name, on Fragments (Windows) and elsewhere; may hold non-ASCII bytes.
    CONTENT_NAME = "content-name", "Content-Name";
    CONTENT_RANGE = "content-range", "Content-Range";
    CONTENT_LENGTH = "content-length", "Content-Length";
    TRANSFER_ENCODING = "transfer-encoding", "Transfer-Encoding";
    HOST = "host", "Host";
    CONNECTION = "connection", "Connection";
    /// RFC 2068 section 19.7.1.1.
    KEEP_ALIVE = "keep-alive", "Keep-Alive";
    /// RFC 8586.
    CDN_LOOP = "cdn-loop", "CDN-Loop";
    /// RFC 7239.
    FORWARDED = "forwarded", "Forwarded";
    FORWARDED_FOR = "x-forwarded-for", "X-Forwarded-For";
    FORWARDED_HOST = "x-forwarded-host", "X-Forwarded-Host";
    FORWARDED_PORT = "x-forwarded-port", "X-Forwarded-Port";
    FORWARDED_PROTO = "x-forwarded-proto", "X-Forwarded-Proto";
    /// By which a request is found in the logs of all that it passed. Of no standard, and known to all.
    REQUEST_ID = "x-request-id", "X-Request-Id";
    /// W3C Trace Context.
    TRACEPARENT = "traceparent", "traceparent";
    TRACESTATE = "tracestate", "tracestate";
    /// RFC 9110 section 10.2.2.
    LOCATION = "location", "Location";
    /// RFC 9110 section 10.2.3, in seconds.
    RETRY_AFTER = "retry-after", "Retry-After";
    /// RFC 9110 section 11.6.1.
    WWW_AUTHENTICATE = "www-authenticate", "WWW-Authenticate";
    /// In a Create-Session Ack: the encodings allowed for Fragment bodies (MC-BUP 2.2.3.1).
    ACCEPT_ENCODING = "accept-encoding", "Accept-Encoding";
    /// OneDrive's clients send `POST` with this instead of the method `BITS_POST`.
    METHOD_OVERRIDE = "x-http-method-override", "X-Http-Method-Override";
    /// Express and Rack.
    METHOD_OVERRIDE_SHORT = "x-method-override", "X-Method-Override";
    /// Microsoft's WebAPI and OData.
    HTTP_METHOD = "x-http-method", "X-HTTP-Method";
    AUTHORIZATION = "authorization", "Authorization";
    CONTENT_ENCODING = "content-encoding", "Content-Encoding";
    CONTENT_TYPE = "content-type", "Content-Type";
    COOKIE = "cookie", "Cookie";
    DATE = "date", "Date";
    EXPECT = "expect", "Expect";
    ACCEPT = "accept", "Accept";
    SERVER = "server", "Server";
    USER_AGENT = "user-agent", "User-Agent";
    VIA = "via", "Via";
    HTTP2_SETTINGS = "http2-settings", "HTTP2-Settings";
    PROXY_AUTHENTICATE = "proxy-authenticate", "Proxy-Authenticate";
    PROXY_AUTHORIZATION = "proxy-authorization", "Proxy-Authorization";
    PROXY_CONNECTION = "proxy-connection", "Proxy-Connection";
    TE = "te", "TE";
    TRAILER = "trailer", "Trailer";
    UPGRADE = "upgrade", "Upgrade";
}

/// All fields by which servers are known to take another method than the one in the request line.
pub static METHOD_OVERRIDES: [&Field; 3] = [&METHOD_OVERRIDE, &METHOD_OVERRIDE_SHORT, &HTTP_METHOD];

/// How many places there are for fields, by [`slot`].
const SLOTS: usize = 256;

/// With these factors no two fields have one place, which is checked when this is compiled.
const FACTORS: [usize; 3] = [1, 17, 34];

/// The place of a name of two letters or more, by its length and three of them, in whatever case.
const fn slot(name: &[u8]) -> usize {
    let last = name.len() - 1;
    let inner = if last < 8 { last } else { 8 };
    let [by_first, by_inner, by_last_but_one] = FACTORS;
    let first = (name[0] | 0x20) as usize * by_first;
    let inner = (name[inner] | 0x20) as usize * by_inner;
    let last_but_one = (name[last - 1] | 0x20) as usize * by_last_but_one;
    (name.len() + first + inner + last_but_one) % SLOTS
}

/// The numbers of the fields by their places, 0 for none.
const NUMBERS: [u8; SLOTS] = {
    let mut numbers = [0; SLOTS];
    let mut index = 0;
    while index < KNOWN_FIELDS {
        let slot = slot(WIRES[index].as_bytes());
        assert!(numbers[slot] == 0, "two fields have one place: look for other factors");
        index += 1;
        numbers[slot] = index as u8;
    }
    numbers
};

impl Id {
    /// A bit for each number.
    pub const fn bit(self) -> u64 {
        const { assert!(KNOWN_FIELDS < u64::BITS as usize) };
        1 << (self as u8)
    }

    /// The field with this number.
    pub fn field(self) -> Option<&'static Field> {
        KNOWN.get((self as usize).checked_sub(1)?).copied()
    }
}

/// The number of the field with that name, in whatever case it is written.
pub fn id_of(name: &[u8]) -> Id {
    if name.len() < 2 {
        return Id::OTHER;
    }
    let Some(index) = usize::from(NUMBERS[slot(name)]).checked_sub(1) else { return Id::OTHER };
    let wire = WIRES[index].as_bytes();
    // Nearly all are written as we write them.
    if wire == name || wire.eq_ignore_ascii_case(name) { KNOWN[index].id } else { Id::OTHER }
}

/// The method of every packet (MC-BUP 2.2.1).
pub const BITS_POST: &str = "BITS_POST";

/// "BITS 1.5 upload", the only protocol there is, in the case in which IIS returns it.
pub const UPLOAD_PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// Longest value of a protocol header; IIS answers 400 to a longer one (MC-BUP 2.2.1, note 2).
pub const VALUE_LIMIT: usize = 4096;

/// Longest name of a field, in either direction. The longest that is registered has 44 characters.
pub const NAME_LIMIT: usize = 256;

/// Longest value of any field, in either direction: what libraries and servers agree on that they
/// can hold.
pub const FIELD_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_in_any_case() {
        for field in KNOWN {
            assert_eq!(field.name.as_str(), field.wire.to_ascii_lowercase());
            for name in [field.wire.to_owned(), field.wire.to_uppercase(), field.name.to_string()] {
                assert_eq!(id_of(name.as_bytes()), field.id, "{name}");
            }
            for other in [format!("{}x", field.wire), field.wire[1..].to_owned()] {
                let found = KNOWN.iter().find(|field| field.wire.eq_ignore_ascii_case(&other));
                let id = found.map_or(Id::OTHER, |field| field.id);
                assert_eq!(id_of(other.as_bytes()), id, "{other}");
            }
        }
        assert_eq!(id_of(b""), Id::OTHER);
        assert_eq!(id_of(&[b'x'; 300]), Id::OTHER);
    }
}
