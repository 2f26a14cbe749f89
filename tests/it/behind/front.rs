//! A real proxy in front of a farm.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::Client;
use e2e_tests::farm::{Farm, ORIGIN, Process};
use e2e_tests::ports::Port;
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use super::document::{self, block, replace};

/// It ends with the test.
pub struct Front {
    port: Port,
    // Behind the process, which writes into it.
    _process: Process,
    _directory: TempDir,
}

impl Front {
    /// nginx with a block of the document, in front of the farm.
    #[track_caller]
    pub fn nginx(name: &str, farm: &Farm) -> Self {
        Self::start(name, farm, |text, port, directory| {
            let folder = directory.path().display();
            let text = replace(&text, "listen 80;", &format!("listen {port};"));
            let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|what| format!("{what}_temp_path {folder}/{what};\n"))
                .collect();
            // One process, which the test can end.
            let text = format!(
                "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\n\
                events {{}}\nhttp {{\naccess_log off;\n{places}{text}}}\n"
            );
            let file = directory.join("nginx.conf");
            std::fs::write(&file, text).expect("the configuration is written");
            let mut command = Command::new(binaries::foreign("nginx"));
            command.arg("-p").arg(directory.path()).arg("-e").arg("stderr").arg("-c").arg(file);
            command
        })
    }

    #[track_caller]
    fn start(
        name: &str,
        farm: &Farm,
        prepare: impl FnOnce(String, SocketAddr, &TempDir) -> Command,
    ) -> Self {
        let directory = TempDir::new(name);
        let port = Port::reserve();
        let text = block(name).replace(document::NAME, ORIGIN);
        let text = replace(&text, document::GATEWAY, &farm.entrance().to_string());
        let command = prepare(text, port.address(), &directory);
        let mut process = Process::start(command, name, directory.path());
        wait::until(&format!("{name} accepts connections"), || {
            process.expect_running();
            TcpStream::connect(port.address()).is_ok()
        });
        Self { port, _process: process, _directory: directory }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A client that reaches the farm through it.
    pub fn client(&self, farm: &Farm) -> Client {
        Client::new(farm.resolver_to(&[self.address()]))
    }
}
