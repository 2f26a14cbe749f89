//! Every default, once, with the reason for the number.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway_core::protocol::head::HeadLimits;
use gateway_core::session::limits::PerClient;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// One and a half of the 10 minutes that a Windows client waits after an error: it meets an
/// unreachable host once or twice before it goes back to the first name. Without a timeout it
/// never would (MC-BUP 3.1.2.3).
pub const FALLBACK_TIMEOUT: Duration = Duration::from_secs(15 * MINUTE);

/// As long as IIS keeps a session without progress, and as long as a Windows job goes on trying.
pub const SESSION_IDLE_TIMEOUT: Duration = Duration::from_secs(14 * DAY);

/// Longer than a service takes to restart, and well under the 5 minutes for which a Windows client
/// waits for an answer. A 503 would cost it 10 minutes.
pub const HOLD: Duration = Duration::from_secs(20);

/// A client waits 14 days: starting over costs it more than a server that is patched, moved or
/// repaired within a day. One that is gone for good is given up by an operator.
pub const RESTART_AFTER: Duration = Duration::from_secs(24 * 60 * MINUTE);

/// Nothing is lost by going on elsewhere; a restart of a server takes less.
pub const REASSIGN_AFTER: Duration = Duration::from_secs(MINUTE);

/// Longer than a server takes that starts, or that somebody looks after who was alarmed.
pub const ASK_PATIENCE: Duration = Duration::from_secs(60 * MINUTE);

/// A client whose last Ack got lost comes again after 10 minutes, a laptop the next morning.
pub const TOMBSTONE: Duration = Duration::from_secs(DAY);

/// Sessions in the table; at some 200 bytes each, a full table takes 200 MB.
pub const SESSION_LIMIT: u64 = 1_000_000;

/// Four clients that want everything have to come together before a fifth is refused.
pub const SESSIONS_PER_CLIENT: PerClient = PerClient::OneIn(4);

/// A question costs a server less than a Fragment does. After the loss of a table, a thousand
/// uploads are back within seconds; and whoever makes ids up keeps a server busy for a few percent
/// of its time.
pub const ASK_RATE: u64 = 100;

/// As long as an update of a server takes that answers for no file meanwhile; six tries of a Windows
/// client.
pub const LOST_CLOSE_AFTER: Duration = Duration::from_secs(60 * MINUTE);

/// A server that knows a session by heart answers in milliseconds; one that is busy with uploads,
/// in seconds. What comes later is no answer, and the client comes again.
pub const ASK: Duration = Duration::from_secs(10);
/// Where a service keeps its state (FHS 3.0, 5.8).
pub const STORE_PATH: &str = "/var/lib/bits-gateway";

/// A busy disk takes some hundred milliseconds. What has taken so long may take minutes, and no
/// client shall wait for those.
pub const STORE_SLOW: Duration = Duration::from_secs(2);

/// What an operator may still ask about at the end of a month, and no longer.
pub const NAMES_KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// All backends alike.
pub const WEIGHT: u64 = 1;

/// A backend that dies without a word is found out within 15 s: three probes, the last two of
/// them sooner.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// A server that needs longer to say hello has no time for uploads either.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// One lucky answer of a server that is still starting is not enough.
pub const PROBE_RISE: u64 = 2;

/// A lost packet, and then another, is no dead server.
pub const PROBE_FALL: u64 = 3;

/// As many tries as one packet of a session makes.
pub const PASSIVE_FAILURES: u64 = 3;

/// A stopped application pool answers everything alike, so a few are enough to tell; and a few
/// clients more with an odd URL do not matter, because another backend takes the next upload.
pub const PASSIVE_ERRORS: u64 = 5;

/// Long enough for a service to restart.
pub const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Somebody has to make room, which does not happen within seconds; the next refusal renews it.
pub const DISK_FULL_FOR: Duration = Duration::from_secs(60);

/// A server opens a session within milliseconds. One that is busy for so long has enough to do.
pub const CREATE_WAIT: Duration = Duration::from_secs(3);

/// The time to live that a record has when somebody expects to move it.
pub const RESOLVE: Duration = Duration::from_secs(30);

/// Each more than IIS takes by default, so that a backend refuses before we do: 16 KiB of head
/// (http.sys `MaxRequestBytes`), 4 KiB of path and 2 KiB of query. A Kerberos ticket of Windows has
/// up to 48,000 bytes (`MaxTokenSize`), 64,000 in base64, and servers that take such are
/// configured for it. A BITS client sends a dozen fields; a proxy in front of us adds a few.
pub const HEAD: HeadLimits =
    HeadLimits { head_bytes: 80 * 1024, line_bytes: 8 * 1024, fields: 100 };

/// Twice the 10,000 idle clients that a gateway is sized for.
pub const CONNECTIONS: u64 = 20_000;

/// An office behind one address is not meant; one client that takes them all is.
pub const CONNECTIONS_PER_ADDRESS: PerClient = PerClient::OneIn(2);

/// As many clients as a gateway is sized for, should they all log in by NTLM.
pub const BOUND_CONNECTIONS: u64 = 10_000;

/// Servers differ, and the limit on open files bounds the whole.
pub const BACKEND_CONNECTIONS: u64 = 0;

/// A client in the middle of a refused Fragment reads the answer only once it has sent the rest.
/// About five times 13 MiB, the largest Fragment that Windows sends.
pub const DRAIN_BYTES: u64 = 64 * 1024 * 1024;
pub const BODY_MEMORY: u64 = 64 * 1024 * 1024;

/// A handshake has two round trips; a slow line and a slow smart card fit in many times over.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// A head is one or two segments; who needs longer is not a client.
pub const CLIENT_HEAD: Duration = Duration::from_secs(15);

/// Without a single byte. Cuts dead connections; a client that Windows throttles pauses for up to two
/// minutes inside a body, and IIS waits as long.
pub const CLIENT_BODY: Duration = Duration::from_secs(130);

/// Between two Fragments a client reads its file, and a minute of that is rare; longer than the
/// 60 s for which balancers in front of us commonly keep a connection.
pub const CLIENT_IDLE: Duration = Duration::from_secs(75);

/// A client that reads nothing of an Ack for that long is gone.
pub const CLIENT_WRITE: Duration = Duration::from_secs(60);

/// A handshake within a farm takes a millisecond; 5 s outlasts two lost SYNs (1 s and 2 s).
pub const CONNECT: Duration = Duration::from_secs(5);

/// IIS gives an application 5 minutes to take the file of a Close-Session or of the final
/// Fragment; its own answer about that has to come first.
pub const ANSWER_LONG: Duration = Duration::from_secs(310);

/// A Ping, a Create-Session or a Cancel-Session touches a directory at most.
pub const ANSWER: Duration = Duration::from_secs(60);

/// Until a backend takes the next 64 KiB: a disk that is busy, not one that is dead.
pub const BACKEND_WRITE: Duration = Duration::from_secs(60);

/// Below the 120 s after which IIS closes an idle connection, so that a Fragment hardly ever
/// goes out on a connection that is being closed.
pub const BACKEND_IDLE: Duration = Duration::from_secs(90);

/// The keep-alive that `BACKEND_IDLE` must stay below.
pub const BACKEND_KEEP_ALIVE: Duration = Duration::from_secs(120);

/// As long as a client waits for an answer: what has not ended by then, its client gave up on.
pub const SHUTDOWN: Duration = Duration::from_secs(5 * MINUTE);

/// Only a balancer in front of several gateways needs time to notice.
pub const SHUTDOWN_DELAY: Duration = Duration::ZERO;

/// Loopback, because metrics tell about a farm what strangers need not know.
pub const OPS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);

/// How long proxies in front keep a connection that they do not use: nginx, Squid and Varnish by
/// default, Apache as our documentation has it.
pub const PROXY_KEEP_ALIVE: Duration = Duration::from_secs(MINUTE);

/// Days without progress after which a Windows job gives up; no timeout of ours needs to be
/// longer, and a shorter memory of sessions than that costs uploads.
pub const JOB_LIFETIME: Duration = Duration::from_secs(14 * DAY);

/// What an application behind a server may take (IIS `BITSServerNotificationTimeout`).
pub const APPLICATION_TIME: Duration = Duration::from_secs(5 * MINUTE);
