//! Pingora's services, one per traffic listener.

use std::sync::Arc;

use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::ServerConf;
use pingora::services::ServiceWithDependents;
use pingora::services::listening::Service;

use super::apply::Limits;
use crate::config::Config;
use crate::exchange::Gateway;
use crate::exchange::report::Reporter;
use crate::guard::{Addresses, BodyMemory, Door, Entrance, Guarded, Room};
use crate::pool;
use crate::proxy::{Proxy, TRIES};
use crate::supervisor::{Farewell, InFlight, Listening, Patient};
use crate::tls;

/// Held for every connection and never used: whoever reads from a socket here asks for more.
const READ_BUFFER: usize = 256;

/// What a connection passes before its first request.
pub(super) struct WayIn {
    /// In the order of the listeners.
    pub doors: Vec<Door>,
    pub limits: Limits,
    pub room: Arc<Room>,
}

/// One service per listener: Pingora hides the end of one endpoint of several.
pub(super) fn services(
    config: &Config,
    gateway: Gateway,
    reporter: &Reporter,
    open: &InFlight,
    patience: &Farewell,
    way_in: &WayIn,
    listening: &[Listening],
) -> Vec<Box<dyn ServiceWithDependents>> {
    let conf = Arc::new(ServerConf {
        threads: config.process.threads,
        max_retries: TRIES,
        upstream_keepalive_pool_size: pool::size_per_thread(config),
        ..ServerConf::default()
    });
    let proxy = Arc::new(tls::proxy(&conf, Proxy::new(Arc::new(gateway))));
    let events = Arc::new(reporter.clone());
    let addresses = Arc::new(Addresses::default());
    let bodies = Arc::new(BodyMemory::default());
    let one = |(index, listening): (usize, &Listening)| {
        let guarded = Guarded::new(
            Arc::clone(&proxy),
            Arc::clone(&events),
            index,
            way_in.doors.get(index).cloned().unwrap_or_default(),
            Arc::clone(&way_in.limits),
            open.clone(),
        )
        .at(Entrance {
            room: Arc::clone(&way_in.room),
            addresses: Arc::clone(&addresses),
            bodies: Arc::clone(&bodies),
            port: Some(listening.address.port().into()),
            farewell: patience.clone(),
        });
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
