//! The tables `tls` and `proxy_protocol`, as far as no certificate is needed to be wrong.

use crate::support::{Place, SMALLEST};

/// `keys` stand in a listener of their own.
#[track_caller]
fn listener(keys: &str, code: i32, said: &[&str]) {
    let file = format!("{SMALLEST}[listeners.b]\naddress = \"127.0.0.1:0\"\n{keys}\n");
    check(file, code, said);
}

#[track_caller]
fn backend(keys: &str, code: i32, said: &[&str]) {
    check(format!("{SMALLEST}{keys}\n"), code, said);
}

#[track_caller]
fn check(file: String, code: i32, said: &[&str]) {
    let output = Place::with(file).check();
    assert_eq!(output.code, code, "{}", output.stderr);
    for part in said {
        assert!(output.stderr.contains(part), "no {part:?} in\n{}", output.stderr);
    }
    assert!(!said.is_empty() || output.stderr.is_empty(), "{}", output.stderr);
}

#[test]
fn a_certificate_and_its_key_belong_together() {
    let half = "a certificate and its key belong together";
    listener("tls.certificate = \"/c\"", 78, &[half, "`listeners.b.tls.key` is missing"]);
    listener("tls.key = \"/k\"", 78, &[half, "`listeners.b.tls.certificate` is missing"]);
    backend("tls = { certificate = \"/c\" }", 78, &[half, "`backends.up01.tls.key` is missing"]);
}

#[test]
fn tls_without_a_certificate_is_never_plain() {
    let none = "`listeners.b` has no certificate";
    listener("tls = {}", 78, &[none, "add certificate ="]);
    listener("tls = { client_auth = \"off\" }", 78, &[none]);
    listener("tls = { certificates = [] }", 78, &[none]);
    listener("tls = true", 78, &["`listeners.b.tls` must be a table"]);
    listener("tls = { certficate = \"/c\" }", 78, &["did you mean `certificate`?"]);
}

#[test]
fn clients_are_asked_for_certificates_of_somebody() {
    let pair = "tls.certificate = \"/c\"\ntls.key = \"/k\"\n";
    let auth = |word: &str| format!("{pair}tls.client_auth = \"{word}\"");
    listener(&auth("required"), 78, &["needs `client_ca`"]);
    listener(&auth("optional"), 78, &["must be \"off\" or \"required\""]);
}

#[test]
fn sessions_are_bound_to_certificates_that_every_client_has() {
    let needs = "`sessions.bind = \"certificate\"` needs `listeners.public.tls.client_auth";
    let file = format!("{SMALLEST}[sessions]\nbind = \"certificate\"\n");
    check(file.clone(), 78, &[needs, "gw.toml:", "show no certificate", "write bind = \"none\""]);
    let off = "tls = { certificate = \"/c\", key = \"/k\", client_auth = \"off\" }\n";
    let other = format!("{file}[listeners.b]\naddress = \"127.0.0.1:0\"\n{off}");
    check(other, 78, &[needs, "needs `listeners.b.tls.client_auth = \"required\"`"]);
    check(file.replace("certificate", "user"), 78, &["\"none\" or \"certificate\""]);
}

#[test]
fn lists_of_certificates_hold_pairs() {
    let no = "has an element that is no certificate with its key";
    listener("tls.certificates = [\"/c\"]", 78, &[no, "not a table"]);
    listener("tls.certificates = [{ certificate = \"/c\" }]", 78, &[no, "no `key` here"]);
    let odd = "tls.certificates = [{ certificate = \"/c\", key = \"/k\", name = \"n\" }]";
    listener(odd, 78, &[no, "there is no `name` here"]);
    listener("tls.certificates = [{ certificate = \"\", key = \"/k\" }]", 78, &[no]);
    listener("tls.certificates = \"/c\"", 78, &["must be a list of certificates"]);
}

#[test]
fn trusted_proxies_are_networks() {
    let proxies = |list: &str| format!("proxy_protocol = {{ trusted = {list} }}");
    listener(&proxies("[\"10.0.0.0/8\", \"::1\", \"192.0.2.7\"]"), 0, &[]);
    let no = "has an element that is no IP address and no network";
    for wrong in ["10.0.0.1/8", "10.0.0.0/33", "balancer", ""] {
        listener(&proxies(&format!("[\"{wrong}\"]")), 78, &[no]);
    }
    listener(&proxies("[]"), 78, &["is empty"]);
    listener(&proxies("\"10.0.0.0/8\""), 78, &["a list: [\"10.0.0.0/8\"]"]);
    let nobody = "`listeners.b.proxy_protocol.trusted` is missing";
    listener("proxy_protocol = {}", 78, &[nobody]);
    listener("proxy_protocol.required = false", 78, &[nobody]);
}

#[test]
fn files_that_are_not_there_are_told_from_mistakes() {
    let pair = "tls.certificate = \"/no/such.pem\"\ntls.key = \"/no/key.pem\"";
    listener(pair, 74, &["cannot read /no/such.pem", "put a PEM file at"]);
    backend("tls = { ca = \"/no/ca.pem\" }", 74, &["cannot read /no/ca.pem"]);
    backend("tls = { ca = \"/dev/null\" }", 78, &["/dev/null is not a file"]);
    let other =
        "[listeners.c]\naddress = \"127.0.0.1:9\"\ntls = { certificate = \"/\", key = \"/\" }";
    listener(&format!("{pair}\n{other}"), 78, &["/no/such.pem", "/ is not a file"]);
}

#[test]
fn a_backend_that_is_not_verified_is_pointed_out() {
    let said = "nobody knows whether `backends.up01` is who it says";
    backend("tls = { verify = \"off\" }", 0, &[said]);
}

#[test]
fn an_empty_table_survives_a_dump() {
    let place = Place::with(format!("{SMALLEST}tls = {{ name = \"up01.test\" }}\n"));
    let dump = place.run(&["config", "dump", "--config", "gw.toml"]);
    assert!(dump.stdout.contains("tls.verify = \"name\""), "{}", dump.stdout);
}
