use std::time::Duration;

use gateway_core::farm::{AdminState, Health};
use gateway_core::protocol::SessionId;
use gateway_core::protocol::host::Host;
use gateway_core::session::{Binding, EndReason, Pin, Progress, TargetHash, Timestamp};

use super::*;

fn config(backends: &[(&str, u16, &str)], more: &str) -> Config {
    let mut text = format!("[listeners.public]\naddress = \"127.0.0.1:0\"\n{more}\n");
    for (name, port, keys) in backends {
        text +=
            &format!("[[backends]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n{keys}\n");
    }
    Config::from_toml(&text).unwrap_or_else(|picture| panic!("{picture}"))
}

const DOMAIN: &str = "[affinity]\nhost_id_domain = \"up.test\"\n[http]\nhosts = [\"up.test\"]";

fn backend_registry(first: &Config) -> BackendRegistry {
    let ids = Arc::new(BackendIds::of(first.backends.iter().map(|b| b.name.as_str())));
    let farm = Farm::build(Arc::new(first.clone()), &ids, &[], None).unwrap();
    let weights: Vec<_> =
        first.backends.iter().map(|b| (ids.intern(&b.name), b.name.clone(), b.weight)).collect();
    let metrics = Metrics::new(&[], &weights);
    let certificates =
        Certificates::start_watching(&metrics, &Events::default(), &[], farm.reloadables());
    let sessions = Sessions::new(100, Duration::from_secs(60));
    BackendRegistry::new(ids, farm, sessions, metrics, certificates, Events::default())
}

impl BackendRegistry {
    async fn open(&self, id: &str, backend: &str) {
        let pin = Pin {
            backend: self.ids.intern(backend),
            backend_session: None,
            binding: Binding::unspelled(TargetHash(1)),
            created: Timestamp(0),
            subject: None,
        };
        let key = SessionId::parse(id).unwrap().key().clone();
        self.sessions.pin(key, pin, Progress::default(), Duration::ZERO).await.unwrap();
    }

    async fn close(&self, id: &str) {
        let key = SessionId::parse(id).unwrap().key().clone();
        self.sessions.unpin(&key, EndReason::Closed, Duration::ZERO).await.unwrap();
    }

    /// Names in the picture, and whether each may get new sessions.
    fn shown(&self) -> Vec<(String, bool)> {
        let farm = self.farm.load();
        let one = |backend: &gateway_core::farm::Backend| {
            (backend.name.to_string(), backend.is_eligible())
        };
        farm.view.backends().iter().map(one).collect()
    }

    fn alias(&self, host: &str) -> Option<BackendId> {
        self.farm.load().view.alias(&Host::parse(host).unwrap())
    }

    fn accepts(&self, host: &str) -> bool {
        self.farm.load().accepts(&Host::parse(host).unwrap())
    }
}

fn shown(names: &[(&str, bool)]) -> Vec<(String, bool)> {
    names.iter().map(|(name, eligible)| ((*name).to_owned(), *eligible)).collect()
}

#[tokio::test]
async fn a_removed_backend_stays_for_its_sessions_and_gets_no_new_ones() {
    let two = config(&[("a", 1001, ""), ("b", 1002, "")], DOMAIN);
    let one = config(&[("a", 1001, "")], DOMAIN);
    let backend_registry = backend_registry(&two);
    backend_registry.open("s1", "b").await;
    backend_registry.apply(&one).unwrap();
    backend_registry.tidy();
    let b = backend_registry.ids.find("b").unwrap();
    assert_eq!(backend_registry.shown(), shown(&[("a", true), ("b", false)]));
    assert!(backend_registry.farm.load().is_leaving(b));
    assert_eq!(backend_registry.health.standing(b).0, AdminState::Drain);
    assert_eq!(backend_registry.alias("b.up.test"), Some(b));
    assert!(backend_registry.accepts("b.up.test"), "http.hosts is set");
    assert!(backend_registry.metrics.encode().contains("backend=\"b\""));
    backend_registry.close("s1").await;
    backend_registry.tidy();
    assert_eq!(backend_registry.shown(), shown(&[("a", true)]));
    assert_eq!(backend_registry.alias("b.up.test"), None);
    assert!(!backend_registry.accepts("b.up.test"));
    assert!(backend_registry.health.get(b).is_none(), "not probed any more");
    assert!(!backend_registry.metrics.encode().contains("backend=\"b\""));
}

#[tokio::test]
async fn a_backend_that_comes_back_has_its_id_and_its_state_again() {
    let two = config(&[("a", 1001, ""), ("b", 1002, "")], DOMAIN);
    let one = config(&[("a", 1001, "")], DOMAIN);
    let backend_registry = backend_registry(&two);
    let b = backend_registry.ids.find("b").unwrap();
    backend_registry.open("s1", "b").await;
    backend_registry.health.set_admin(b, AdminState::Maintenance);
    assert!(!backend_registry.farm.load().view.backend(b).unwrap().is_reachable());
    backend_registry.apply(&one).unwrap();
    assert!(
        backend_registry.farm.load().view.backend(b).unwrap().is_reachable(),
        "for its sessions"
    );
    // The order of the file is another.
    backend_registry
        .apply(&config(&[("c", 1003, ""), ("b", 1002, ""), ("a", 1001, "")], DOMAIN))
        .unwrap();
    assert_eq!(backend_registry.ids.find("b"), Some(b));
    assert_eq!(
        backend_registry.health.standing(b).0,
        AdminState::Maintenance,
        "as people had decided"
    );
    assert!(!backend_registry.farm.load().is_leaving(b));
    assert_eq!(backend_registry.farm.load().address(b), Some("127.0.0.1:1002".parse().unwrap()));
}

#[tokio::test]
async fn a_session_that_turns_up_late_brings_its_backend_back() {
    let backend_registry = backend_registry(&config(&[("a", 1001, ""), ("b", 1002, "")], ""));
    backend_registry.apply(&config(&[("a", 1001, "")], "")).unwrap();
    backend_registry.tidy();
    assert_eq!(backend_registry.shown(), shown(&[("a", true)]));
    backend_registry.open("s1", "b").await;
    backend_registry.tidy();
    assert_eq!(backend_registry.shown(), shown(&[("a", true), ("b", false)]));
}

#[tokio::test]
async fn a_name_that_clients_were_told_goes_on_to_lead_to_its_backend() {
    let backend_registry = backend_registry(&config(&[("a", 1001, ""), ("b", 1002, "")], DOMAIN));
    let a = backend_registry.ids.find("a").unwrap();
    let other = DOMAIN.replace("up.test", "new.test");
    backend_registry.apply(&config(&[("a", 1001, ""), ("b", 1002, "")], &other)).unwrap();
    assert_eq!(
        (backend_registry.alias("a.up.test"), backend_registry.alias("a.new.test")),
        (Some(a), Some(a))
    );
    assert!(backend_registry.accepts("a.up.test") && !backend_registry.accepts("up.test"));
    let farm = backend_registry.farm.load();
    assert!(farm.accepted_before(&Host::parse("up.test").unwrap()), "for what is under way");
    assert!(!farm.accepted_before(&Host::parse("evil.test").unwrap()));
    drop(farm);
    // A backend that is given the name of another gets it.
    let keys = "host_id = \"a.up.test\"";
    backend_registry.apply(&config(&[("a", 1001, ""), ("b", 1002, keys)], &other)).unwrap();
    assert_eq!(backend_registry.alias("a.up.test"), backend_registry.ids.find("b"));
}

#[tokio::test]
async fn a_backend_whose_name_has_no_address_is_down_and_the_others_are_not() {
    let nowhere = |port| {
        let mut config = config(&[("a", 1001, "weight = 7"), ("b", port, "")], "");
        config.backends[1].address.host = "no such name".to_owned();
        config
    };
    let check = |backend_registry: &BackendRegistry| {
        let farm = backend_registry.farm.load();
        let b = backend_registry.ids.find("b").unwrap();
        let health: Vec<_> = farm.view.backends().iter().map(|backend| backend.health).collect();
        assert_eq!(health, [Health::Up, Health::Down]);
        assert!(farm.address(b).is_none() && farm.peer(b).is_none());
    };
    let started = backend_registry(&nowhere(1002));
    check(&started);
    let reloaded = backend_registry(&config(&[("a", 1001, ""), ("b", 1002, "")], ""));
    let b = reloaded.ids.find("b").unwrap();
    assert!(reloaded.farm.load().peer(b).is_some());
    reloaded.apply(&nowhere(1003)).unwrap();
    check(&reloaded);
    reloaded.apply(&config(&[("a", 1001, ""), ("b", 1002, "")], "")).unwrap();
    assert!(reloaded.farm.load().peer(b).is_some());
}

#[tokio::test]
async fn weights_addresses_and_limits_count_from_the_next_request_on() {
    let backend_registry = backend_registry(&config(&[("a", 1001, ""), ("b", 1002, "")], ""));
    let a = backend_registry.ids.find("a").unwrap();
    let held = backend_registry.farm.load_full();
    let new = config(&[("a", 2001, "weight = 5"), ("b", 1002, "")], "[sessions]\nlimit = 7");
    backend_registry.apply(&new).unwrap();
    let farm = backend_registry.farm.load();
    assert_eq!(farm.view.backend(a).unwrap().weight, 5);
    assert_eq!(farm.view.backend(a).unwrap().health, Health::Up);
    assert_eq!(farm.address(a), Some("127.0.0.1:2001".parse().unwrap()));
    assert_eq!(held.address(a), Some("127.0.0.1:1001".parse().unwrap()), "for those under way");
    assert_eq!(backend_registry.sessions.limit(), 7);
    assert!(backend_registry.metrics.encode().contains("bitsgw_backend_weight{backend=\"a\"} 5"));
}
