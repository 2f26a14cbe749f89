//! A changed configuration, taken over or not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::child::Part;
use crate::process::Process;

struct Bench {
    folder: TempDir,
    backend: Backend,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), backend: Backend::start() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, config: &Path, watch: bool) -> Process {
        let part = Part::new(self.backend.address).with(|part| {
            part.config = Some(config.to_owned());
            part.watch_config = watch;
        });
        Process::start(&part)
    }
}

pub fn config(weight: u32) -> String {
    format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
         [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9001\"\nweight = {weight}\n"
    )
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

const REFUSED: &str = "the new configuration is not used, the old one stays in force";

#[test]
fn sighup_takes_a_good_file_over_and_leaves_a_bad_one() {
    let bench = Bench::new();
    let file = bench.path("gw.toml");
    write(&file, &config(1));
    let process = bench.start(&file, false);
    let mut client = process.client();
    client.send();
    let request = bench.backend.request();

    write(&file, &config(2));
    process.signal(Signal::HUP);
    process.wait_for("applied 1 -> 2");
    process
        .wait_for_log("INFO", "\"key\":\"backends.up01.weight\",\"before\":\"1\",\"after\":\"2\"");

    write(&file, &config(0));
    process.signal(Signal::HUP);
    process.wait_for_log("ERROR", REFUSED);
    process.wait_for_log("ERROR", "from 1 to 1000");
    // One line for each finding, and no picture in any.
    process.wait_for_log("ERROR", "gw.toml:6:10\",\"label\":");
    assert!(!process.errors().contains("\\n"), "{}", process.errors());
    write(&file, "\u{0}junk = [[[");
    process.signal(Signal::HUP);
    process.wait_for_log("ERROR", "this is not TOML");
    fs::write(&file, [0xff, 0xfe, 0x00]).expect("written");
    process.signal(Signal::HUP);
    process.wait_for_log("ERROR", "is not UTF-8 text");
    fs::remove_file(&file).expect("removed");
    process.signal(Signal::HUP);
    process.wait_for_log("ERROR", "there is no file");

    write(&file, &config(3));
    process.signal(Signal::HUP);
    process.wait_for("applied 2 -> 3");
    request.answer(b"undisturbed");
    assert_eq!(client.answer().body, b"undisturbed");
    process.expect_serving(&bench.backend);
}

#[test]
fn what_needs_a_restart_is_named() {
    let bench = Bench::new();
    let file = bench.path("gw.toml");
    write(&file, &config(1));
    let process = bench.start(&file, false);
    write(&file, &(config(2) + "[process]\nthreads = 7\n"));
    process.signal(Signal::HUP);
    process.wait_for("applied 1 -> 2");
    process.wait_for_log("WARN", "\"key\":\"process.threads\"");
    process.wait_for_log("WARN", "restart to apply");
}

#[test]
fn a_file_written_in_place_is_noticed() {
    let bench = Bench::new();
    let file = bench.path("gw.toml");
    write(&file, &config(1));
    let process = bench.start(&file, true);
    write(&file, &config(2));
    process.wait_for("applied 1 -> 2");
    write(&file, "junk");
    process.wait_for_log("ERROR", REFUSED);
    process.expect_serving(&bench.backend);
    write(&file, &config(3));
    process.wait_for("applied 2 -> 3");
    assert!(!process.events().contains(&"reload".to_owned()), "nobody has signalled");
}

#[test]
fn a_file_put_in_its_place_is_noticed() {
    let bench = Bench::new();
    let file = bench.path("gw.toml");
    write(&file, &config(1));
    let process = bench.start(&file, true);
    for weight in 2..5 {
        write(&bench.path("new.toml"), &config(weight));
        fs::rename(bench.path("new.toml"), &file).expect("renamed");
        process.wait_for(&format!("applied {} -> {weight}", weight - 1));
    }
    fs::remove_file(&file).expect("removed");
    process.wait_for_log("ERROR", "there is no file");
    write(&file, &config(9));
    process.wait_for("applied 4 -> 9");
}

#[test]
fn a_link_swapped_as_kubernetes_does_it_is_noticed() {
    let bench = Bench::new();
    let mount = bench.path("mount");
    let version = |number: u32| {
        let folder = mount.join(format!("..{number}"));
        fs::create_dir_all(&folder).expect("made");
        write(&folder.join("gw.toml"), &config(number));
        folder.file_name().expect("a name").to_owned()
    };
    symlink(version(1), mount.join("..data")).unwrap_or_else(|error| panic!("linked: {error}"));
    symlink("..data/gw.toml", mount.join("gw.toml")).expect("linked");
    let process = bench.start(&mount.join("gw.toml"), true);
    for number in 2..5 {
        symlink(version(number), mount.join("..data_tmp")).expect("linked");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swapped");
        fs::remove_dir_all(mount.join(format!("..{}", number - 1))).expect("removed");
        process.wait_for(&format!("applied {} -> {number}", number - 1));
    }
}
