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

fn roster(first: &Config) -> Roster {
    let ids = Arc::new(BackendIds::of(first.backends.iter().map(|b| b.name.as_str())));
    let farm = Farm::build(Arc::new(first.clone()), &ids, &[], None).unwrap();
    let weights: Vec<_> =
        first.backends.iter().map(|b| (ids.intern(&b.name), b.name.clone(), b.weight)).collect();
    let metrics = Metrics::new(&[], &weights);
    let certificates = Certificates::keep(&metrics, &[], &farm);
    let sessions = Sessions::new(100, Duration::from_secs(60));
    Roster::new(ids, farm, sessions, metrics, certificates)
}

impl Roster {
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
    let roster = roster(&two);
    roster.open("s1", "b").await;
    roster.apply(&one).unwrap();
    roster.tidy();
    let b = roster.ids.find("b").unwrap();
    assert_eq!(roster.shown(), shown(&[("a", true), ("b", false)]));
    assert!(roster.farm.load().is_leaving(b));
    assert_eq!(roster.health.standing(b).0, AdminState::Drain);
    assert_eq!(roster.alias("b.up.test"), Some(b));
    assert!(roster.accepts("b.up.test"), "http.hosts is set");
    assert!(roster.metrics.encode().contains("backend=\"b\""));
    roster.close("s1").await;
    roster.tidy();
    assert_eq!(roster.shown(), shown(&[("a", true)]));
    assert_eq!(roster.alias("b.up.test"), None);
    assert!(!roster.accepts("b.up.test"));
    assert!(roster.health.get(b).is_none(), "not probed any more");
    assert!(!roster.metrics.encode().contains("backend=\"b\""));
}

#[tokio::test]
async fn a_backend_that_comes_back_has_its_id_and_its_state_again() {
    let two = config(&[("a", 1001, ""), ("b", 1002, "")], DOMAIN);
    let one = config(&[("a", 1001, "")], DOMAIN);
    let roster = roster(&two);
    let b = roster.ids.find("b").unwrap();
    roster.open("s1", "b").await;
    roster.health.set_admin(b, AdminState::Maint);
    assert!(!roster.farm.load().view.backend(b).unwrap().is_reachable());
    roster.apply(&one).unwrap();
    assert!(roster.farm.load().view.backend(b).unwrap().is_reachable(), "for its sessions");
    // The order of the file is another.
    roster.apply(&config(&[("c", 1003, ""), ("b", 1002, ""), ("a", 1001, "")], DOMAIN)).unwrap();
    assert_eq!(roster.ids.find("b"), Some(b));
    assert_eq!(roster.health.standing(b).0, AdminState::Maint, "as people had decided");
    assert!(!roster.farm.load().is_leaving(b));
    assert_eq!(roster.farm.load().address(b), Some("127.0.0.1:1002".parse().unwrap()));
}

#[tokio::test]
async fn a_session_that_turns_up_late_brings_its_backend_back() {
    let roster = roster(&config(&[("a", 1001, ""), ("b", 1002, "")], ""));
    roster.apply(&config(&[("a", 1001, "")], "")).unwrap();
    roster.tidy();
    assert_eq!(roster.shown(), shown(&[("a", true)]));
    roster.open("s1", "b").await;
    roster.tidy();
    assert_eq!(roster.shown(), shown(&[("a", true), ("b", false)]));
}

#[tokio::test]
async fn a_name_that_clients_were_told_goes_on_to_lead_to_its_backend() {
    let roster = roster(&config(&[("a", 1001, ""), ("b", 1002, "")], DOMAIN));
    let a = roster.ids.find("a").unwrap();
    let other = DOMAIN.replace("up.test", "new.test");
    roster.apply(&config(&[("a", 1001, ""), ("b", 1002, "")], &other)).unwrap();
    assert_eq!((roster.alias("a.up.test"), roster.alias("a.new.test")), (Some(a), Some(a)));
    assert!(roster.accepts("a.up.test") && !roster.accepts("up.test"));
    let farm = roster.farm.load();
    assert!(farm.accepted_before(&Host::parse("up.test").unwrap()), "for what is under way");
    assert!(!farm.accepted_before(&Host::parse("evil.test").unwrap()));
    drop(farm);
    // A backend that is given the name of another gets it.
    let keys = "host_id = \"a.up.test\"";
    roster.apply(&config(&[("a", 1001, ""), ("b", 1002, keys)], &other)).unwrap();
    assert_eq!(roster.alias("a.up.test"), roster.ids.find("b"));
}

#[tokio::test]
async fn a_backend_whose_name_has_no_address_is_down_and_the_others_are_not() {
    let nowhere = |port| {
        let mut config = config(&[("a", 1001, "weight = 7"), ("b", port, "")], "");
        config.backends[1].address.host = "no such name".to_owned();
        config
    };
    let check = |roster: &Roster| {
        let farm = roster.farm.load();
        let b = roster.ids.find("b").unwrap();
        let health: Vec<_> = farm.view.backends().iter().map(|backend| backend.health).collect();
        assert_eq!(health, [Health::Up, Health::Down]);
        assert!(farm.address(b).is_none() && farm.peer(b).is_none());
    };
    let started = roster(&nowhere(1002));
    check(&started);
    let reloaded = roster(&config(&[("a", 1001, ""), ("b", 1002, "")], ""));
    let b = reloaded.ids.find("b").unwrap();
    assert!(reloaded.farm.load().peer(b).is_some());
    reloaded.apply(&nowhere(1003)).unwrap();
    check(&reloaded);
    reloaded.apply(&config(&[("a", 1001, ""), ("b", 1002, "")], "")).unwrap();
    assert!(reloaded.farm.load().peer(b).is_some());
}

#[tokio::test]
async fn weights_addresses_and_limits_count_from_the_next_request_on() {
    let roster = roster(&config(&[("a", 1001, ""), ("b", 1002, "")], ""));
    let a = roster.ids.find("a").unwrap();
    let held = roster.farm.load_full();
    let new = config(&[("a", 2001, "weight = 5"), ("b", 1002, "")], "[sessions]\nlimit = 7");
    roster.apply(&new).unwrap();
    let farm = roster.farm.load();
    assert_eq!(farm.view.backend(a).unwrap().weight, 5);
    assert_eq!(farm.view.backend(a).unwrap().health, Health::Up);
    assert_eq!(farm.address(a), Some("127.0.0.1:2001".parse().unwrap()));
    assert_eq!(held.address(a), Some("127.0.0.1:1001".parse().unwrap()), "for those under way");
    assert_eq!(roster.sessions.limit(), 7);
    assert!(roster.metrics.encode().contains("bitsgw_backend_weight{backend=\"a\"} 5"));
}
