//! What is a header and what is not, byte by byte.

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

/// What is read from these bytes and no others, and how many are left.
fn spoken(bytes: &[u8]) -> (Result<ProxyHeader, HeaderError>, usize) {
    let mut rest = bytes;
    let outcome = read(&mut rest).now_or_never().expect("a slice never waits");
    (outcome, rest.len())
}

/// A header of version 2.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&V2[..], &[command, family], &length, body].concat()
}

fn v4_body() -> Vec<u8> {
    [&[192, 0, 2, 7, 10, 0, 0, 1][..], &443u16.to_be_bytes(), &8080u16.to_be_bytes()].concat()
}

fn v6_body() -> Vec<u8> {
    let from = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
    [&from[..], &[0; 16], &[0xff, 0xff, 0, 80]].concat()
}

#[track_caller]
fn says(header: &[u8], expected: ProxyHeader) {
    let bytes = [header, b"GET /"].concat();
    let (outcome, left) = spoken(&bytes);
    assert_eq!((outcome.unwrap(), left), (expected, 5), "{}", header.escape_ascii());
}

#[track_caller]
fn refused(header: &[u8]) {
    let bytes = [header, &[b'x'; 4096]].concat();
    let (outcome, _) = spoken(&bytes);
    assert!(outcome.is_err(), "{}: {outcome:?}", header.escape_ascii());
}

fn client(address: &str, port: u16) -> ProxyHeader {
    ProxyHeader::For(address.parse().unwrap(), port)
}

#[test]
fn headers_of_both_versions_name_the_client() {
    says(b"PROXY TCP4 192.0.2.7 10.0.0.1 443 80\r\n", client("192.0.2.7:443", 80));
    says(b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n", client("[2001:db8::7]:65535", 0));
    says(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", client("192.0.2.7:1", 2));
    says(&v2(0x21, 0x11, &v4_body()), client("192.0.2.7:443", 8080));
    says(&v2(0x21, 0x21, &v6_body()), client("[2001:db8::7]:65535", 80));
}

#[test]
fn fields_behind_the_addresses_are_skipped() {
    let fields = [&[4, 0, 3][..], b"abc", &[5, 0, 0], &[0xee, 1, 0], &[7; 256]].concat();
    says(&v2(0x21, 0x11, &[v4_body(), fields].concat()), client("192.0.2.7:443", 8080));
}

#[test]
fn a_proxy_may_speak_for_itself() {
    says(b"PROXY UNKNOWN\r\n", ProxyHeader::Local);
    says(b"PROXY UNKNOWN ffff:f...f 1 whatever\r\n", ProxyHeader::Local);
    says(&v2(0x20, 0x00, &[]), ProxyHeader::Local);
    says(&v2(0x20, 0x11, &v4_body()), ProxyHeader::Local);
    says(&v2(0x20, 0x00, &[1, 2]), ProxyHeader::Local);
    says(&v2(0x21, 0x00, &[]), ProxyHeader::Local);
}

#[test]
fn what_is_no_header_is_given_back() {
    for bytes in
        [&b"POST / HTTP/1.1\r\n"[..], b"PROXYX", b"\r\n\r\n\0\r\nQUIT\r", b"\x16\x03\x01\0\0\x01"]
    {
        let (outcome, left) = spoken(bytes);
        let Ok(ProxyHeader::NotAHeader(read)) = outcome else { panic!("{}", bytes.escape_ascii()) };
        assert_eq!([&read, &bytes[bytes.len() - left..]].concat(), bytes);
    }
}

#[test]
fn anything_odd_is_refused() {
    for line in [
        "TCP4 192.0.2.7 10.0.0.1 443",
        "TCP4 192.0.2.7 10.0.0.1 443 80 1",
        "TCP4 192.0.2.7 10.0.0.1 443 80 ",
        "TCP4  192.0.2.7 10.0.0.1 443 80",
        "TCP4 192.0.2.7 10.0.0.1 443 65536",
        "TCP4 192.0.2.7 10.0.0.1 0443 80",
        "TCP4 192.0.2.7 10.0.0.1 +1 80",
        "TCP4 192.0.2.7 10.0.0.1 -1 80",
        "TCP4 192.0.2.256 10.0.0.1 443 80",
        "TCP4 192.0.2.07 10.0.0.1 443 80",
        "TCP4 ::1 ::1 443 80",
        "TCP6 192.0.2.7 10.0.0.1 443 80",
        "TCP6 fe80::1%eth0 ::1 443 80",
        "UDP4 192.0.2.7 10.0.0.1 443 80",
        "tcp4 192.0.2.7 10.0.0.1 443 80",
        "UNKNOWNX",
        "",
        "TCP4 192.0.2.7 10.0.0.1 443 80\n",
    ] {
        refused(format!("PROXY {line}\r\n").as_bytes());
    }
    refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE)).as_bytes());
    refused(b"PROXY TCP4 \xff\xfe 10.0.0.1 443 80\r\n");
    refused(&v2(0x22, 0x11, &v4_body()));
    refused(&v2(0x11, 0x11, &v4_body()));
    refused(&v2(0x31, 0x11, &v4_body()));
    for family in [0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0x32, 0xff] {
        refused(&v2(0x21, family, &v6_body()));
    }
    refused(&v2(0x21, 0x11, &v4_body()[..11]));
    refused(&v2(0x21, 0x21, &v4_body()));
    refused(&v2(0x21, 0x11, &[&v4_body()[..], &[4]].concat()));
    refused(&v2(0x21, 0x11, &[&v4_body()[..], &[4, 0, 2, 1]].concat()));
    refused(&v2(0x21, 0x11, &vec![0; LONGEST + 1]));
}

#[test]
fn a_line_as_long_as_it_may_be_is_read() {
    let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {long} {long} 65535 65535\r\n");
    assert_eq!(line.len(), LINE - 3, "a line of UNKNOWN is three longer");
    says(line.as_bytes(), client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", 65535));
    let most = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE - 16));
    assert_eq!(most.len(), LINE);
    says(most.as_bytes(), ProxyHeader::Local);
}

#[test]
fn a_header_that_is_cut_off_is_refused_wherever() {
    for whole in [b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n".to_vec(), v2(0x21, 0x21, &v6_body())] {
        let (outcome, _) = spoken(b"");
        assert!(matches!(outcome, Err(HeaderError::Silent)), "{outcome:?}");
        for end in 1..whole.len() {
            let (outcome, _) = spoken(&whole[..end]);
            assert!(matches!(outcome, Err(HeaderError::Cut(_))), "{end}: {outcome:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = spoken(&bytes);
        let _ = spoken(&[&V1[..], &bytes].concat());
        let _ = spoken(&[&V2[..], &bytes].concat());
    }

    #[test]
    fn an_address_is_read_as_it_was_written(address in any::<SocketAddr>(), to in any::<u16>()) {
        // A scope is not said in a header.
        let address = SocketAddr::new(address.ip(), address.port());
        let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
        let ip = address.ip();
        let line = format!("PROXY {family} {ip} {ip} {} {to}\r\n", address.port());
        let expected = SocketAddr::new(ip.to_canonical(), address.port());
        prop_assert_eq!(spoken(line.as_bytes()).0.unwrap(), ProxyHeader::For(expected, to));
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [address.port().to_be_bytes(), to.to_be_bytes()].concat();
        let body = [octets.clone(), octets, ports].concat();
        let family = if address.is_ipv4() { 0x11 } else { 0x21 };
        prop_assert_eq!(spoken(&v2(0x21, family, &body)).0.unwrap(), ProxyHeader::For(expected, to));
    }
}
