//! What there is to know about watching one backend.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::farm::{BackendId, Directory, FolderRules, Rules};

use crate::base::build_info::VERSION;
use crate::config::{BackendAddress, BackendConfig, Config, ProbeConfig, ProbeKind, UpstreamHost};
use crate::tls::BackendTls;

#[derive(Debug, Clone, PartialEq)]
pub struct BackendSpec {
    pub id: BackendId,
    pub name: Arc<str>,
    pub address: BackendAddress,
    /// Where the name was found, if it was: first the address to be used.
    pub found: Vec<SocketAddr>,
    pub ask: Ask,
    /// Folders are pinged as well.
    pub pings: Option<FolderPings>,
    /// Probes are made over TLS.
    pub tls: Option<Arc<BackendTls>>,
    pub interval: Duration,
    /// For a whole probe.
    pub timeout: Duration,
    /// How often the name is looked up.
    pub resolve: Duration,
    pub rules: Rules,
    /// It is here for the sessions that it has, and gets no new ones.
    pub leaving: bool,
}

/// What a probe is.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// There are none.
    Nothing,
    Connection,
    /// The bytes of a GET.
    Page(Bytes),
    /// The bytes of a Ping.
    Ping(Bytes),
}

/// Pings beside the probes, in the folders of which the backend has opened sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderPings {
    pub rules: FolderRules,
    host: Arc<str>,
}

impl BackendSpec {
    pub fn new(
        id: BackendId,
        backend: &BackendConfig,
        found: &[SocketAddr],
        config: &Config,
    ) -> Self {
        let ProbeConfig { kind, interval, timeout, rise, fall, .. } = backend.health;
        let health = &config.health;
        let mut spec = Self {
            id,
            name: backend.name.as_str().into(),
            address: backend.address.clone(),
            found: found.to_vec(),
            ask: ask(backend, config),
            pings: FolderPings::of(backend, config),
            tls: None,
            interval,
            timeout,
            resolve: health.resolve,
            rules: Rules {
                probed: kind != ProbeKind::Off,
                rise,
                fall,
                passive_failures: health.passive_failures,
                passive_errors: health.passive_errors,
                retry_after: health.retry_after,
                slow_start: health.slow_start,
            },
            leaving: false,
        };
        if let Some(literal) = spec.literal() {
            spec.found = vec![literal];
        }
        spec
    }

    /// The same with probes over TLS.
    pub fn secured(self, tls: Option<&Arc<BackendTls>>) -> Self {
        Self { tls: tls.cloned(), ..self }
    }

    /// The address, where it is no name.
    pub(super) fn literal(&self) -> Option<SocketAddr> {
        let host = self.address.host.trim_matches(['[', ']']);
        let address: IpAddr = host.parse().ok()?;
        Some(SocketAddr::new(address, self.address.port))
    }

    /// Where the name was found is the business of whoever watches it since.
    pub(super) fn is_watched_like(&self, other: &Self) -> bool {
        *self == Self { found: self.found.clone(), leaving: self.leaving, ..other.clone() }
    }
}

impl FolderPings {
    /// A probe that is a Ping says it all, and where there are no probes there is nothing beside
    /// them.
    fn of(backend: &BackendConfig, config: &Config) -> Option<Self> {
        let beside = matches!(backend.health.kind, ProbeKind::Tcp | ProbeKind::Http);
        (beside && config.health.ping_folders).then(|| Self {
            rules: config.health.folder_rules(),
            host: host(backend, config).into(),
        })
    }

    /// The Ping to that directory.
    pub fn ask(&self, directory: &Directory) -> Ask {
        Ask::Ping(ping(directory.path(), &self.host))
    }
}

fn ask(backend: &BackendConfig, config: &Config) -> Ask {
    let path = &backend.health.path;
    let host = host(backend, config);
    match backend.health.kind {
        ProbeKind::Off => Ask::Nothing,
        ProbeKind::Tcp => Ask::Connection,
        ProbeKind::Http => Ask::Page(format!("GET {path} HTTP/1.1\r\n{}", rest(&host)).into()),
        ProbeKind::BitsPing => Ask::Ping(ping(path.as_bytes(), &host)),
    }
}

/// As MC-BUP 2.2.4.1 has it.
fn ping(path: &[u8], host: &str) -> Bytes {
    let fields = "BITS-Packet-Type: Ping\r\nContent-Length: 0";
    let rest = format!(" HTTP/1.1\r\n{fields}\r\n{}", rest(host));
    [b"BITS_POST ", path, rest.as_bytes()].concat().into()
}

/// The fields of every probe, and the end of its head.
fn rest(host: &str) -> String {
    format!(
        "Host: {host}\r\nUser-Agent: bits-gateway/{VERSION}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
}

fn host(backend: &BackendConfig, config: &Config) -> String {
    let address = backend.address.authority(backend.tls.is_some());
    let origin = match config.http.upstream_host {
        UpstreamHost::Origin | UpstreamHost::Preserve => config.http.origin.clone(),
        UpstreamHost::Backend => None,
    };
    backend.health.host.clone().or(origin).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(health: &str, more: &str) -> BackendSpec {
        let text = format!(
            "[listeners.public]\naddress = \"127.0.0.1:0\"\n[[backends]]\nname = \"up01\"\n\
             address = \"up01.test:81\"\nhealth = {{ {health} }}\n{more}"
        );
        let config = Config::from_toml(&text).unwrap_or_else(|picture| panic!("{picture}"));
        BackendSpec::new(BackendId(0), &config.backends[0], &[], &config)
    }

    #[track_caller]
    fn check(health: &str, more: &str, line: &str, host: &str) {
        check_request(spec(health, more).ask, line, host);
    }

    #[track_caller]
    fn check_request(ask: Ask, line: &str, host: &str) {
        let bytes = match ask {
            Ask::Page(bytes) | Ask::Ping(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut fields);
        assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
        assert_eq!(format!("{} {}", request.method.unwrap(), request.path.unwrap()), line);
        let found = request.headers.iter().find(|field| field.name == "Host").unwrap();
        assert_eq!(std::str::from_utf8(found.value).unwrap(), host);
    }

    #[test]
    fn probes_have_the_host_of_requests() {
        let ping = "kind = \"bits-ping\", path = \"/up/\"";
        check(ping, "", "BITS_POST /up/", "up01.test:81");
        check("kind = \"http\"", "", "GET /", "up01.test:81");
        let hosts = "[http]\nhosts = [\"Uploads.test\", \"b.test\"]\n";
        check(ping, hosts, "BITS_POST /up/", "Uploads.test");
        check(&format!("{ping}, host = \"c.test\""), hosts, "BITS_POST /up/", "c.test");
        let backend = format!("{hosts}upstream_host = \"backend\"\n");
        check(ping, &backend, "BITS_POST /up/", "up01.test:81");
    }

    #[test]
    fn folders_are_pinged_beside_probes_that_are_no_pings() {
        let directory = Directory::of(b"/in/a%20b/1.bin?x").unwrap();
        let line = "BITS_POST /in/a%20b/";
        for (health, more, host) in [
            ("", "", "up01.test:81"),
            ("kind = \"http\", path = \"/alive\"", "", "up01.test:81"),
            ("", "[http]\nhosts = [\"Uploads.test\"]\n", "Uploads.test"),
            ("host = \"c.test\"", "[http]\nhosts = [\"Uploads.test\"]\n", "c.test"),
        ] {
            let pings = spec(health, more).pings.expect("pings");
            check_request(pings.ask(&directory), line, host);
        }
        for (health, more) in [
            ("kind = \"bits-ping\"", ""),
            ("kind = \"off\"", ""),
            ("", "[health]\nping_folders = false\n"),
        ] {
            assert_eq!(spec(health, more).pings, None, "{health} {more}");
        }
    }

    #[test]
    fn without_a_request_there_is_a_connection_or_nothing() {
        assert_eq!(spec("", "").ask, Ask::Connection);
        assert!(spec("", "").rules.probed);
        assert_eq!(spec("kind = \"off\"", "").ask, Ask::Nothing);
        assert!(!spec("kind = \"off\"", "").rules.probed);
    }

    #[test]
    fn an_address_needs_no_lookup() {
        let mut spec = spec("", "");
        assert_eq!(spec.literal(), None);
        spec.address.host = "[::1]".into();
        assert_eq!(spec.literal(), Some("[::1]:81".parse().unwrap()));
        spec.address.host = "127.0.0.2".into();
        assert_eq!(spec.literal(), Some("127.0.0.2:81".parse().unwrap()));
    }
}
