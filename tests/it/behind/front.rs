//! A real proxy in front of a farm.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use e2e_tests::binaries::foreign;
use e2e_tests::client::{Client, exchange};
use e2e_tests::farm::{Farm, FarmBuilder, Process, Signal};
use e2e_tests::ports::Port;
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use super::document;
use crate::packets::ping;

/// It ends with the test.
pub struct Front {
    port: Port,
    process: Process,
    // Behind the process, which writes into it.
    _directory: TempDir,
}

/// A farm configured as the document says, and the proxy in front of it.
#[track_caller]
pub fn in_front(name: &str, stubs: usize) -> (Farm, Front) {
    let farm = configured_for(name, Farm::of_stubs(stubs).plain()).start();
    let front = Front::start(name, farm.entrance(), farm.gateway().listener("ops"));
    (farm, front)
}

#[track_caller]
pub fn configured_for(name: &str, farm: FarmBuilder) -> FarmBuilder {
    match name {
        "nginx-least" => farm,
        "haproxy-tcp" => document::configured("gateway-tcp", farm),
        _ => document::configured("gateway-http", farm),
    }
}

/// A block of the document, and lines that are changed in it.
fn variant(name: &str) -> (&str, &str, &str) {
    match name {
        // The recipe as it is often copied.
        "nginx-upgrade" => (
            "nginx-websocket",
            "$connection_upgrade;\n        proxy",
            "\"upgrade\";\n        proxy",
        ),
        // As for servers that cannot do better.
        "apache-1-0" => (
            "apache",
            "ProxyPreserveHost On\n",
            "ProxyPreserveHost On\nSetEnv force-proxy-request-1.0 1\nSetEnv proxy-nokeepalive 1\n",
        ),
        name => (name, "", ""),
    }
}

impl Front {
    #[track_caller]
    pub fn start(name: &str, gateway: SocketAddr, ops: SocketAddr) -> Self {
        let (block, from, to) = variant(name);
        Self::changed(name, block, &[(from, to)], gateway, ops)
    }

    /// A block of the document with other lines; of Varnish also those that start it.
    #[track_caller]
    pub fn changed(
        name: &str,
        block: &str,
        changes: &[(&str, &str)],
        gateway: SocketAddr,
        ops: SocketAddr,
    ) -> Self {
        let directory = TempDir::new(name);
        let port = Port::reserve();
        let mut text = document::proxy(block, gateway, ops, port.address());
        let mut started = match block {
            "varnish" => document::proxy("varnish-start", gateway, ops, port.address()),
            _ => String::new(),
        };
        for (from, to) in changes.iter().filter(|(from, _)| !from.is_empty()) {
            assert!(
                text.contains(from) || started.contains(from),
                "no {from:?} in {text}{started}"
            );
            text = text.replace(from, to);
            started = started.replace(from, to);
        }
        let program = name.split('-').next().unwrap_or_default();
        let command = match program {
            "nginx" => nginx(&text, directory.path()),
            "haproxy" => haproxy(&text, directory.path()),
            "apache" => apache(&text, directory.path()),
            "squid" => squid(&text, directory.path()),
            "varnish" => varnish(&text, &started, directory.path()),
            _ => panic!("no proxy {program}"),
        };
        let mut process = Process::start(command, name, directory.path());
        wait::until(&format!("{name} accepts connections"), || {
            process.expect_running();
            // Varnish takes the gateway for ill until its first probe has come back.
            match program {
                "varnish" => exchange(port.address(), &ping("/").bytes())
                    .is_ok_and(|answer| answer.status != 503),
                _ => TcpStream::connect(port.address()).is_ok(),
            }
        });
        Self { port, process, _directory: directory }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A client that reaches the farm through it.
    pub fn client(&self, farm: &Farm) -> Client {
        Client::new(farm.resolver_to(&[self.address()]))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Varnish ends its child then.
        self.process.signal(Signal::TERM);
        self.process.wait();
    }
}

#[track_caller]
fn written(directory: &Path, text: &str) -> std::path::PathBuf {
    let file = directory.join("front.conf");
    std::fs::write(&file, text).expect("the configuration is written");
    file
}

/// A server with one process in the foreground, and with all its files in the directory.
fn nginx(text: &str, directory: &Path) -> Command {
    let folder = directory.display();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {folder}/{what};\n"))
        .collect();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n\
        http {{\naccess_log off;\n{places}{text}}}\n"
    );
    let mut command = Command::new(foreign("nginx"));
    command.arg("-p").arg(directory).args(["-e", "stderr", "-c"]).arg(written(directory, &text));
    command
}

fn haproxy(text: &str, directory: &Path) -> Command {
    let mut command = Command::new(foreign("haproxy"));
    command.args(["-db", "-f"]).arg(written(directory, text));
    command
}

fn apache(text: &str, directory: &Path) -> Command {
    let modules = ["mpm_event", "authz_core", "env", "reqtimeout", "proxy", "proxy_http"]
        .map(|name| format!("LoadModule {name}_module modules/mod_{name}.so\n"));
    let folder = directory.display();
    let text = format!(
        "ServerRoot /usr/lib/apache2\n{}ServerName front\nPidFile {folder}/pid\n\
        ErrorLog /dev/stderr\nDefaultRuntimeDir {folder}\nMutex file:{folder}\n{text}",
        modules.concat()
    );
    let mut command = Command::new(foreign("apache2"));
    command.args(["-X", "-f"]).arg(written(directory, &text)).env("APACHE_RUN_DIR", directory);
    command
}

fn squid(text: &str, directory: &Path) -> Command {
    let folder = directory.display();
    let text = format!(
        "{text}\naccess_log none\ncache_log {folder}/squid.err\npid_filename {folder}/pid\n\
        coredump_dir {folder}\nshutdown_lifetime 0 seconds\nvisible_hostname front\n\
        pinger_enable off\n"
    );
    // As root it becomes another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(directory, open).expect("the directory is ours");
    let mut command = Command::new(foreign("squid"));
    // Instances of one machine share their memory by this name.
    let instance = format!("front{}", std::process::id());
    command.args(["-N", "-n", &instance, "-f"]).arg(written(directory, &text));
    command
}

fn varnish(text: &str, started: &str, directory: &Path) -> Command {
    let mut command = Command::new(foreign("varnishd"));
    command.arg("-F").arg("-n").arg(directory.join("varnish"));
    // As the document starts it, with the file that the document shows.
    let file = written(directory, text);
    let line = started.trim_start_matches("varnishd ").replace('\\', " ");
    for word in line.split_whitespace() {
        match word {
            "/etc/varnish/default.vcl" => command.arg(&file),
            word => command.arg(word),
        };
    }
    command
}
