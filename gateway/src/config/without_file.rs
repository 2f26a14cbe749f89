//! The configuration of a gateway that was told its backends on the command line.

use std::fmt::Write;
use std::net::SocketAddr;

use super::address::BackendAddress;

/// What such a configuration is called where another has the path of its file.
pub const NAME: &str = "the command line";

/// A file that says the same. Sessions are in memory: nobody has named a folder for them.
pub fn text(listen: SocketAddr, backends: &[BackendAddress]) -> String {
    let mut text =
        format!("[listeners.public]\naddress = \"{listen}\"\n\n[store]\nkind = \"memory\"\n");
    for (number, address) in (1..).zip(backends) {
        // Strings of JSON are strings of TOML, too.
        let address = serde_json::Value::from(address.to_string());
        write!(text, "\n[[backends]]\nname = \"up{number:02}\"\naddress = {address}\n")
            .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve::Config;
    use crate::config::store::Store;

    #[test]
    fn backends_are_named_in_their_order() {
        let address = |port| BackendAddress { host: "10.0.0.11".to_owned(), port };
        let listen = "[::1]:8080".parse().expect("an address");
        let config = Config::from_toml(&text(listen, &[address(80), address(81)])).expect("good");
        let names = config.backends.iter().map(|one| format!("{} {}", one.name, one.address));
        let names: Vec<String> = names.collect();
        assert_eq!(names, ["up01 10.0.0.11:80", "up02 10.0.0.11:81"]);
        assert_eq!(config.listeners[0].address, listen);
        assert_eq!(config.store, Store::Memory);
    }
}
