use std::net::Ipv6Addr;
use std::time::Duration;

use gateway_core::routing::UnknownSession;

use super::*;
use crate::config::address::BackendAddress;
use crate::config::names::Named;
use crate::config::syntax::{self, show_duration, show_size};

const DURATION: Kind = Kind::Duration {
    min: Duration::from_secs(1),
    max: Duration::from_secs(3600),
    whole_seconds: true,
};
const SIZE: Kind = Kind::Size { min: 10, max: 1 << 30 };

fn text(text: &str) -> Given {
    Given::Text(text.to_owned())
}

#[track_caller]
fn takes(kind: &Kind, given: impl Into<Given>, expected: Value) {
    assert_eq!(kind.parse(&given.into()), Ok(expected));
}

/// `expected` is part of what is said about it.
#[track_caller]
fn refuses(kind: &Kind, given: impl Into<Given>, expected: &str) {
    let refusal = kind.parse(&given.into()).expect_err("it should be refused");
    let said = format!("{}: {}; {:?}", refusal.message, refusal.label, refusal.help);
    assert!(said.contains(expected), "{said}");
}

impl From<&str> for Given {
    fn from(value: &str) -> Self {
        text(value)
    }
}

impl From<i128> for Given {
    fn from(value: i128) -> Self {
        Given::Integer(value)
    }
}

#[test]
fn durations_need_a_unit_and_keep_their_bounds() {
    takes(&DURATION, "90s", Value::Duration(Duration::from_secs(90)));
    takes(&DURATION, "1h", Value::Duration(Duration::from_secs(3600)));
    takes(&DURATION, "1m 30s", Value::Duration(Duration::from_secs(90)));
    refuses(&DURATION, "90", "\\\"90s\\\"");
    refuses(&DURATION, 90, "a duration has a unit: \\\"90s\\\"");
    refuses(&DURATION, "", "not understood");
    refuses(&DURATION, "-1s", "not understood");
    refuses(&DURATION, "soon", "not understood");
    refuses(&DURATION, "99999999999999999999d", "not understood");
    refuses(&DURATION, "0s", "less than 1s");
    refuses(&DURATION, "2h", "more than 1h");
    refuses(&DURATION, "1500ms", "must be whole seconds");
    refuses(&DURATION, Given::Bool(true), "this is true or false");
}

#[test]
fn sizes_come_with_a_unit_or_as_bytes() {
    takes(&SIZE, "64MiB", Value::Size(64 << 20));
    takes(&SIZE, "64MB", Value::Size(64_000_000));
    takes(&SIZE, "1.5 KiB", Value::Size(1536));
    takes(&SIZE, "4096", Value::Size(4096));
    takes(&SIZE, 4096, Value::Size(4096));
    refuses(&SIZE, "64 bananas", "not understood");
    refuses(&SIZE, "", "not understood");
    refuses(&SIZE, "-1", "not understood");
    refuses(&SIZE, -1, "less than 10B");
    refuses(&SIZE, "2GiB", "more than 1GiB");
    refuses(&SIZE, "99999999999999999999GiB", "more than 1GiB");
}

#[test]
fn what_is_shown_is_read_back() {
    for nanos in [0, 1, 1_000, 1_500_000, 310_000_000_000, 60_000_000_000, 1_209_600_000_000_000] {
        let duration = Duration::from_nanos(nanos);
        let shown = show_duration(duration);
        assert_eq!(syntax::duration(&shown, Duration::ZERO, Duration::MAX, false), Ok(duration));
    }
    for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, u64::MAX] {
        assert_eq!(syntax::size(&show_size(bytes)), Ok(bytes));
    }
    assert_eq!(show_duration(Duration::from_secs(14 * 86_400)), "14d");
    assert_eq!(show_duration(Duration::from_secs(60)), "60s");
    assert_eq!(show_duration(Duration::from_secs(900)), "15m");
    assert_eq!(show_size(64 << 20), "64MiB");
}

#[test]
fn a_host_is_neither_url_nor_address_with_port() {
    for name in ["up01.example.com", "UP_01", "10.0.0.1", "[::1]", "a.", "xn--bcher-kva.example"] {
        takes(&Kind::Host, name, Value::Text(Cow::Owned(name.to_owned())));
    }
    refuses(&Kind::Host, "", "empty");
    refuses(&Kind::Host, "http://up.test/x", "the host alone: \\\"up.test\\\"");
    refuses(&Kind::Host, "up.test:80", "the host alone: \\\"up.test\\\"");
    refuses(&Kind::Host, "up.test/x", "the host alone: \\\"up.test\\\"");
    refuses(&Kind::Host, "[::1]:80", "the host alone: \\\"[::1]\\\"");
    refuses(&Kind::Host, "::1", "[::1]");
    refuses(&Kind::Host, "user@up.test", "make a host name");
    refuses(&Kind::Host, "up test", "make a host name");
    refuses(&Kind::Host, "up..test", "make a host name");
    refuses(&Kind::Host, "up.test\r\nX: y", "make a host name");
    refuses(&Kind::Host, "*.up.test", "wildcards");
    refuses(&Kind::Host, "bücher.example", "xn--");
    refuses(&Kind::Host, &*"a".repeat(301), "300 is the limit");
    takes(&Kind::Host, &*"a".repeat(300), Value::Text(Cow::Owned("a".repeat(300))));
}

#[test]
fn a_list_of_hosts_says_which_one_is_wrong() {
    let list = |names: &[&str]| {
        Given::List(names.iter().enumerate().map(|(at, name)| (at..at + 1, text(name))).collect())
    };
    takes(&Kind::Hosts, list(&[]), Value::Texts(vec![]));
    takes(&Kind::Hosts, list(&["a", "b"]), Value::Texts(vec!["a".into(), "b".into()]));
    let refusal = Kind::Hosts.parse(&list(&["a", "b:1"])).unwrap_err();
    assert_eq!(refusal.span, Some(1..2));
    refuses(&Kind::Hosts, "a", "a list: [\\\"a\\\"]");
    let mixed = Given::List(vec![(0..1, Given::Integer(1))]);
    refuses(&Kind::Hosts, mixed, "this is a number");
}

#[test]
fn a_list_of_methods_has_what_may_pass_beside_packets() {
    let list = |names: &[&str]| {
        Given::List(names.iter().enumerate().map(|(at, name)| (at..at + 1, text(name))).collect())
    };
    takes(&Kind::Methods, list(&[]), Value::Texts(vec![]));
    takes(&Kind::Methods, list(&["GET", "X-Y"]), Value::Texts(vec!["GET".into(), "X-Y".into()]));
    refuses(&Kind::Methods, list(&["GET", "get"]), "\\\"GET\\\"");
    refuses(&Kind::Methods, list(&["BITS_POST"]), "packets always pass");
    refuses(&Kind::Methods, list(&["CONNECT"]), "never served");
    refuses(&Kind::Methods, list(&["A B"]), "such as GET");
    refuses(&Kind::Methods, list(&[""]), "such as GET");
    refuses(&Kind::Methods, "GET", "a list: [\\\"GET\\\"]");
    refuses(&Kind::Methods, Given::List(vec![(0..1, Given::Integer(1))]), "this is a number");
}

#[test]
fn a_backend_address_is_host_and_port() {
    let address = |host: &str, port| Value::HostPort(BackendAddress { host: host.into(), port });
    takes(&Kind::HostPort, "10.0.0.11:80", address("10.0.0.11", 80));
    takes(&Kind::HostPort, "up01.internal:8080", address("up01.internal", 8080));
    takes(&Kind::HostPort, "[::1]:80", address("[::1]", 80));
    refuses(&Kind::HostPort, "up01", "\\\"up01:80\\\"");
    refuses(&Kind::HostPort, "::1", "\\\"[::1]:80\\\"");
    refuses(&Kind::HostPort, "[::1]", "the port is missing");
    refuses(&Kind::HostPort, "up01:0", "a port is 1 to 65535");
    refuses(&Kind::HostPort, "up01:65536", "not host:port");
    refuses(&Kind::HostPort, "up01:http", "not host:port");
    refuses(&Kind::HostPort, "", "not host:port");
    refuses(&Kind::HostPort, "http://up01/bits", "\\\"up01:80\\\"");
    refuses(&Kind::HostPort, "http://[::1]:81/", "\\\"[::1]:81\\\"");
    refuses(&Kind::HostPort, "https://up01", "\\\"up01:443\\\", and tls = {}");
    refuses(&Kind::HostPort, "up01:80/bits", "\\\"up01:80\\\"");
    refuses(&Kind::HostPort, 80, "must be a host and a port");
}

#[test]
fn a_listener_needs_an_address_and_no_name() {
    takes(&Kind::Socket, "[::]:8080", Value::Socket((Ipv6Addr::UNSPECIFIED, 8080).into()));
    takes(&Kind::Socket, "127.0.0.1:0", Value::Socket(([127, 0, 0, 1], 0).into()));
    refuses(&Kind::Socket, ":8080", "\\\"[::]:8080\\\"");
    refuses(&Kind::Socket, "*:8080", "\\\"[::]:8080\\\"");
    refuses(&Kind::Socket, "8080", "\\\"[::]:8080\\\"");
    refuses(&Kind::Socket, 8080, "\\\"[::]:8080\\\"");
    refuses(&Kind::Socket, "localhost:8080", "\\\"127.0.0.1:8080\\\"");
    refuses(&Kind::Socket, "gw.test:8080", "names are not resolved here");
    refuses(&Kind::Socket, "10.0.0.1", "\\\"10.0.0.1:8080\\\"");
    refuses(&Kind::Socket, "::1", "\\\"[::1]:8080\\\"");
    refuses(&Kind::Socket, "10.0.0.1:99999", "must be an IP address and a port");
    refuses(&Kind::Socket, "", "not address:port");
}

#[test]
fn a_backend_name_fits_a_host_name() {
    takes(&Kind::Name, "up-01_a.b", Value::Text("up-01_a.b".into()));
    refuses(&Kind::Name, "", "1 to 63");
    refuses(&Kind::Name, &*"a".repeat(64), "1 to 63");
    refuses(&Kind::Name, "-up", "starts with a letter or a digit");
    refuses(&Kind::Name, "up 01", "` ` cannot be in a name");
    refuses(&Kind::Name, "up\n", "`\\n` cannot be in a name");
}

#[test]
fn a_word_is_one_of_a_few() {
    let unknown = Kind::Word { choices: UnknownSession::CHOICES, later: &["guess"] };
    takes(&unknown, "wait", Value::Word("wait"));
    refuses(&unknown, "guess", "write \\\"ask\\\", \\\"restart\\\" or \\\"wait\\\"");
    refuses(&unknown, "guess", "not supported by this version");
    refuses(&unknown, "restrat", "did you mean \\\"restart\\\"?");
    refuses(&unknown, "Wait", "did you mean \\\"wait\\\"?");
    refuses(&unknown, "banana", "must be \"ask\", \"restart\" or \"wait\"");
    refuses(&unknown, 1, "this is a number");
}

#[test]
fn a_word_can_stand_in_for_a_value() {
    const OFF: &[Choice] = &[Choice { name: "off", about: "" }];
    const LIMIT: Kind = Kind::WordOr(OFF, &SIZE);
    const ACCESS: Kind = Kind::WordOr(OFF, &Kind::Path);
    takes(&LIMIT, "off", Value::Word("off"));
    takes(&LIMIT, "1KiB", Value::Size(1024));
    refuses(&LIMIT, "of", "did you mean \\\"off\\\"?");
    refuses(&LIMIT, Given::Bool(false), "to turn it off: \\\"off\\\"");
    refuses(&LIMIT, "1B", "less than 10B");
    takes(&ACCESS, "/var/log/x", Value::Path("/var/log/x".into()));
    takes(&ACCESS, "./x", Value::Path("./x".into()));
    refuses(&ACCESS, "oof", "did you mean \\\"off\\\"?");
    refuses(&ACCESS, "access.log", "\\\"./access.log\\\"");
    refuses(&ACCESS, "", "a path has a slash");
}

#[test]
fn a_path_needs_a_slash_only_where_a_word_may_stand() {
    for path in ["cert.pem", "./cert.pem", "/etc/cert.pem", "a b"] {
        takes(&Kind::Path, path, Value::Path(path.into()));
    }
    refuses(&Kind::Path, "", "this is empty");
    refuses(&Kind::Path, "a\0b", "no file has a NUL in its name");
}

#[test]
fn numbers_and_switches_are_written_without_quotes() {
    let number = Kind::Integer { min: 1, max: 1000 };
    takes(&number, 1000, Value::Integer(1000));
    refuses(&number, 0, "less than 1");
    refuses(&number, i128::MAX, "more than 1000");
    refuses(&number, i128::MIN, "less than 1");
    refuses(&number, "5", "without quotes: 5");
    refuses(&number, Given::Other("a number with a point"), "this is a number with a point");
    takes(&Kind::Bool, Given::Bool(true), Value::Bool(true));
    refuses(&Kind::Bool, "true", "without quotes: true");
    refuses(&Kind::Bool, 1, "must be true or false");
}

#[test]
fn values_are_written_as_toml_reads_them() {
    assert_eq!(Value::Integer(1_000_000).to_toml(), "1_000_000");
    assert_eq!(Value::Integer(20_000).to_toml(), "20_000");
    assert_eq!(Value::Integer(1000).to_toml(), "1000");
    assert_eq!(Value::Path("/a \"b\"\\c".into()).to_toml(), r#""/a \"b\"\\c""#);
    assert_eq!(Value::Texts(vec!["a".into(), "b".into()]).to_toml(), r#"["a", "b"]"#);
}
