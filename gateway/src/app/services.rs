//! Pingora's services, one per traffic listener.

use std::sync::Arc;

use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::services::ServiceWithDependents;
use pingora::services::listening::Service;
use tokio::sync::Semaphore;

use super::apply::Limits;
use crate::config::Config;
use crate::guard::Guarded;
use crate::proxy::{Gateway, Reporter, TRIES};
use crate::supervisor::{Farewell, InFlight, Listening, Patient};

/// A connection that waits between requests holds this much; a body passes it by.
const READ_BUFFER: usize = 4096;

/// Idle connections kept per worker thread, over all backends.
const POOL: usize = 1024;

/// One service per listener: Pingora hides the end of one endpoint of several.
pub(super) fn services(
    config: &Config,
    gateway: Gateway,
    reporter: &Reporter,
    open: &InFlight,
    patience: &Farewell,
    limits: &Limits,
    listening: &[Listening],
) -> Vec<Box<dyn ServiceWithDependents>> {
    let conf = Arc::new(ServerConf {
        threads: config.process.threads,
        max_retries: TRIES,
        upstream_keepalive_pool_size: POOL,
        ..ServerConf::default()
    });
    let proxy = Arc::new(http_proxy(&conf, gateway));
    let events = Arc::new(reporter.clone());
    let room = Arc::new(Semaphore::new(config.limits.connections));
    let one = |(index, listening): (usize, &Listening)| {
        let guarded = Guarded::new(
            Arc::clone(&proxy),
            Arc::clone(&events),
            index,
            Arc::clone(limits),
            Arc::clone(&room),
            open.clone(),
        );
        let patient = Patient::new(guarded, patience.clone());
        let mut service = Service::new(listening.name.clone(), patient);
        // Exactly the address of the socket that was bound: Pingora finds it by this text.
        service.add_listener(
            ListenerConfig::tcp(listening.address.to_string())
                .l4_buffer(L4BufferSettings::default().read(READ_BUFFER)),
        );
        Box::new(service) as Box<dyn ServiceWithDependents>
    };
    listening.iter().enumerate().map(one).collect()
}
