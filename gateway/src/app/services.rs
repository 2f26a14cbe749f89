//! The services that carry traffic, one per listener.

use std::sync::Arc;

use pingora::server::configuration::ServerConf;
use pingora::services::ServiceWithDependents;
use tokio_util::task::TaskTracker;

use super::apply::Limits;
use crate::config::Config;
use crate::exchange::Gateway;
use crate::exchange::report::Reporter;
use crate::farm::pool;
use crate::guard::{Addresses, BodyMemory, Carrier, Guarded, Handshake, ListenerContext, Room};
use crate::process::listening::{Service, Threads};
use crate::process::supervisor::{DrainingService, Listening, Shutdown};
use crate::proxy::{Proxy, TRIES, take_place};
use crate::relay::Relay;
use crate::relay::upstream::Servers;
use crate::tls;

/// What a connection passes before its first request, and by what its end is noticed.
pub(super) struct ListenerSetup {
    /// In the order of the listeners.
    pub handshakes: Vec<Handshake>,
    pub limits: Limits,
    pub room: Arc<Room>,
    pub open: TaskTracker,
    pub shutdown_state: Shutdown,
}

pub(super) fn services(
    config: &Config,
    gateway: Gateway,
    reporter: &Reporter,
    servers: &Arc<Servers>,
    setup: &ListenerSetup,
    listening: &[Listening],
    threads: &Threads,
) -> Vec<Box<dyn ServiceWithDependents>> {
    let conf = Arc::new(ServerConf {
        threads: config.process.threads,
        max_retries: TRIES,
        upstream_keepalive_pool_size: pool::size_per_thread(config),
        ..ServerConf::default()
    });
    let gateway = Arc::new(gateway);
    let relay =
        Relay::new(Arc::clone(&gateway), Arc::clone(servers), pool::size_per_thread(config));
    let carrier: Arc<dyn Carrier> = Arc::new(relay);
    let places = take_place(Arc::clone(servers));
    let proxy = Arc::new(tls::proxy(&conf, Proxy::new(gateway, Arc::clone(servers)), places));
    let events = Arc::new(reporter.clone());
    let addresses = Arc::new(Addresses::default());
    let bodies = Arc::new(BodyMemory::default());
    let one = |(index, listening): (usize, &Listening)| {
        let guarded = Guarded::new(
            Arc::clone(&proxy),
            Arc::clone(&events),
            index,
            setup.handshakes.get(index).cloned().unwrap_or_default(),
            Arc::clone(&setup.limits),
            setup.open.clone(),
        )
        .at(ListenerContext {
            room: Arc::clone(&setup.room),
            addresses: Arc::clone(&addresses),
            bodies: Arc::clone(&bodies),
            port: Some(listening.address.port().into()),
            shutdown_state: setup.shutdown_state.clone(),
        })
        .with(Arc::clone(&carrier));
        let patient = DrainingService::new(guarded, setup.shutdown_state.clone());
        let mut service = Service::new(listening.name.clone(), patient, threads);
        service.listen(listening.address);
        Box::new(service) as Box<dyn ServiceWithDependents>
    };
    listening.iter().enumerate().map(one).collect()
}
