//! Who may use a listener: the table `access` of `[listeners.NAME]`.

use gateway_core::protocol::access::{Access, Denial};

use super::draft::{Broken, SectionValues};
use super::keys::{Applies, DefaultValue, Key, word};
use super::kind::{Kind, Value};
use super::names::named;

pub const ALLOW: Key = Key {
    name: "access.allow",
    kind: Kind::Networks { least: 1 },
    default: DefaultValue::Unset {
        meaning: "every address",
        sample: "[\"10.0.0.0/8\", \"2001:db8::/32\"]",
    },
    applies: Applies::Reload,
    about: "Addresses and networks whose clients are served; others are denied. Behind a proxy of \
            `http.trusted_proxies` or `proxy_protocol.trusted` it is the client's address that counts. \
            Clients of `/readyz` on this listener (`ops.public`), such as kubelets, have to be listed too.",
};
pub const DENY: Key = Key {
    name: "access.deny",
    kind: Kind::Networks { least: 0 },
    default: DefaultValue::Is(Value::Texts(Vec::new())),
    applies: Applies::Reload,
    about: "Addresses and networks whose clients are denied, whatever `access.allow` says. \
            Behind a proxy of `http.trusted_proxies` or `proxy_protocol.trusted` it is the client's address \
            that counts, and not the proxy's own.",
};
pub const ANSWER: Key = Key {
    name: "access.answer",
    kind: word::<Denial>(),
    default: DefaultValue::word("close"),
    applies: Applies::Reload,
    about: "What a denied client sees.",
};

pub fn build(table: &SectionValues) -> Result<Access, Broken> {
    let networks = |texts: Vec<String>| texts.iter().filter_map(|text| text.parse().ok()).collect();
    Ok(Access {
        allow: table.find(ALLOW.name)?.map(networks),
        deny: networks(table.get(DENY.name)?),
        denial: table.get(ANSWER.name)?,
    })
}

named!(Denial {
    Close = "close": "the end of its connection, before TLS where its address is known by then: BITS waits and comes again",
    Forbidden = "403": "403, which ends an upload for good",
});
