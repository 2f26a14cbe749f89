//! The section `[ops]`: the listener for operators and their machines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::draft::SectionValues;
use super::keys::{DefaultValue, NO_LISTENER};
use super::kind::{Kind, Value};
use super::section::section;

section! {
    pub struct Ops in "ops";
    about: "The listener for operators: `/metrics`, `/livez`, `/readyz`, `/health`, `/version`. It \
            is read-only and asks for no password.";
    later: &["tls"];

    address: Option<SocketAddr> = SectionValues::unless_off {
        kind: Kind::WordOr(NO_LISTENER, &Kind::Socket),
        // Loopback, because metrics tell about a farm what strangers need not know.
        default: DefaultValue::Is(Value::Socket(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080))),
        applies: Restart,
        about: "The IP address and port to listen on.",
    }

    /// The listeners for clients answer `/livez` and `/readyz` too.
    public: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(false),
        applies: Restart,
        about: "Whether the listeners for clients answer GET, HEAD and OPTIONS of `/livez` and \
                `/readyz` too, for balancers that can only ask where they send requests. No \
                backend gets these requests then. See docs/behind-a-balancer.md.",
    }
}
