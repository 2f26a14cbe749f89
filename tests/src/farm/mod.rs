//! Stubs and a gateway as real processes, started by a sentence:
//! `Farm::of_stubs(3).each_stub(&["--strict-ranges"]).set("sessions.id", "\"minted\"").start()`.

mod config;
mod gateway;
pub mod http;
pub mod metrics;
mod process;
mod stub;
pub mod tls;

use std::net::SocketAddr;

pub use config::{BackendEntry, Config, Settings};
pub use gateway::Gateway;
pub use process::Process;
pub use rustix::process::Signal;
pub use stub::{Seen, Stats, Stub, StubFault};
pub use tls::Tls;

use crate::client::secure::Known;
use crate::client::{Client, Resolver};
use crate::data::{self, Content};
use crate::fault_link::FaultLink;
use crate::open_files;
use crate::temp::TempDir;

/// The origin name of every farm; the gateway's aliases are names below it.
pub const ORIGIN: &str = "up.test";

/// What will be started. Stubs are named `up01`, `up02`, ...
#[must_use]
pub struct FarmBuilder {
    stubs: Vec<Vec<String>>,
    more_backends: Vec<BackendEntry>,
    config: Config,
    environment: Vec<(String, String)>,
    under: Vec<String>,
    link_backends: bool,
    link_front: bool,
    gateways: usize,
    tls: Tls,
}

/// Running processes; all are killed and all files removed on drop, logs printed first when the test has failed.
pub struct Farm {
    // The order of these fields is the order of their ends: nobody logs errors about those behind it.
    gateways: Vec<Gateway>,
    front: Option<FaultLink>,
    links: Vec<FaultLink>,
    stubs: Vec<Stub>,
    /// Of all backends, stubs or not.
    names: Vec<String>,
    directory: TempDir,
    tls: Tls,
    /// Addresses that clients speak TLS to.
    known: Vec<Known>,
}

/// A file as it lies on one backend's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub backend: String,
    pub sha256: String,
    pub bytes: u64,
}

impl FarmBuilder {
    /// Arguments for every stub.
    pub fn each_stub(mut self, arguments: &[&str]) -> Self {
        for stub in &mut self.stubs {
            stub.extend(arguments.iter().map(|&argument| argument.to_owned()));
        }
        self
    }

    /// Arguments for one stub, counted from 0.
    pub fn stub(mut self, index: usize, arguments: &[&str]) -> Self {
        self.stubs[index].extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// A backend that is no stub: a [`RawBackend`](crate::raw_backend::RawBackend), or an address where nobody listens.
    pub fn backend(mut self, name: &str, address: SocketAddr) -> Self {
        self.more_backends.push(BackendEntry { name: name.to_owned(), address });
        self
    }

    /// A key of the gateway's configuration: `.set("affinity.fallback_timeout", "\"1h\"")`.
    #[track_caller]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.config.settings().set(key, value);
        self
    }

    #[track_caller]
    pub fn unset(mut self, key: &str) -> Self {
        self.config.settings().unset(key);
        self
    }

    /// A key of one `[[backends]]` table: `.set_backend("up01", "weight", "3")`.
    #[track_caller]
    pub fn set_backend(mut self, backend: &str, key: &str, value: &str) -> Self {
        self.config.settings().set_backend(backend, key, value);
        self
    }

    /// `affinity.host_id = "none"`.
    #[track_caller]
    pub fn without_host_ids(self) -> Self {
        self.unset("affinity.host_id_domain")
            .unset("affinity.fallback_timeout")
            .set("affinity.host_id", "\"none\"")
    }

    /// `store.kind = "memory"`: a restart of the gateway forgets every session.
    #[track_caller]
    pub fn forgetful(self) -> Self {
        self.unset("store.path").set("store.kind", "\"memory\"")
    }

    /// The whole configuration file, with the placeholders of [`Config::Text`].
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Config::Text(toml.to_owned());
        self
    }

    /// An environment variable of the gateway.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the gateway by a program that takes a command as its last arguments and becomes it (`exec`): so that its
    /// process id is the gateway's.
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A fault link between the gateway and each stub: [`Farm::link`].
    pub fn link_backends(mut self) -> Self {
        self.link_backends = true;
        self
    }

    /// A fault link between clients and the gateway: [`Farm::front`].
    pub fn link_front(mut self) -> Self {
        self.link_front = true;
        self
    }

    /// TLS as the test says, whatever `E2E_TLS` says.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// For tests about bytes on the socket itself, or with clients that speak no TLS.
    pub fn plain(self) -> Self {
        self.tls(Tls::Off)
    }

    /// Stubs only.
    pub fn without_gateway(self) -> Self {
        self.gateways(0)
    }

    /// So many gateways of one configuration, each with its own addresses and its own store.
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// Starts everything and waits until it accepts connections.
    #[track_caller]
    pub fn start(mut self) -> Farm {
        if matches!(self.config, Config::Text(_)) {
            // A text of the test's own says nothing of TLS.
            self.tls = Tls::Off;
        }
        open_files::raise();
        let directory = TempDir::new("farm");
        let mut farm = Farm {
            gateways: Vec::new(),
            front: None,
            links: Vec::new(),
            stubs: Vec::new(),
            names: Vec::new(),
            directory,
            tls: self.tls,
            known: Vec::new(),
        };
        let files = farm.directory.path().to_path_buf();
        let mut entries = Vec::new();
        for (index, arguments) in self.stubs.iter().enumerate() {
            let name = format!("up{:02}", index + 1);
            let mut arguments = arguments.clone();
            arguments.extend(self.tls.stub_arguments(&files));
            if let Config::Settings(settings) = &mut self.config {
                self.tls.secure_backend(settings, &name, &files);
            }
            let stub = Stub::start_new(&name, &arguments, farm.directory.path());
            farm.known.extend(self.tls.know_stub(stub.address()));
            let mut address = stub.address();
            if self.link_backends {
                let link = FaultLink::to(address);
                address = link.address();
                farm.links.push(link);
            }
            entries.push(BackendEntry { name, address });
            farm.stubs.push(stub);
        }
        entries.extend(self.more_backends);
        farm.names = entries.iter().map(|entry| entry.name.clone()).collect();
        if let Config::Settings(settings) = &mut self.config {
            self.tls.secure_listeners(settings, &files);
        }
        for number in 1..=self.gateways {
            let (environment, under) = (self.environment.clone(), self.under.clone());
            let mut directory = files.clone();
            if number > 1 {
                directory.push(format!("gateway{number}"));
                std::fs::create_dir(&directory).expect("the farm's directory is writable");
            }
            let (config, entries) = (self.config.clone(), entries.clone());
            let gateway = Gateway::start_new(config, entries, environment, under, &directory);
            for listener in gateway.traffic_listeners() {
                farm.known.extend(self.tls.know_front(listener));
            }
            farm.gateways.push(gateway);
        }
        if self.link_front && self.gateways > 0 {
            farm.front = Some(FaultLink::to(farm.gateway().address()));
        }
        farm
    }
}

impl Farm {
    pub fn of_stubs(count: usize) -> FarmBuilder {
        FarmBuilder {
            stubs: vec![Vec::new(); count],
            more_backends: Vec::new(),
            config: Config::Settings(Settings::standard()),
            environment: Vec::new(),
            under: Vec::new(),
            link_backends: false,
            link_front: false,
            gateways: 1,
            tls: Tls::from_environment(),
        }
    }

    /// How much of it speaks TLS.
    pub fn tls(&self) -> Tls {
        self.tls
    }

    /// The only gateway, or the first one.
    #[track_caller]
    pub fn gateway(&self) -> &Gateway {
        self.gateways.first().expect("this farm has a gateway")
    }

    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    pub fn stubs(&self) -> &[Stub] {
        &self.stubs
    }

    /// Counted from 0.
    #[track_caller]
    pub fn stub(&self, index: usize) -> &Stub {
        &self.stubs[index]
    }

    #[track_caller]
    pub fn stub_named(&self, name: &str) -> &Stub {
        let mut stubs = self.stubs.iter();
        stubs.find(|stub| stub.name() == name).unwrap_or_else(|| panic!("no stub {name}"))
    }

    /// Between the gateway and a stub, counted from 0.
    #[track_caller]
    pub fn link(&self, index: usize) -> &FaultLink {
        self.links.get(index).expect("this farm was built with link_backends")
    }

    /// Between clients and the gateway.
    #[track_caller]
    pub fn front(&self) -> &FaultLink {
        self.front.as_ref().expect("this farm was built with link_front")
    }

    /// Where clients connect: the gateway, or the link in front of it.
    #[track_caller]
    pub fn entrance(&self) -> SocketAddr {
        self.front.as_ref().map_or_else(|| self.gateway().address(), FaultLink::address)
    }

    /// The origin name and every backend's alias, all leading to the entrance. Other names do not resolve: a client that
    /// is sent elsewhere fails.
    #[track_caller]
    pub fn resolver(&self) -> Resolver {
        let entrance = self.entrance();
        self.resolver_to(&[entrance])
    }

    /// The same, and each connection leads to the next one of these addresses.
    pub fn resolver_to(&self, addresses: &[SocketAddr]) -> Resolver {
        let resolver = Resolver::new();
        resolver.set_in_turn(ORIGIN, addresses);
        for name in &self.names {
            resolver.set_in_turn(&format!("{name}.{ORIGIN}"), addresses);
        }
        resolver
    }

    /// A client of this farm.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::new(self.resolver())
    }

    /// A client that talks to one stub without the gateway.
    #[track_caller]
    pub fn client_of_stub(&self, index: usize) -> Client {
        Client::new(Resolver::new().with(ORIGIN, self.stubs[index].address()))
    }

    /// The URL of a path at the origin name.
    pub fn url(&self, path: &str) -> String {
        format!("http://{ORIGIN}{path}")
    }

    /// Which backends have the file.
    #[track_caller]
    pub fn stored(&self, path: &str) -> Vec<Stored> {
        let on = |stub: &Stub| {
            let file = stub.file(path);
            let bytes = std::fs::metadata(&file).ok()?.len();
            let sha256 = data::sha256_file(&file)
                .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
            Some(Stored { backend: stub.name().to_owned(), sha256, bytes })
        };
        self.stubs.iter().filter_map(on).collect()
    }

    /// The assertion that counts: exactly one backend has the file, equal to `content`. Returns its name.
    #[track_caller]
    pub fn expect_stored(&self, path: &str, content: &Content) -> String {
        let stored = self.stored(path);
        let [only] = &stored[..] else {
            panic!("{path} should be on one backend, is on {stored:?}");
        };
        assert_eq!(only.bytes, content.len(), "{path} on {}", only.backend);
        assert_eq!(only.sha256, content.sha256(), "{path} on {}", only.backend);
        only.backend.clone()
    }

    /// The sum of all series with at least these labels, 0 when there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metrics::sum(&self.gateway().metrics(), name, labels).unwrap_or(0.0)
    }

    /// No stub ever saw a packet of a session it never created, save questions that a stranger has to disown, and no
    /// process panicked.
    #[track_caller]
    pub fn expect_healthy(&self) {
        for stub in &self.stubs {
            assert!(!stub.has_panicked(), "{} panicked\n{}", stub.name(), stub.log());
            assert_eq!(stub.foreign_packets(), 0, "packets at the wrong backend {}", stub.name());
        }
        for gateway in &self.gateways {
            let log = gateway.log();
            // Before its logs are set up, and after.
            let panics = ["panicked at", "a thread panicked"];
            assert!(!panics.iter().any(|said| log.contains(said)), "the gateway panicked");
            assert!(gateway.is_running(), "the gateway has ended");
        }
    }

    /// The ends of all logs, and the gateway's configuration.
    pub fn logs(&self) -> String {
        let folder = self.directory.path();
        let mut folders = vec![folder.to_path_buf()];
        folders.extend((2..=self.gateways.len()).map(|n| folder.join(format!("gateway{n}"))));
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let shown = |file: &&std::path::PathBuf| {
            file.extension()
                .is_some_and(|ending| ["err", "out", "toml"].iter().any(|e| ending == *e))
        };
        files.iter().filter(shown).map(|file| process::tail(file)).collect()
    }

    pub fn directory(&self) -> &TempDir {
        &self.directory
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            return;
        }
        for gateway in &self.gateways {
            let packets = gateway.packets_on_proxy();
            assert!(packets.is_empty(), "packets that the relay did not carry: {packets:?}");
        }
    }
}
