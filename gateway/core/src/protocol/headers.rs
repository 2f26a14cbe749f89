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
}

const fn field(name: &'static str, wire: &'static str) -> Field {
    Field { name: HeaderName::from_static(name), wire }
}

/// MC-BUP 2.2.1.2. Its section 2.2.1 once prints "BITS-Package-Type"; nobody sends that.
pub static PACKET_TYPE: Field = field("bits-packet-type", "BITS-Packet-Type");
/// MC-BUP 2.2.2.2: GUIDs the client speaks, separated by spaces or commas.
pub static SUPPORTED_PROTOCOLS: Field =
    field("bits-supported-protocols", "BITS-Supported-Protocols");
/// MC-BUP 2.2.3.2: the GUID the server chose.
pub static PROTOCOL: Field = field("bits-protocol", "BITS-Protocol");
/// MC-BUP 2.2.1.2, 2.2.3.2.
pub static SESSION_ID: Field = field("bits-session-id", "BITS-Session-Id");
/// MC-BUP 2.2.3.2: host, without port, that later packets go to.
pub static HOST_ID: Field = field("bits-host-id", "BITS-Host-Id");
/// MC-BUP 2.2.3.2: seconds after which a client leaves an unreachable Host-Id.
pub static HOST_ID_FALLBACK_TIMEOUT: Field =
    field("bits-host-id-fallback-timeout", "BITS-Host-Id-Fallback-Timeout");
/// MC-BUP 2.2.7: the next offset, one number.
pub static RECEIVED_CONTENT_RANGE: Field =
    field("bits-received-content-range", "BITS-Received-Content-Range");
/// The same, as GoBITS misspells it in its 416.
pub static RECEIVED_CONTENT_RANGE_MISSPELT: Field =
    field("bits-recieved-content-range", "BITS-Recieved-Content-Range");
/// MC-BUP 2.2.7: where the reply of an upload-reply job lies. IIS sends a relative path with
/// backslashes.
pub static REPLY_URL: Field = field("bits-reply-url", "BITS-Reply-URL");
/// MC-BUP's name of the error header; what Windows Server sends.
pub static ERROR: Field = field("bits-error", "BITS-Error");
/// The Win32 documentation's name of the same header; what most other servers send.
pub static ERROR_CODE: Field = field("bits-error-code", "BITS-Error-Code");
/// 0x5: found by the server itself. 0x7: came from the application behind it.
pub static ERROR_CONTEXT: Field = field("bits-error-context", "BITS-Error-Context");
/// The local file name, on Fragments (Windows) and elsewhere; may hold non-ASCII bytes.
pub static CONTENT_NAME: Field = field("content-name", "Content-Name");
pub static CONTENT_RANGE: Field = field("content-range", "Content-Range");
pub static CONTENT_LENGTH: Field = field("content-length", "Content-Length");
pub static TRANSFER_ENCODING: Field = field("transfer-encoding", "Transfer-Encoding");
pub static HOST: Field = field("host", "Host");
pub static CONNECTION: Field = field("connection", "Connection");
/// RFC 2068 section 19.7.1.1.
pub static KEEP_ALIVE: Field = field("keep-alive", "Keep-Alive");
/// RFC 8586.
pub static CDN_LOOP: Field = field("cdn-loop", "CDN-Loop");
/// RFC 7239.
pub static FORWARDED: Field = field("forwarded", "Forwarded");
pub static FORWARDED_FOR: Field = field("x-forwarded-for", "X-Forwarded-For");
pub static FORWARDED_HOST: Field = field("x-forwarded-host", "X-Forwarded-Host");
pub static FORWARDED_PORT: Field = field("x-forwarded-port", "X-Forwarded-Port");
pub static FORWARDED_PROTO: Field = field("x-forwarded-proto", "X-Forwarded-Proto");
/// RFC 9110 section 10.2.2.
pub static LOCATION: Field = field("location", "Location");
/// RFC 9110 section 10.2.3, in seconds.
pub static RETRY_AFTER: Field = field("retry-after", "Retry-After");
/// RFC 9110 section 11.6.1.
pub static WWW_AUTHENTICATE: Field = field("www-authenticate", "WWW-Authenticate");
/// In a Create-Session Ack: the encodings allowed for Fragment bodies (MC-BUP 2.2.3.1).
pub static ACCEPT_ENCODING: Field = field("accept-encoding", "Accept-Encoding");
/// OneDrive's clients send `POST` with this instead of the method `BITS_POST`.
pub static METHOD_OVERRIDE: Field = field("x-http-method-override", "X-Http-Method-Override");

/// All fields by which servers are known to take another method than the one in the request line.
pub static METHOD_OVERRIDES: [Field; 3] = [
    field("x-http-method-override", "X-HTTP-Method-Override"),
    field("x-method-override", "X-Method-Override"),
    field("x-http-method", "X-HTTP-Method"),
];

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
