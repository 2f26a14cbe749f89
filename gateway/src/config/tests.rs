use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use gateway_core::protocol::ChunkedMode;
use gateway_core::protocol::head::HeadLimits;
use gateway_core::routing::{Placement, UnknownSession};
use gateway_core::session::limits::PerClient;
use gateway_core::session::lost_close::LostClose;
use gateway_core::session::opening::IdPolicy;

use super::*;
use crate::sessions::names::NamesMode;
use crate::sessions::store::{OnError, SyncMode};

const SMALLEST: &str = r#"
[listeners.public]
address = "[::]:8080"
[[backends]]
name = "up01"
address = "10.0.0.11:80"
"#;

fn with(more: &str) -> Config {
    Config::from_toml(&format!("{SMALLEST}{more}")).unwrap_or_else(|picture| panic!("{picture}"))
}

#[test]
fn the_smallest_file_gets_the_documented_defaults() {
    let seconds = Duration::from_secs;
    let config = with("[process]\nthreads = 3\n");
    let expected = Config {
        listeners: vec![Listener {
            name: "public".into(),
            address: "[::]:8080".parse().unwrap(),
            tls: None,
            proxy_protocol: None,
            access: Access::default(),
        }],
        affinity: Affinity {
            host_id: HostIdMode::None,
            gateway_name: None,
            fallback_timeout: seconds(900),
        },
        sessions: Sessions {
            id: IdPolicy::Backend,
            idle_timeout: seconds(14 * 86_400),
            tombstone: seconds(86_400),
            limit: 1_000_000,
            limit_per_client: PerClient::OneIn(4),
            bind: Bind::None,
            unknown: UnknownSession::Ask,
            ask_rate: 100,
            ask_patience: seconds(3600),
            shared_farm: false,
            lost_close: LostClose::Verify,
            lost_close_after: seconds(3600),
        },
        store: Store::Sqlite(SqliteStore {
            path: "/var/lib/bits-gateway".into(),
            sync: SyncMode::Power,
            on_error: OnError::Refuse,
            slow: seconds(2),
            names: NamesMode::Off,
            names_keep: seconds(30 * 86_400),
        }),
        failover: Failover {
            hold: seconds(20),
            restart_after: seconds(24 * 3600),
            reassign_after: seconds(60),
            then: Then::Restart,
        },
        placement: PlacementConfig { policy: Placement::LeastSessions, hash_key: HashKey::Target },
        backends: vec![BackendConfig {
            tls: None,
            name: "up01".into(),
            address: BackendAddress { host: "10.0.0.11".into(), port: 80 },
            weight: 1,
            alias: None,
            public_name: None,
            connections: BackendConnections::Shared,
            health: ProbeConfig {
                kind: ProbeKind::Tcp,
                path: "/".into(),
                host: None,
                interval: seconds(5),
                timeout: seconds(2),
                rise: 2,
                fall: 3,
            },
        }],
        health: HealthConfig {
            passive_failures: 3,
            passive_errors: 5,
            retry_after: seconds(30),
            slow_start: seconds(0),
            disk_full_for: seconds(60),
            create_wait: seconds(3),
            ping_folders: true,
            resolve: seconds(30),
        },
        http: Http {
            hosts: vec![],
            origin: None,
            upstream_host: UpstreamHost::Origin,
            method_override: false,
            methods: vec![],
            raw_path: RawPath::Refuse,
            reply_url: ReplyUrl::Pass,
            request_id: RequestId::Own,
            forwarded: ForwardedMode::XForwardedFor,
            trusted_proxies: vec![],
            via: false,
            forwarded_host: false,
        },
        limits: Limits {
            head: HeadLimits { head_bytes: 80 * 1024, line_bytes: 8 * 1024, fields: 100 },
            connections: 20_000,
            connections_per_address: PerClient::OneIn(2),
            bound_connections: 10_000,
            backend_connections: 0,
            chunked: ChunkedMode::Refuse,
            fragment: None,
            upload: None,
            bandwidth: None,
            bandwidth_per_client: None,
            drain_bytes: 64 << 20,
            body_memory: 64 << 20,
        },
        timeouts: Timeouts {
            handshake: Duration::from_secs(10),
            client_head: seconds(15),
            client_body: seconds(130),
            client_idle: seconds(75),
            client_write: seconds(60),
            connect: seconds(5),
            answer_long: seconds(310),
            answer: seconds(60),
            ask: seconds(10),
            backend_write: seconds(60),
            backend_idle: seconds(90),
            shutdown: seconds(300),
            shutdown_delay: seconds(0),
        },
        ops: Ops { address: Some("127.0.0.1:9080".parse().unwrap()), public: false },
        admin: Admin {
            socket: None,
            socket_mode: SocketMode::Owner,
            address: None,
            tls: None,
            hosts: Vec::new(),
            token_file: None,
            viewer_token_file: None,
        },
        log: Log {
            level: Level::Info,
            format: LogFormat::Json,
            access: AccessLogPlace::Stdout,
            access_filter: AccessFilter::All,
        },
        process: Process { threads: 3, upgrade_socket: UpgradeSocket::Auto, watch_config: false },
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_reaches_its_field() {
    let config = Config::from_toml(
        r#"
        [listeners.zebra]
        address = "127.0.0.1:1"
        [listeners.ant]
        address = "127.0.0.1:0"
        [affinity]
        host_id = "direct"
        host_id_domain = "up.test"
        gateway_name = "gw.test"
        fallback_timeout = "1h"
        [sessions]
        id = "minted"
        idle_timeout = "20d"
        limit = 7
        tombstone = "2h"
        unknown = "wait"
        lost_close = "ack"
        lost_close_after = "2h"
        [store]
        kind = "sqlite"
        path = "/var/lib/gw"
        sync = "crash"
        on_error = "accept"
        slow = "500ms"
        names = "hashed"
        names_keep = "7d"
        [placement]
        policy = "hash"
        hash_key = "client"
        [[backends]]
        name = "up01"
        address = "[::1]:81"
        weight = 1000
        public_name = "p1.test"
        [[backends]]
        name = "up02"
        address = "up02.internal:82"
        host_id = "Two.test"
        public_name = "p2.test"
        health = { kind = "http", path = "/alive?x=1", host = "a.test", rise = 4, fall = 5 }
        [health]
        kind = "bits-ping"
        path = "/uploads/"
        host = "b.test"
        interval = "11s"
        timeout = "12ms"
        rise = 6
        fall = 7
        passive_failures = 0
        passive_errors = 8
        retry_after = "13s"
        slow_start = "14s"
        disk_full_for = "15s"
        create_wait = "17s"
        resolve = "16s"
        [http]
        hosts = ["Uploads.Example.com.", "other.test"]
        upstream_host = "backend"
        method_override = true
        methods = ["GET", "HEAD", "GET"]
        [limits]
        head = "16KiB"
        line = 4096
        fields = 50
        connections = 9
        chunked = "forward"
        fragment = "13MiB"
        drain = "1MB"
        [timeouts]
        client_head = "1s"
        client_body = "2s"
        client_idle = "3s"
        client_write = "4s"
        connect = "5s"
        answer_long = "300s"
        answer = "7s"
        backend_write = "8s"
        backend_idle = "9s"
        shutdown = "10s"
        shutdown_delay = "500ms"
        [ops]
        address = "off"
        [admin]
        socket = "/run/gw/admin.sock"
        socket_mode = "0660"
        address = "[::1]:9081"
        token_file = "/etc/gw/token"
        [log]
        level = "debug"
        format = "text"
        access = "/tmp/access.log"
        [process]
        threads = 1
        upgrade_socket = "/run/gw/up.sock"
        watch_config = true
        "#,
    )
    .unwrap();
    let names: Vec<&str> = config.listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["zebra", "ant"], "the order of the file");
    assert_eq!(config.affinity.host_id, HostIdMode::Direct);
    assert_eq!(config.affinity.gateway_name.as_deref(), Some("gw.test"));
    assert_eq!(config.affinity.fallback_timeout, Duration::from_secs(3600));
    assert_eq!(config.sessions.id, IdPolicy::Minted);
    assert_eq!(config.sessions.limit, 7);
    assert_eq!(config.sessions.tombstone, Duration::from_secs(2 * 3600));
    assert_eq!(config.sessions.lost_close, LostClose::Ack);
    assert_eq!(config.sessions.lost_close_after, Duration::from_secs(2 * 3600));
    let store = SqliteStore {
        path: "/var/lib/gw".into(),
        sync: SyncMode::Crash,
        on_error: OnError::Accept,
        slow: Duration::from_millis(500),
        names: NamesMode::Hashed,
        names_keep: Duration::from_secs(7 * 86_400),
    };
    assert_eq!(config.store, Store::Sqlite(store));
    let policy = config.policy();
    assert_eq!((policy.placement, policy.unknown), (Placement::Hash, UnknownSession::Wait));
    assert_eq!(config.placement.hash_key, HashKey::Client);
    let [one, two] = config.backends.as_slice() else { panic!("two backends") };
    assert_eq!((one.weight, two.weight), (1000, 1));
    assert_eq!(one.address.to_string(), "[::1]:81");
    assert_eq!(one.address.host, "[::1]", "as in a URL");
    assert_eq!(one.alias.as_deref(), Some("up01.up.test"));
    assert_eq!(two.alias.as_deref(), Some("Two.test"), "as written");
    assert_eq!(two.public_name.as_deref(), Some("p2.test"));
    let common = ProbeConfig {
        kind: ProbeKind::BitsPing,
        path: "/uploads/".into(),
        host: Some("b.test".into()),
        interval: Duration::from_secs(11),
        timeout: Duration::from_millis(12),
        rise: 6,
        fall: 7,
    };
    assert_eq!(one.health, common);
    let own = ProbeConfig {
        kind: ProbeKind::Http,
        path: "/alive?x=1".into(),
        host: Some("a.test".into()),
        rise: 4,
        fall: 5,
        ..common
    };
    assert_eq!(two.health, own);
    let health = &config.health;
    assert_eq!((health.passive_failures, health.passive_errors), (0, 8));
    let HealthConfig { retry_after, slow_start, disk_full_for, create_wait, resolve, .. } = *health;
    let seconds = [retry_after, slow_start, disk_full_for, create_wait, resolve];
    assert_eq!(seconds.map(|time| time.as_secs()), [13, 14, 15, 17, 16]);
    assert_eq!(config.http.hosts, ["uploads.example.com", "other.test"], "as keys");
    assert_eq!(config.http.origin.as_deref(), Some("Uploads.Example.com."), "as written");
    assert_eq!(config.http.upstream_host, UpstreamHost::Backend);
    assert!(config.http.method_override);
    assert_eq!(
        config.http.methods,
        [::http::Method::GET, ::http::Method::HEAD, ::http::Method::GET]
    );
    let head = HeadLimits { head_bytes: 16 << 10, line_bytes: 4096, fields: 50 };
    assert_eq!(config.limits.head, head);
    assert_eq!(config.limits.connections, 9);
    assert_eq!(config.limits.chunked, ChunkedMode::Forward);
    assert_eq!(config.limits.fragment, Some(13 << 20));
    assert_eq!(config.limits.drain_bytes, 1_000_000);
    let timeouts = &config.timeouts;
    let seconds = [
        timeouts.client_head,
        timeouts.client_body,
        timeouts.client_idle,
        timeouts.client_write,
        timeouts.connect,
        timeouts.answer_long,
        timeouts.answer,
        timeouts.backend_write,
        timeouts.backend_idle,
        timeouts.shutdown,
    ];
    assert_eq!(seconds.map(|timeout| timeout.as_secs()), [1, 2, 3, 4, 5, 300, 7, 8, 9, 10]);
    assert_eq!(timeouts.shutdown_delay, Duration::from_millis(500));
    assert_eq!(config.ops.address, None);
    let admin = Admin {
        socket: Some("/run/gw/admin.sock".into()),
        socket_mode: SocketMode::Group,
        address: Some("[::1]:9081".parse().unwrap()),
        tls: None,
        hosts: Vec::new(),
        token_file: Some("/etc/gw/token".into()),
        viewer_token_file: None,
    };
    assert_eq!(config.admin, admin);
    assert_eq!(config.admin.socket_mode.bits(), 0o660);
    assert_eq!((config.log.level, config.log.format), (Level::Debug, LogFormat::Text));
    assert_eq!(config.log.access, AccessLogPlace::File("/tmp/access.log".into()));
    assert_eq!(config.process.threads, 1);
    assert_eq!(config.process.upgrade_socket, UpgradeSocket::Path("/run/gw/up.sock".into()));
    assert!(config.process.watch_config);
}

#[test]
fn names_to_announce_turn_the_host_id_on() {
    let mode = |more: &str| with(more).affinity.host_id;
    assert_eq!(mode(""), HostIdMode::None);
    assert_eq!(mode("host_id = \"one.test\""), HostIdMode::Backend);
    assert_eq!(mode("[affinity]\nhost_id_domain = \"up.test\""), HostIdMode::Backend);
    let off = "[affinity]\nhost_id_domain = \"up.test\"\nhost_id = \"none\"";
    assert_eq!(mode(off), HostIdMode::None);
    assert_eq!(with(off).backends[0].alias.as_deref(), Some("up01.up.test"), "it still routes");
}

#[test]
fn sessions_are_kept_unless_memory_is_asked_for() {
    let kept = |more: &str| matches!(with(more).store, Store::Sqlite(_));
    assert!(kept(""));
    assert!(kept("[store]\npath = \"/var/lib/gw\""));
    assert!(!kept("[store]\nkind = \"memory\""));
}

#[test]
fn a_hosts_entry_counts_once() {
    let config = with("[http]\nhosts = [\"A.test\", \"a.test\", \"b.test.\"]");
    assert_eq!(config.http.hosts, ["a.test", "b.test"]);
}

#[test]
fn threads_follow_the_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(with("").process.threads, cores);
}

#[test]
fn the_upgrade_socket_lies_in_the_runtime_directory_or_beside_the_store() {
    let path = |word: &str, runtime: Option<&str>, store: Option<&str>| {
        let config = with(&format!("[process]\nupgrade_socket = \"{word}\""));
        let socket = config.process.upgrade_socket;
        let path = socket.path(runtime.map(OsStr::new), store.map(Path::new));
        path.map(|path| path.display().to_string())
    };
    let (run, store) = (Some("/run/gw"), Some("/var/lib/gw"));
    assert_eq!(path("auto", run, store).as_deref(), Some("/run/gw/upgrade.sock"));
    assert_eq!(path("auto", Some("/run/a:/run/b"), None).as_deref(), Some("/run/a/upgrade.sock"));
    assert_eq!(path("auto", None, store).as_deref(), Some("/var/lib/gw/upgrade.sock"));
    assert_eq!(path("auto", Some(""), None), None);
    assert_eq!(path("off", run, store), None);
    assert_eq!(path("/run/own.sock", run, store).as_deref(), Some("/run/own.sock"));
}

#[test]
fn no_text_makes_the_reader_panic() {
    // Every prefix of a rich file, and the same with a byte knocked out.
    let rich = example::example();
    for end in (0..rich.len()).step_by(7).filter(|end| rich.is_char_boundary(*end)) {
        let _ = Config::from_toml(&rich[..end]);
        let knocked = format!("{}\u{0}{}", &rich[..end], &rich[end + 1..]);
        let _ = Config::from_toml(&knocked);
    }
    for odd in
        ["\u{feff}", "[listeners.\"\"]", "[listeners.\"a b\"]\n", "\"\" = 1", "[\"\\u0000\"]"]
    {
        let _ = Config::from_toml(odd);
    }
}
