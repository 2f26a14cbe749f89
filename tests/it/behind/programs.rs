//! HTTP clients of other projects, each in a small program that uploads a file.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e_tests::binaries;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::temp::TempDir;

use super::front::Front;

/// Three Fragments, so large that curl waits for a 100 first.
const PIECE: u64 = 1_200_000;
const SIZE: u64 = 3_000_000;

/// The interpreter, the program, and what follows behind the file.
fn command(client: &str) -> (&'static str, &'static str, &'static [&'static str]) {
    match client {
        "curl" => ("bash", "upload.sh", &["curl"]),
        "curl_http2" => ("bash", "upload.sh", &["curl", "--http2"]),
        "curl_tr_encoding" => ("bash", "upload.sh", &["curl", "--tr-encoding"]),
        "jdk" => ("java", "Upload.java", &[]),
        "lwp" => ("perl", "upload.pl", &[]),
        "node" => ("node", "upload.mjs", &["http"]),
        "node_fetch" => ("node", "upload.mjs", &["fetch"]),
        "python" => ("python3", "upload.py", &[]),
        "wget" => ("bash", "upload.sh", &["wget"]),
        _ => panic!("no client {client}"),
    }
}

/// Uploads a file through the proxy; it arrives whole.
#[track_caller]
pub fn upload(client: &str, front: &Front, farm: &Farm) {
    let content = Content::seeded(SIZE, SIZE);
    let path = format!("/in/{client}.bin");
    let aliases: Vec<_> =
        farm.stubs().iter().map(|stub| format!("{}.{ORIGIN}", stub.name())).collect();
    let names: Vec<_> = std::iter::once(ORIGIN).chain(aliases.iter().map(|name| &**name)).collect();
    run(client, front.address(), &names, &path, &content, PIECE);
    farm.expect_stored(&path, &content);
}

/// Uploads a file to an address that has these names.
#[track_caller]
pub fn run(
    client: &str,
    address: SocketAddr,
    names: &[&str],
    path: &str,
    content: &Content,
    piece: u64,
) {
    let directory = TempDir::new(client);
    let (file, hosts) = (directory.join("file.bin"), directory.join("hosts"));
    std::fs::write(&file, content.to_vec()).expect("a file can be written");
    let names = names.iter().map(|name| format!("{} {name}\n", address.ip()));
    std::fs::write(&hosts, names.collect::<String>()).expect("a file can be written");
    let (interpreter, program, more) = command(client);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/behind/programs");
    let url = format!("http://{ORIGIN}:{}{path}", address.port());
    let output = Command::new(binaries::foreign(interpreter))
        .arg(folder.join(program))
        .args([url.as_ref(), file.as_os_str(), piece.to_string().as_ref()])
        .args(more)
        // The names of the farm, and no proxy of this machine's.
        .env("LD_PRELOAD", binaries::library("libnss_wrapper.so", "libnss-wrapper"))
        .env("NSS_WRAPPER_HOSTS", hosts)
        .env_remove("http_proxy")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client}: {}\n{said}", output.status);
}
