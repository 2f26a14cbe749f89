//! The gateway's configuration as a test writes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::ports::Port;

/// A TOML text with placeholders, or tables of settings that become one.
#[derive(Clone, Debug)]
pub enum Config {
    /// `{{backends}}` becomes all `[[backends]]` tables, `{{up01}}` one backend's address, `{{listen:NAME}}` a loopback
    /// address whose port is reserved for this farm, `{{tmp}}` the farm's directory. Without a
    /// `[store]` of its own it gets one in that directory.
    Text(String),
    Settings(Settings),
}

/// Tables in the order of their first setting.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    tables: Vec<(String, Vec<(String, String)>)>,
    /// Additional keys of single backends, by name.
    backends: BTreeMap<String, Vec<(String, String)>>,
}

/// One `[[backends]]` table.
#[derive(Clone, Debug)]
pub struct BackendEntry {
    pub name: String,
    pub address: SocketAddr,
}

impl Settings {
    /// A farm with host ids under `up.test` and everything on free loopback ports.
    pub fn standard() -> Self {
        let mut settings = Self::default();
        settings.set("listeners.public.address", "\"{{listen:public}}\"");
        settings.set("affinity.host_id", "\"backend\"");
        settings.set("affinity.host_id_domain", "\"up.test\"");
        settings.set("affinity.fallback_timeout", "\"15m\"");
        settings.set("placement.policy", "\"round-robin\"");
        settings.set("store.path", "\"{{tmp}}/store\"");
        // Tests that count connections must not count probes.
        settings.set("health.kind", "\"off\"");
        // Nor questions, which are packets that no client has sent.
        settings.set("sessions.unknown", "\"restart\"");
        settings.set("ops.address", "\"{{listen:ops}}\"");
        settings
    }

    /// `key` is a dotted path, `value` is TOML.
    pub fn set(&mut self, key: &str, value: &str) {
        let (table, key) = split(key);
        let at = self.tables.iter().position(|(name, _)| name == table).unwrap_or_else(|| {
            self.tables.push((table.to_owned(), Vec::new()));
            self.tables.len() - 1
        });
        put(&mut self.tables[at].1, key, value);
    }

    pub fn unset(&mut self, key: &str) {
        let (table, key) = split(key);
        for (name, keys) in &mut self.tables {
            if name == table {
                keys.retain(|(found, _)| found != key);
            }
        }
        self.tables.retain(|(_, keys)| !keys.is_empty());
    }

    /// The tables `listeners.NAME` that say nothing of TLS.
    pub(super) fn listeners(&self) -> Vec<String> {
        let plain = |(name, keys): &&(String, Vec<(String, String)>)| {
            name.starts_with("listeners.")
                && name.matches('.').count() == 1
                && !keys.iter().any(|(key, _)| key.starts_with("tls"))
                && !self.tables.iter().any(|(table, _)| *table == format!("{name}.tls"))
        };
        self.tables.iter().filter(plain).map(|(name, _)| name.clone()).collect()
    }

    pub fn set_backend(&mut self, backend: &str, key: &str, value: &str) {
        put(self.backends.entry(backend.to_owned()).or_default(), key, value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (table, keys) in &self.tables {
            text += &format!("[{table}]\n");
            for (key, value) in keys {
                text += &format!("{key} = {value}\n");
            }
        }
        text + "{{backends}}"
    }
}

impl Config {
    /// The settings, to change them.
    ///
    /// # Panics
    /// When the test brought a text of its own.
    #[track_caller]
    pub fn settings(&mut self) -> &mut Settings {
        match self {
            Self::Settings(settings) => settings,
            Self::Text(_) => panic!("a configuration text cannot be changed by settings"),
        }
    }

    /// The finished TOML. Ports are reserved under the names that the text asks for, once.
    pub fn render(
        &self,
        backends: &[BackendEntry],
        ports: &mut BTreeMap<String, Port>,
        directory: &str,
    ) -> String {
        let no_more_keys = BTreeMap::new();
        let (mut text, more) = match self {
            Self::Text(text) => (text.clone(), &no_more_keys),
            Self::Settings(settings) => (settings.text(), &settings.backends),
        };
        let mut tables = String::new();
        for BackendEntry { name, address } in backends {
            tables += &format!("[[backends]]\nname = \"{name}\"\n");
            let more = more.get(name).map_or(&[][..], Vec::as_slice);
            // A test may know the backend by a name.
            if more.iter().all(|(key, _)| key != "address") {
                tables += &format!("address = \"{address}\"\n");
            }
            for (key, value) in more {
                tables += &format!("{key} = {value}\n");
            }
            text = text.replace(&format!("{{{{{name}}}}}"), &address.to_string());
        }
        if !text.contains("[store]") && matches!(self, Self::Text(_)) {
            // The default is a place that all farms of this machine would share.
            text += "\n[store]\npath = \"{{tmp}}/store\"\n";
        }
        text = text.replace("{{backends}}", &tables).replace("{{tmp}}", directory);
        while let Some((before, rest)) = text.split_once("{{listen:") {
            let (name, after) = rest.split_once("}}").expect("a placeholder ends with }}");
            let port = ports.entry(name.to_owned()).or_insert_with(Port::reserve);
            text = format!("{before}{}{after}", port.address());
        }
        text
    }
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or_else(|| panic!("{key:?} names no table"))
}

fn put(keys: &mut Vec<(String, String)>, key: &str, value: &str) {
    match keys.iter_mut().find(|(found, _)| found == key) {
        Some((_, old)) => *old = value.to_owned(),
        None => keys.push((key.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_a_file_and_ports_stay_after_a_restart() {
        let mut config = Config::Settings(Settings::default());
        config.settings().set("listeners.public.address", "\"{{listen:public}}\"");
        config.settings().set("ops.address", "\"{{listen:ops}}\"");
        config.settings().set("ops.gone", "1");
        config.settings().unset("ops.gone");
        config.settings().set_backend("up01", "weight", "3");
        let address = SocketAddr::from(([127, 0, 0, 1], 41001));
        let backends = [BackendEntry { name: "up01".to_owned(), address }];
        let mut ports = BTreeMap::new();
        let first = config.render(&backends, &mut ports, "/t");
        let expected = format!(
            "[listeners.public]\naddress = \"{}\"\n[ops]\naddress = \"{}\"\n\
            [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:41001\"\nweight = 3\n",
            ports["public"].address(),
            ports["ops"].address(),
        );
        assert_eq!(first, expected);
        assert_eq!(config.render(&backends, &mut ports, "/t"), first);
    }
}
