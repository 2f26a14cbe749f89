//! One mistake of every kind: where it is shown, and what is said to be right.

use crate::support::{Place, SMALLEST, assert_text};

/// The file has the one mistake: at `at` (line:column), with `said` in the picture.
#[track_caller]
fn refused(file: &str, at: &str, said: &[&str]) {
    let output = Place::with(file).check();
    assert_eq!(output.code, 78, "{}", output.stderr);
    assert_eq!(output.stdout, "");
    let at = if at.is_empty() { "--> gw.toml\n".into() } else { format!("--> gw.toml:{at}\n") };
    for part in said.iter().copied().chain([at.as_str(), "cannot be used: 1 error"]) {
        assert!(output.stderr.contains(part), "no {part:?} in\n{}", output.stderr);
    }
}

/// `more` follows on [`SMALLEST`], which has five lines.
#[track_caller]
fn added(more: &str, at: &str, said: &[&str]) {
    refused(&format!("{SMALLEST}{more}"), at, said);
}

#[test]
fn a_mistake_is_shown_as_rustc_shows_it() {
    let output = Place::with(format!("{SMALLEST}weight = 0\n")).check();
    assert_text(
        &output.stderr,
        r#"
error: `backends.up01.weight` is too small
 --> gw.toml:6:10
  |
6 | weight = 0
  |          ^ less than 1
  |
  = help: from 1 to 1000

error: gw.toml cannot be used: 1 error
"#,
    );
}

#[test]
fn all_mistakes_are_shown_at_once_from_top_to_bottom() {
    let file = r#"
[listeners.public]
adress = "127.0.0.1:0"

[affinity]
host_id = "backends"
fallback_timeout = 900

[[backends]]
name = "up01"
address = "10.0.0.11"

[[backends]]
name = "UP01"
address = "10.0.0.12:80"
wieght = 2
max_connections = 10

[stores]
"#;
    let output = Place::with(file).run_with(
        &["check", "--portable", "--config", "gw.toml"],
        &[("BITSGW__LOG__LEVEL", "loud")],
    );
    assert_eq!(output.code, 78);
    let messages: Vec<&str> =
        output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(
        messages,
        [
            "error: there is no key `listeners.public.adress`",
            "error: `affinity.host_id` must be \"backend\", \"gateway\", \"direct\" or \"none\"",
            "error: `affinity.fallback_timeout` must be a duration",
            "error: `backends.up01.address` must be a host and a port",
            "error: two backends are named \"UP01\"",
            "error: there is no key `backends.UP01.wieght`",
            "error: `backends.UP01.max_connections` is not supported by this version",
            "error: there is no section [stores]",
            "error: `log.level` must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            "error: gw.toml cannot be used: 9 errors",
        ]
    );
}

#[test]
fn a_syntax_error_gets_the_same_picture() {
    let output =
        Place::with("[listeners.public\n[log]\nlevel = \nformat = 1\nformat = 2\n").check();
    assert_eq!(output.code, 78);
    assert_text(
        &output.stderr,
        r#"
error: this is not TOML
 --> gw.toml:1:18
  |
1 | [listeners.public
  |                  ^ unclosed table, expected `]`

error: this is not TOML
 --> gw.toml:3:9
  |
3 | level = 
  |         ^ string values must be quoted, expected literal string

error: this is not TOML
 --> gw.toml:5:1
  |
5 | format = 2
  | ^^^^^^ duplicate key

error: gw.toml cannot be used: 3 errors
"#,
    );
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    added("[affinty]\n", "6:2", &["no section [affinty]", "did you mean [affinity]?"]);
    added("[[backend]]\nname = \"b\"\naddress = \"b:1\"\n", "6:3", &["did you mean [[backends]]?"]);
    added("[banana]\n", "6:2", &["there is no section [banana]"]);
    added("[affinity]\nhostid = \"none\"\n", "7:1", &["did you mean `host_id`?"]);
    added("[affinity]\nbanana = 1\n", "7:1", &["[affinity] has `host_id`, `host_id_domain`"]);
    added("wieght = 2\n", "6:1", &["did you mean `weight`?"]);
    added("banana = 2\n", "6:1", &["[[backends]] has `name`, `address`"]);
    added("[listeners.b]\nadress = \"127.0.0.1:0\"\n", "7:1", &["did you mean `address`?"]);
    added("[affinity.inner]\nx = 1\n", "6:11", &["there is no key `affinity.inner`"]);
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    added("[sessions]\nfallback_timeout = \"1h\"\n", "7:1", &["belongs in [affinity]"]);
    added("fallback_timeout = \"1h\"\n", "6:1", &["belongs in [affinity]"]);
    refused(&format!("weight = 1\n{SMALLEST}"), "1:1", &["outside of sections", "[[backends]]"]);
}

#[test]
fn keys_of_a_table_within_a_backend_are_checked_like_others() {
    added("health = { kind = \"tpc\" }\n", "6:19", &["`backends.up01.health.kind`", "\"tcp\"?"]);
    added("health = { intervall = \"5s\" }\n", "6:12", &["did you mean `interval`?"]);
    added("health = { banana = 1 }\n", "6:12", &["`health` of [[backends]] has `kind`, `path`"]);
    added("health = { slow_start = \"5s\" }\n", "6:12", &["belongs in [health]"]);
    added("health = \"tcp\"\n", "6:10", &["must be a table", "health = { kind = \"bits-ping\" }"]);
    added("health.rise = 0\n", "6:15", &["`backends.up01.health.rise` is too small"]);
    added("\"health.rise\" = 1\n", "6:1", &["there is no key `backends.up01.health.rise`"]);
    added("interval = \"5s\"\n", "6:1", &["belongs in `health` of [[backends]] or [health]"]);
    added("[health]\npath = \"alive\"\n", "7:8", &["must be the path of a URL", "no slash"]);
    added("[health]\npath = \"http://up/\"\n", "7:8", &["this is a whole URL"]);
    added("[health]\npath = \"/a b\"\n", "7:8", &["in their %-form"]);
}

#[test]
fn keys_of_later_versions_are_called_that() {
    let later = "is not supported by this version";
    added("max_connections = 10\n", "6:1", &["`backends.up01.max_connections`", later]);
    added("[failover]\nreplay = true\n", "7:1", &[later]);
    added(
        "[store]\nkind = \"redis\"\n",
        "7:8",
        &["cannot be \"redis\" yet", "not supported by this version"],
    );
}

#[test]
fn unknown_values_are_refused_with_what_was_meant() {
    added("[affinity]\nhost_id = \"gatway\"\n", "7:11", &["did you mean \"gateway\"?"]);
    added("[sessions]\nid = \"mint\"\n", "7:6", &["did you mean \"minted\"?"]);
    added("[placement]\npolicy = \"roundrobin\"\n", "7:10", &["did you mean \"round-robin\"?"]);
    added("[log]\naccess = \"stdot\"\n", "7:10", &["did you mean \"stdout\"?"]);
    added("[ops]\naddress = false\n", "7:11", &["to turn it off: \"off\""]);
    added("[sessions]\nunknown = \"aks\"\n", "7:11", &["did you mean \"ask\"?"]);
    added("[sessions]\nask_rate = 0\n", "7:12", &[]);
    added("[placement]\npolicy = \"least-bytes\"\n", "7:10", &["\"least-bytes-left\""]);
}

#[test]
fn types_and_bounds_are_checked() {
    added("[affinity]\nfallback_timeout = 900\n", "7:20", &["a duration has a unit: \"900s\""]);
    added("[affinity]\nfallback_timeout = \"0s\"\n", "7:20", &["less than 1s"]);
    added("[affinity]\nfallback_timeout = \"1500ms\"\n", "7:20", &["must be whole seconds"]);
    added("[affinity]\nfallback_timeout = \"200y\"\n", "7:20", &["more than 4294967295s"]);
    added("[timeouts]\nclient_idle = \"0s\"\n", "7:15", &["less than 1s"]);
    added("[timeouts]\nconnect = \"25h\"\n", "7:11", &["more than 1d"]);
    added("[limits]\nhead = \"1GiB\"\n", "7:8", &["more than 512KiB"]);
    added("[limits]\nconnections = \"many\"\n", "7:15", &["must be a whole number"]);
    added("[http]\nhosts = \"a.test\"\n", "7:9", &["a list: [\"a.test\"]"]);
    added("[http]\nhosts = [\"a.test\", \"b:80\"]\n", "7:20", &["this has a port"]);
    added("[http]\nmethod_override = \"true\"\n", "7:19", &["without quotes: true"]);
    added("weight = 0\n", "6:10", &["from 1 to 1000"]);
    added("weight = 1001\n", "6:10", &["from 1 to 1000"]);
    added("weight = 1.5\n", "6:10", &["a number with a point"]);
    added("weight = 99999999999999999999999999999999999999999\n", "6:10", &["beyond all bounds"]);
}

#[test]
fn sections_are_written_in_their_own_form() {
    let backend = "[[backends]]\nname = \"a\"\naddress = \"a:1\"\n";
    let listener = "[listeners.public]\naddress = \"127.0.0.1:0\"\n";
    refused(&format!("[[listeners]]\n{backend}"), "1:1", &["is written [listeners.NAME]"]);
    refused(
        &format!("[listeners]\naddress = \"127.0.0.1:0\"\n{backend}"),
        "2:1",
        &["write [listeners.public] above it"],
    );
    refused(&format!("[listeners]\na = 1\n{backend}"), "2:1", &["`listeners.a` must be a table"]);
    refused(&format!("{listener}[backends.a]\n"), "3:2", &["is written [[backends]]"]);
    refused(&format!("backends = [1]\n{listener}"), "1:13", &["is written [[backends]]"]);
    added("[[affinity]]\n", "6:1", &["is written [affinity]"]);
}

#[test]
fn a_listener_and_a_backend_are_needed() {
    refused("[listeners.a]\naddress = \"127.0.0.1:0\"\n", "", &["there is no backend"]);
    refused("[[backends]]\nname = \"a\"\naddress = \"a:1\"\n", "", &["there is no listener"]);
    refused(
        "backends = []\n[listeners.a]\naddress = \"127.0.0.1:0\"\n",
        "",
        &["there is no backend", "add [[backends]]"],
    );
    let output = Place::with("").check();
    assert!(output.stderr.contains("cannot be used: 2 errors"), "{}", output.stderr);
}

#[test]
fn a_listener_needs_an_address_of_its_own() {
    added("[listeners.b]\n", "6:12", &["`listeners.b.address` is missing"]);
    let two = "[listeners.b]\naddress = \"127.0.0.1:9000\"\n[listeners.c]\naddress = \"127.0.0.1:9000\"\n";
    added(two, "9:11", &["two listeners have the address 127.0.0.1:9000", "here first"]);
    let ops = "[listeners.b]\naddress = \"127.0.0.1:9000\"\n[ops]\naddress = \"127.0.0.1:9000\"\n";
    added(ops, "9:11", &["two listeners have the address"]);
    let default = "[listeners.b]\naddress = \"127.0.0.1:9080\"\n";
    added(default, "7:11", &["is also `ops.address` by default"]);
    let legal = "[listeners.b]\naddress = \"127.0.0.1:0\"\n[ops]\naddress = \"127.0.0.1:0\"\n";
    assert_eq!(Place::with(format!("{SMALLEST}{legal}")).check().code, 0);
}

#[test]
fn names_of_listeners_are_plain() {
    added("[listeners.ops]\naddress = \"127.0.0.1:0\"\n", "6:12", &["cannot be named `ops`"]);
    added("[listeners.\"a b\"]\naddress = \"127.0.0.1:0\"\n", "6:12", &["\"a b\" is no name"]);
    added("[listeners.\"\"]\naddress = \"127.0.0.1:0\"\n", "6:12", &["is no name"]);
}

#[test]
fn backends_are_told_apart() {
    added("[[backends]]\naddress = \"b:1\"\n", "6:1", &["`backends[1].name` is missing"]);
    added("[[backends]]\nname = \"b\"\n", "6:1", &["`backends.b.address` is missing"]);
    added("[[backends]]\nname = \"a b\"\naddress = \"b:1\"\n", "7:8", &["` ` cannot be in a name"]);
    added(
        "[[backends]]\nname = \"Up01\"\naddress = \"b:1\"\n",
        "7:8",
        &["two backends are named \"Up01\"", "4 | name = \"up01\"", "here first"],
    );
}

#[test]
fn addresses_of_backends_are_host_and_port() {
    let file = |address: &str| SMALLEST.replace("10.0.0.11:80", address);
    refused(&file("10.0.0.11"), "5:11", &["\"10.0.0.11:80\""]);
    refused(&file("http://up01/bits"), "5:11", &["this has a scheme", "\"up01:80\""]);
    refused(&file("up01:0"), "5:11", &["a port is 1 to 65535"]);
}

#[test]
fn a_host_id_stands_for_one_backend_alone() {
    let second = "[[backends]]\nname = \"up02\"\naddress = \"10.0.0.12:80\"\n";
    added(
        &format!("host_id = \"a.test\"\n{second}host_id = \"A.TEST.\"\n"),
        "10:11",
        &["the host id \"A.TEST.\" stands for two backends", "6 | host_id = \"a.test\""],
    );
    added(
        &format!("host_id = \"up02.up.test\"\n{second}[affinity]\nhost_id_domain = \"up.test\"\n"),
        "8:8",
        &["the host id \"up02.up.test\" stands for two backends"],
    );
    added(
        "host_id = \"a.test\"\n[http]\nhosts = [\"b.test\", \"A.test\"]\n",
        "6:11",
        &["is also in `http.hosts`"],
    );
    added(
        "[affinity]\nhost_id_domain = \"test\"\ngateway_name = \"up01.test\"\n",
        "4:8",
        &["the host id \"up01.test\" is also the `gateway_name`"],
    );
}

#[test]
fn host_ids_are_hosts() {
    added("host_id = \"up.test:80\"\n", "6:11", &["this has a port", "\"up.test\""]);
    added("host_id = \"http://up.test\"\n", "6:11", &["this has a scheme", "\"up.test\""]);
    added("host_id = \"up.test/x\"\n", "6:11", &["this has a path"]);
    added(&format!("host_id = \"{}\"\n", "a".repeat(301)), "6:11", &["300 is the limit"]);
    added("[affinity]\nhost_id_domain = \"[::1]\"\n", "4:8", &["\"up01.[::1]\"", "no host name"]);
    let long = format!("[affinity]\nhost_id_domain = \"{}\"\n", "a".repeat(298));
    added(&long, "4:8", &["303 characters, and 300 is the limit", "derived from this"]);
    let output = Place::with(format!("{SMALLEST}host_id = \"[::1]\"\n")).check();
    assert_eq!(output.code, 0, "an IPv6 address is a host: {}", output.stderr);
}

#[test]
fn a_mode_needs_its_names() {
    added("[affinity]\nhost_id = \"backend\"\n", "4:8", &["`backends.up01` has no host id"]);
    added(
        "[[backends]]\nname = \"up02\"\naddress = \"b:1\"\nhost_id = \"b.test\"\n",
        "4:8",
        &["`backends.up01` has no host id"],
    );
    added("[affinity]\nhost_id = \"gateway\"\n", "7:11", &["gateway_name = \"gw1.example.com\""]);
    added("[affinity]\nhost_id = \"direct\"\n", "4:8", &["`backends.up01` has no public name"]);
    added(
        "public_name = \"p.test\"\n[[backends]]\nname = \"b\"\naddress = \"b:1\"\n\
         public_name = \"P.test\"\n[affinity]\nhost_id = \"direct\"\n",
        "10:15",
        &["two backends have the public name \"P.test\""],
    );
}

#[test]
fn limits_and_timeouts_keep_their_order() {
    added("[limits]\nhead = \"4KiB\"\n", "7:8", &["`line` is 8KiB by default"]);
    added(
        "[timeouts]\nclient_body = \"310s\"\n",
        "7:15",
        &["must be longer than", "`client_body` is 310s, and `answer_long` is 310s by default"],
    );
    added(
        "[timeouts]\nanswer_long = \"300s\"\nclient_body = \"301s\"\n",
        "7:15",
        &["8 | client_body = \"301s\"", "taken for a dead backend"],
    );
}

#[test]
fn a_broken_value_is_not_judged_twice() {
    // Whether `answer_long` is above it cannot be known.
    added("[timeouts]\nclient_body = \"banana\"\n", "7:15", &["is not a duration"]);
    // Nor whether this backend has a host id.
    added("[affinity]\nhost_id_domain = \"a/b\"\n", "7:18", &["this has a path"]);
}

#[test]
fn a_file_cannot_steer_the_terminal() {
    let file = "[[backends]]\nname = \"a\\u001b[31mb\\n\"\naddress = \"x:1\"\nweight = 0\n\
                \"\\u001b[31mq\" = 1\n[\"\\u001b[31mz\"]\n[listeners.\"\\u001b[32m\"]\n\
                address = \"\\u001b[33m\"\n[affinity]\nhost_id = \"\\u001b[34m\"\n# \u{1b}[35m\n";
    let output = Place::with(file).run_with(
        &["check", "--portable", "--config", "gw.toml"],
        &[("BITSGW__LOG__LEVEL", "\u{1b}[31m")],
    );
    assert_eq!(output.code, 78);
    assert!(!output.stderr.contains('\u{1b}'), "{:?}", output.stderr);
    let clean = file.replace("# \u{1b}[35m\n", "");
    let output = Place::with(clean).run_with(
        &["check", "--portable", "--config", "gw.toml"],
        &[("BITSGW__LOG__LEVEL", "\u{1b}[31m")],
    );
    assert!(output.stderr.contains("`backends.a\\u{1b}[31mb\\n.weight`"), "{}", output.stderr);
    assert!(!output.stderr.contains('\u{1b}'), "{:?}", output.stderr);
}

#[test]
fn ids_of_one_gateway_are_not_for_several() {
    added(
        "[sessions]\nshared_farm = true\nid = \"minted\"\n",
        "8:6",
        &["`sessions.id = \"minted\"` cannot be shared by several gateways", "leave `id`"],
    );
}

#[test]
fn a_backend_that_is_the_gateway_itself_is_found() {
    let file = |listener: &str, backend: &str| {
        format!(
            "[listeners.public]\naddress = \"{listener}\"\n\n[[backends]]\nname = \"up01\"\naddress = \"{backend}\"\n"
        )
    };
    for (listener, backend) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::1]:8080"),
    ] {
        let said = ["is this gateway itself", "leads back here", "the gateway listens here"];
        refused(&file(listener, backend), "6:11", &said);
    }
    for (listener, backend) in
        [("127.0.0.1:8080", "127.0.0.1:8081"), ("127.0.0.2:8080", "127.0.0.1:8080")]
    {
        let output = Place::with(file(listener, backend)).check();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    // Where a name leads may change.
    let output = Place::with(file("127.0.0.1:8080", "localhost:8080")).check();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("is this gateway itself"), "{}", output.stderr);
}

#[test]
fn a_file_of_another_program_is_told_by_its_name() {
    for (file, said) in [
        ("listeners:\n  public:\n    address: \"[::]:80\"\n", "this is a YAML file"),
        ("global\n  daemon\nfrontend up\n  bind :80\n", "this is a configuration of HAProxy"),
        ("http {\n  server { listen 80; }\n}\n", "this is a configuration of nginx"),
        ("{\"listeners\": {}}\n", "this is a JSON file"),
    ] {
        refused(file, "1:1", &[said, "a configuration is TOML", "schema --format example"]);
    }
}

#[test]
fn one_pair_of_brackets_is_read_as_two_were_meant() {
    let file = "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
                [backends]\nname = \"up01\"\naddress = \"10.0.0.11:80\"\nweight = 0\n";
    let output = Place::with(file).check();
    assert_eq!(output.code, 78);
    let said = &output.stderr;
    assert!(said.contains("write [[backends]] in place of [backends], for each one"), "{said}");
    assert!(said.contains("`backends.up01.weight` is too small"), "all at once: {said}");
    assert!(said.contains("cannot be used: 2 errors"), "{said}");
}

#[test]
fn an_identifier_that_is_split_elsewhere_is_recognised() {
    let domain = "[affinity]\nhost_iddomain = \"up.test\"\n";
    added(domain, "7:1", &["did you mean `host_id_domain`?"]);
}

#[test]
fn missing_files_are_told_with_the_other_mistakes() {
    let tls = "tls = { certificates = [{ certificate = \"./a.pem\", key = \"./a.key\" }, \
               { certificate = \"./b.pem\", key = \"./b.key\" }] }";
    let file = format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n{tls}\n[[backends]]\nname = \"up01\"\n\
         address = \"10.0.0.11:80\"\ntls = {{ ca = \"./ca.pem\" }}\n"
    );
    for (more, code, errors) in [("", 74, 5), ("weight = 0\n", 78, 6)] {
        let output = Place::with(format!("{file}{more}")).check();
        assert_eq!(output.code, code, "{}", output.stderr);
        for name in ["a.pem", "a.key", "b.pem", "b.key", "ca.pem"] {
            assert!(output.stderr.contains(&format!("cannot read ./{name}")), "{}", output.stderr);
        }
        let said = format!("cannot be used: {errors} errors");
        assert!(output.stderr.contains(&said), "{}", output.stderr);
    }
}

#[test]
fn a_listener_that_serves_nobody_is_a_mistake() {
    let access = "[listeners.public.access]\n";
    added(
        &format!("{access}allow = [\"10.6.0.0/16\", \"10.7.0.1\"]\ndeny = [\"10.0.0.0/8\"]\n"),
        "7:9",
        &["`listeners.public` serves no client", "are denied here", "counts before"],
    );
    added(
        &format!("{access}deny = [\"0.0.0.0/0\", \"::/0\"]\n"),
        "7:8",
        &["`listeners.public` serves no client"],
    );
    added(&format!("{access}allow = []\n"), "7:9", &["`listeners.public.access.allow` is empty"]);
}

#[test]
fn a_network_of_a_list_is_one() {
    let access = "[listeners.public.access]\n";
    let said = "`listeners.public.access.deny` has an element that is no IP address";
    added(&format!("{access}deny = [\"10.0.0.1/8\"]\n"), "7:9", &[said, "10.0.0.0/8"]);
    added(&format!("{access}deny = [\"office\"]\n"), "7:9", &[said]);
    added(&format!("{access}answer = \"404\"\n"), "7:10", &["\"close\"", "\"403\""]);
}
