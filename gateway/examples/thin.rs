use bits_gateway::{config::*, farm::Farm, guard::*, proxy::Gateway, sessions::Sessions as Table};
use pingora::services::Service as _;
use std::{sync::Arc, time::Duration};
struct Ev;
impl ConnectionEvents for Ev {
    fn opened(&self, _: usize) {}
    fn closed(&self, _: usize) {}
    fn refused(&self, _: &Conn, r: &Refusal) {
        eprintln!("refused {r:?}")
    }
    fn turned_away(&self, _: usize) {}
}
fn main() {
    let s = Duration::from_secs;
    let args: Vec<String> = std::env::args().collect();
    let head = gateway_core::protocol::head::HeadLimits {
        head_bytes: 32768,
        line_bytes: 8192,
        fields: 100,
    };
    let backends = args[2..]
        .iter()
        .enumerate()
        .map(|(i, a)| {
            let (h, p) = a.rsplit_once(':').unwrap();
            BackendConfig {
                name: format!("up0{}", i + 1),
                address: BackendAddress { host: h.into(), port: p.parse().unwrap() },
                weight: 1,
                alias: Some(format!("up0{}.up.test", i + 1)),
                public_name: None,
            }
        })
        .collect();
    let config = Config {
        listeners: vec![],
        affinity: Affinity {
            host_id: HostIdMode::Backend,
            gateway_name: None,
            fallback_timeout: s(900),
        },
        sessions: Sessions {
            id: SessionIdMode::Backend,
            idle_timeout: s(1209600),
            limit: 1000,
            unknown: Default::default(),
        },
        placement: PlacementConfig {
            policy: gateway_core::routing::Placement::RoundRobin,
            hash_key: HashKey::Target,
        },
        backends,
        http: Http {
            hosts: vec![],
            origin: None,
            upstream_host: UpstreamHost::Origin,
            method_override: false,
        },
        limits: Limits {
            head,
            connections: 1000,
            chunked: ChunkedMode::Refuse,
            fragment: None,
            drain_bytes: 1 << 26,
        },
        timeouts: Timeouts {
            client_head: s(15),
            client_body: s(60),
            client_idle: s(75),
            connect: s(5),
            answer_long: s(310),
            answer: s(60),
            backend_write: s(60),
            backend_idle: s(90),
            client_write: s(60),
            shutdown: s(300),
            shutdown_delay: s(0),
        },
        ops: Ops { address: None },
        log: Log { access: AccessLog::Off },
        process: Process { threads: 2 },
    };
    let rt = tokio::runtime::Runtime::new().unwrap();
    let farm = rt.block_on(Farm::build(&config)).unwrap();
    let table = Table::new(config.backends.len(), 1000);
    let limits =
        GuardLimits { head, head_timeout: s(15), drain_bytes: 1 << 26, method_override: false };
    let conf = Arc::new(pingora::server::configuration::ServerConf {
        max_retries: 8,
        ..Default::default()
    });
    let gw = Gateway::new(config, farm, table);
    let proxy = Arc::new(pingora::proxy::http_proxy(&conf, gw));
    let app =
        Guarded::new(proxy, Arc::new(Ev), 0, limits, Arc::new(tokio::sync::Semaphore::new(1000)));
    let mut svc = pingora::services::listening::Service::new("t".into(), app);
    svc.add_tcp(&args[1]);
    let (_tx, rx) = tokio::sync::watch::channel(false);
    rt.block_on(svc.start_service(None, rx, 1));
}
