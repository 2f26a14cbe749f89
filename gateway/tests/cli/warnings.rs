//! What is legal and probably not meant.

use crate::support::{Place, SMALLEST};

/// `more` follows on [`SMALLEST`]; `check` passes and says `said`.
#[track_caller]
fn warned(more: &str, said: &[&str]) {
    let output = Place::with(format!("{SMALLEST}{more}")).check();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout.starts_with("gw.toml: 1 warning\n"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    for part in said {
        assert!(output.stderr.contains(part), "no {part:?} in\n{}", output.stderr);
    }
}

#[track_caller]
fn silent(more: &str) {
    let output = Place::with(format!("{SMALLEST}{more}")).check();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{}", output.stdout);
    assert!(output.stdout.starts_with("gw.toml: good\n"), "{}", output.stdout);
}

const SECOND: &str = "[[backends]]\nname = \"up02\"\naddress = \"10.0.0.12:80\"\n";

#[test]
fn a_plain_file_is_good() {
    silent("");
    silent(SECOND);
    silent("[affinity]\nhost_id_domain = \"up.test\"\n[http]\nhosts = [\"uploads.test\"]\n");
}

#[test]
fn a_fallback_that_comes_too_late_is_pointed_out() {
    let fallback = |value: &str| format!("[affinity]\nfallback_timeout = \"{value}\"\n");
    silent(&fallback("14d"));
    warned(&fallback("15d"), &["--> gw.toml:7:20", "longer than 14 days"]);
    // A week is fine by itself, and so is a session memory of 14 days.
    silent(&fallback("7d"));
    let output =
        Place::with(format!("{SMALLEST}{}[sessions]\nidle_timeout = \"6d\"\n", fallback("7d")))
            .check();
    assert!(output.stderr.contains("forgets a session before its client falls back"));
}

#[test]
fn probes_that_overlap_or_ask_nothing_are_pointed_out() {
    let slow = "[health]\ninterval = \"1s\"\n";
    warned(slow, &["may take longer than the interval", "--> gw.toml:7:12", "the timeout is 2s"]);
    warned("health = { timeout = \"9s\" }\n", &["--> gw.toml:6:22", "the interval is 5s"]);
    silent("[health]\ninterval = \"1s\"\ntimeout = \"1s\"\n");
    warned("[health]\npath = \"/alive\"\n", &["`health.path` does nothing", "--> gw.toml:7:8"]);
    warned("health = { host = \"up.test\" }\n", &["`backends.up01.health.host` does nothing"]);
    silent("health = { path = \"/alive\", kind = \"http\" }\n");
    silent("health = { kind = \"http\" }\n[health]\npath = \"/alive\"\n");
    silent("health = { path = \"/alive\" }\n[health]\nkind = \"bits-ping\"\n");
}

#[test]
fn a_short_memory_is_pointed_out() {
    warned("[sessions]\nidle_timeout = \"13d\"\n", &["shorter than 14 days"]);
    silent("[sessions]\nidle_timeout = \"15d\"\n");
}

#[test]
fn a_store_that_is_not_used_is_pointed_out() {
    let memory = "[store]\nkind = \"memory\"\n";
    silent(memory);
    let path = format!("{memory}path = \"/var/lib/gw\"\n");
    warned(&path, &["`store.path` has no effect", "--> gw.toml:8:8"]);
    warned(&format!("{memory}sync = \"crash\"\n"), &["`store.sync` has no effect"]);
    silent("[store]\npath = \"./new/kept\"\nsync = \"crash\"\n");
}

#[test]
fn a_place_that_cannot_be_written_is_pointed_out_and_stops_a_start() {
    let store = "[store]\npath = \"./gw.toml/kept\"\n";
    let help = "make ./gw.toml/kept a directory that belongs to the user who runs the gateway";
    let said = ["this user cannot keep sessions in ./gw.toml/kept", "--> gw.toml:7:8", help];
    warned(store, &said);
    let place = Place::with(format!("{SMALLEST}{store}[ops]\naddress = \"127.0.0.1:0\"\n"));
    let run = place.run(&["run", "--config", "gw.toml"]);
    assert!([74, 77, 78].contains(&run.code), "{}", run.stderr);
    assert!(run.stderr.contains("cannot start without its session store"), "{}", run.stderr);
}

/// The smallest file, by a user who may not write to `/var/lib`.
#[test]
fn an_unprivileged_user_is_told_how_to_go_on() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let place = Place::with(SMALLEST);
    let open = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(place.path(), open(0o755)).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    command.current_dir(place.path()).env_clear().env("BITSGW__OPS__ADDRESS", "127.0.0.1:0");
    if rustix::process::geteuid().is_root() {
        // Nobody; a machine whose build directory is closed to others cannot show more.
        command.uid(65_534).gid(65_534);
    }
    let output = match command.args(["run", "--config", "gw.toml"]).output() {
        Ok(output) => output,
        Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
    };
    assert_eq!(output.status.code(), Some(77));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "this user cannot keep sessions in /var/lib/bits-gateway",
        "the gateway cannot start without its session store",
        "name another one with `path` in [store]",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
}

#[test]
fn pings_cannot_be_routed_by_the_name_of_the_gateway() {
    let mode = "[affinity]\nhost_id = \"gateway\"\ngateway_name = \"gw.test\"\n\
                [http]\nhosts = [\"uploads.test\"]\n";
    warned(&format!("{SECOND}{mode}"), &["Pings cannot be routed", "--> gw.toml:10:11"]);
    silent(mode);
}

#[test]
fn backends_that_will_see_the_host_id_are_pointed_out() {
    let domain = "[affinity]\nhost_id_domain = \"up.test\"\n";
    warned(domain, &["backends will see the host id as `Host`", "--> gw.toml:7:18"]);
    warned("host_id = \"a.test\"\n", &["backends will see the host id", "--> gw.toml:6:11"]);
    silent(&format!("{domain}[http]\nupstream_host = \"preserve\"\n"));
    silent(&format!("{domain}[http]\nupstream_host = \"backend\"\n"));
}

#[test]
fn clients_that_leave_the_gateway_are_pointed_out() {
    let direct = "public_name = \"p.test\"\n[affinity]\nhost_id = \"direct\"\n";
    warned(direct, &["clients leave the gateway on purpose", "--> gw.toml:8:11"]);
    let output = Place::with(format!("{SMALLEST}{direct}[http]\nhosts = [\"P.test\"]\n")).check();
    assert!(output.stderr.contains("leads back to the gateway"), "{}", output.stderr);
}

#[test]
fn idle_connections_must_end_before_the_backends_end_them() {
    warned("[timeouts]\nbackend_idle = \"120s\"\n", &["IIS closes an idle connection after 120 s"]);
    silent("[timeouts]\nbackend_idle = \"119s\"\n");
}

#[test]
fn answers_need_as_long_as_applications_take() {
    warned("[timeouts]\nanswer_long = \"299s\"\n", &["shorter than 5 minutes"]);
    silent("[timeouts]\nanswer_long = \"300s\"\n");
    warned("[timeouts]\nanswer = \"311s\"\n", &["a Ping may take longer than a Fragment"]);
}

#[test]
fn a_shutdown_that_cuts_requests_is_pointed_out() {
    warned("[timeouts]\nshutdown = \"0s\"\n", &["a stop cuts every request under way"]);
    warned(
        "[timeouts]\nshutdown = \"5s\"\nshutdown_delay = \"6s\"\n",
        &["`shutdown_delay` is 6s", "`shutdown` is 5s"],
    );
}

#[test]
fn what_has_no_effect_is_pointed_out() {
    warned("public_name = \"p.test\"\n", &["`backends.up01.public_name` is not announced"]);
    warned(
        "[affinity]\ngateway_name = \"gw.test\"\n",
        &["`affinity.gateway_name` is not announced"],
    );
    warned(
        "[affinity]\nhost_id = \"none\"\nhost_id_domain = \"up.test\"\n",
        &["this is for host_id = \"backend\", and host_id is \"none\""],
    );
    warned("[placement]\nhash_key = \"client\"\n", &["does nothing", "policy = \"hash\""]);
    warned("[http]\nhosts = [\"a.test\", \"A.test.\"]\n", &["names \"A.test.\" twice"]);
}

#[test]
fn one_server_under_two_names_is_pointed_out() {
    warned(
        "[[backends]]\nname = \"up02\"\naddress = \"10.0.0.11:80\"\n",
        &["two backends have the address 10.0.0.11:80", "here first"],
    );
}

#[test]
fn a_shared_farm_that_cannot_find_or_count_its_sessions_is_pointed_out() {
    let shared = |more: &str| format!("[sessions]\nshared_farm = true\n{more}");
    silent(&shared(""));
    warned(
        &shared("unknown = \"restart\"\n"),
        &["--> gw.toml:8:11", "a session that another gateway opened is not looked for"],
    );
    warned(
        &shared("limit_per_client = 10\n"),
        &["--> gw.toml:8:20", "`sessions.limit_per_client` counts sessions that have ended"],
    );
}

#[test]
fn trust_in_everybody_is_pointed_out() {
    let trusting = |networks: &str| format!("[http]\ntrusted_proxies = [{networks}]\n");
    silent(&trusting("\"10.0.0.4\", \"10.1.0.0/16\""));
    for everybody in ["0.0.0.0/0", "::/0"] {
        let said = ["`http.trusted_proxies` trusts every address", "--> gw.toml:7:19"];
        warned(&trusting(&format!("\"10.0.0.4\", \"{everybody}\"")), &said);
    }
    let listener = "[listeners.inside]\naddress = \"[::]:8081\"\n";
    let protocol = format!("{listener}proxy_protocol = {{ trusted = [\"::/0\"] }}\n");
    warned(&protocol, &["`listeners.inside.proxy_protocol.trusted` trusts every address"]);
}

#[test]
fn a_proxy_that_is_believed_in_vain_is_pointed_out() {
    let file = |protocol: &str, proxies: &str| {
        let listener = "[listeners.public]\n";
        let reserved = format!("{listener}proxy_protocol = {{ {protocol} }}\n");
        let text = SMALLEST.replace(listener, &reserved);
        let output = Place::with(format!("{text}[http]\ntrusted_proxies = [{proxies}]\n")).check();
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr
    };
    let balancer = "trusted = [\"10.0.0.0/24\"]";
    let said = file(balancer, "\"10.0.0.4\"");
    for part in ["10.0.0.4/32 in `http.trusted_proxies` has no effect", "names the client already"]
    {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    // A proxy before the balancer, and a balancer that may leave the header out.
    assert_eq!(file(balancer, "\"192.0.2.0/24\""), "");
    assert_eq!(file(&format!("{balancer}, required = false"), "\"10.0.0.4\""), "");
    // Another listener takes it without a header.
    let other = format!(
        "[listeners.inside]\naddress = \"[::]:8081\"\nproxy_protocol = {{ {balancer} }}\n\
        [http]\ntrusted_proxies = [\"10.0.0.4\"]\n"
    );
    silent(&other);
}

#[test]
fn a_connection_that_is_closed_before_a_proxy_does_it_is_pointed_out() {
    let idle = |idle: &str| format!("[timeouts]\nclient_idle = \"{idle}\"\n");
    silent(&idle("60s"));
    let proxies = "[http]\ntrusted_proxies = [\"10.0.0.4\"]\n";
    silent(&format!("{proxies}{}", idle("61s")));
    warned(&format!("{proxies}{}", idle("60s")), &["being closed", "--> gw.toml:9:15"]);
}

#[test]
fn a_readiness_that_no_balancer_can_see_is_pointed_out() {
    let file = |proxy: &str, more: &str| {
        format!("[timeouts]\nshutdown_delay = \"15s\"\n[http]\ntrusted_proxies = [{proxy}]\n{more}")
    };
    let said = ["balancers cannot ask `/readyz`", "--> gw.toml:7:18"];
    warned(&file("\"10.0.0.4\"", ""), &said);
    warned(&file("\"10.0.0.4\"", "[ops]\naddress = \"[::1]:9080\"\n"), &said);
    silent(&file("\"10.0.0.4\"", "[ops]\naddress = \"10.0.0.5:9080\"\n"));
    silent(&file("\"127.0.0.1\"", ""));
    silent("[timeouts]\nshutdown_delay = \"15s\"\n");
}

#[test]
fn a_hold_that_outlasts_its_end_is_pointed_out() {
    let failover = |hold: &str, restart: &str| {
        format!("[failover]\nhold = \"{hold}\"\nrestart_after = \"{restart}\"\n")
    };
    let said = ["held for longer than its server is waited for", "`restart_after` is 30s"];
    warned(&failover("31s", "30s"), &said);
    silent(&failover("30s", "30s"));
}

#[test]
fn a_ping_of_the_root_is_pointed_out() {
    let said = ["a Ping to `/`, where few servers take uploads", "path = \"/uploads/\""];
    warned("[health]\nkind = \"bits-ping\"\n", &said);
    warned("health = { kind = \"bits-ping\" }\n", &said);
    warned(&format!("{SECOND}[health]\nkind = \"bits-ping\"\n"), &said);
    silent("[health]\nkind = \"bits-ping\"\npath = \"/in/\"\n");
    silent("[health]\nkind = \"http\"\n");
}

#[test]
fn a_missing_folder_of_the_access_log_is_pointed_out() {
    let said = ["there is no folder ./no/such for the access log", "mkdir -p ./no/such"];
    warned("[log]\naccess = \"./no/such/access.log\"\n", &said);
    silent("[log]\naccess = \"./access.log\"\n");
}

/// Names below `.invalid` never have an address.
#[test]
fn names_that_clients_look_for_are_looked_up() {
    let file = format!(
        "{SMALLEST}[affinity]\nhost_id_domain = \"up.invalid\"\n[http]\n\
         hosts = [\"localhost\", \"uploads.invalid\"]\n[limits]\nconnections = 100\n"
    );
    let output = Place::with(&file).run(&["check", "gw.toml"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    for said in [
        "warning: the name uploads.invalid of `http.hosts` has no address here",
        "warning: the host id up01.up.invalid has no address here",
        "each upload stands still for 15m (affinity.fallback_timeout)",
    ] {
        assert!(output.stderr.contains(said), "no {said:?} in\n{}", output.stderr);
    }
    assert!(!output.stderr.contains("localhost has no"), "{}", output.stderr);
    assert_eq!(Place::with(&file).check().stderr, "");
}

#[test]
fn more_clients_than_open_files_allow_are_pointed_out() {
    let place = Place::with(SMALLEST);
    let limited = |files: u32, more: &str| {
        let script = format!("ulimit -n {files}; exec \"$0\" check gw.toml {more}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_bits-gateway")])
            .current_dir(place.path())
            .env("BITSGW__STORE__PATH", "./store")
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = limited(1024, "");
    assert!(said.contains("the limit on open files is too low for `limits.connections`"), "{said}");
    assert!(said.contains("1024 files here are enough for "), "{said}");
    assert_eq!(limited(1024, "--portable"), "");
}

#[test]
fn a_network_that_is_allowed_and_denied_is_pointed_out() {
    let access = |access: &str| {
        let text = format!("{SMALLEST}[listeners.public.access]\n{access}\n");
        let output = Place::with(text).check();
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr
    };
    let both = access("allow = [\"10.0.0.0/8\", \"192.0.2.1\"]\ndeny = [\"192.0.2.1/32\"]");
    let said = "192.0.2.1/32 stands in `listeners.public.access.allow` and in \
                `listeners.public.access.deny`";
    assert!(both.contains(said) && both.contains("--> gw.toml:7:9"), "{both}");
    assert_eq!(access("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.6.0.0/16\"]"), "");
    assert_eq!(access("deny = [\"0.0.0.0/0\"]\nanswer = \"403\""), "");
}

#[test]
fn a_trusted_proxy_that_is_judged_by_its_own_address_is_pointed_out() {
    let access = |access: &str| {
        let proxies = "[http]\ntrusted_proxies = [\"10.0.0.0/24\"]\n";
        let text = format!("{SMALLEST}{proxies}[listeners.public.access]\n{access}\n");
        let output = Place::with(text).check();
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr
    };
    let denied = "`listeners.public.access.deny` does not keep out all of 10.0.0.0/24";
    for deny in ["10.0.0.7", "10.0.0.0/8"] {
        let said = access(&format!("deny = [\"{deny}\"]"));
        assert!(said.contains(denied) && said.contains("list the proxies alone"), "{said}");
    }
    let allowed = "`listeners.public.access.allow` serves everybody for whom 10.0.0.0/24 names";
    let said = access("allow = [\"10.0.0.0/8\"]");
    assert!(said.contains(allowed) && said.contains("leave the proxies out"), "{said}");
    assert_eq!(access("allow = [\"192.0.2.0/24\"]\ndeny = [\"10.0.1.0/24\"]"), "");
}
