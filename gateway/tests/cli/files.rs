//! Which file is read, and where the paths in it begin.

use std::fs;

use crate::support::{Place, SMALLEST};

#[test]
fn a_file_is_named_bare_or_by_option_or_by_the_environment() {
    let place = Place::with(SMALLEST);
    let other = ("BITSGW_CONFIG", "other.toml");
    for (arguments, environment) in [
        (&["check", "gw.toml"][..], &[][..]),
        (&["check", "--config", "gw.toml"], &[]),
        (&["check"], &[("BITSGW_CONFIG", "gw.toml")]),
        (&["check", "gw.toml"], &[other]),
        (&["config", "dump", "gw.toml"], &[]),
        (&["config", "dump"], &[("BITSGW_CONFIG", "gw.toml")]),
        (&["config", "dump", "--config", "gw.toml"], &[other]),
    ] {
        let output = place.run_with(arguments, environment);
        assert_eq!(output.code, 0, "{arguments:?}: {}", output.stderr);
        assert!(output.stdout.contains("gw.toml"), "{arguments:?}: {}", output.stdout);
    }
    let run = place.run_with(&["run"], &[other]);
    assert_eq!(run.code, 78);
    assert!(run.stderr.contains("there is no file other.toml"), "{}", run.stderr);
    let run = Place::with("").run(&["run", "gw.toml"]);
    assert!(run.stderr.contains("there is no listener"), "{}", run.stderr);
}

#[test]
fn the_file_of_the_packages_is_read_where_none_is_named() {
    for environment in [&[][..], &[("BITSGW_CONFIG", "")]] {
        let output = Place::with(SMALLEST).run_with(&["check"], environment);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(said.contains("/etc/bits-gateway/config.toml"), "{said}");
    }
}

#[test]
fn relative_paths_begin_beside_the_file() {
    // One that names a store, so that the environment names none.
    let place = Place::with("[store]\n");
    let sub = place.path().join("conf/deep");
    fs::create_dir_all(&sub).unwrap();
    let file = format!(
        "{SMALLEST}[log]\naccess = \"./access.log\"\n[admin]\nsocket = \"../admin.sock\"\n\
         [store]\npath = \"store\"\n"
    );
    fs::write(sub.join("gw.toml"), file).unwrap();
    let output = place.run(&["check", "conf/deep/gw.toml"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    for line in [
        "sqlite in conf/deep/store",
        "access log  conf/deep/access.log",
        "admin       conf/deep/../admin.sock, mode 0600",
    ] {
        assert!(output.stdout.contains(line), "no {line:?} in\n{}", output.stdout);
    }
    let environment = [("BITSGW__STORE__PATH", "./elsewhere")];
    let output = place.run_with(&["check", "conf/deep/gw.toml"], &environment);
    assert!(output.stdout.contains("sqlite in ./elsewhere"), "{}", output.stdout);
}

/// The files of certificates are looked at, so that they must be where the configuration is.
#[test]
fn certificates_are_looked_for_beside_the_file() {
    let place = Place::empty();
    let sub = place.path().join("conf");
    fs::create_dir_all(&sub).unwrap();
    let file = "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
                tls = { certificates = [{ certificate = \"a.pem\", key = \"a.key\" }] }\n\
                [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:1\"\n";
    fs::write(sub.join("gw.toml"), file).unwrap();
    let output = place.run(&["check", "conf/gw.toml"]);
    assert_eq!(output.code, 74, "{}", output.stderr);
    assert!(output.stderr.contains("conf/a."), "{}", output.stderr);
}
