//! Who may use a listener, by address.

use std::net::IpAddr;

use super::network::Network;

/// The networks that a listener serves, and those that it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `None` is every address.
    pub allow: Option<Vec<Network>>,
    /// Counts before `allow`.
    pub deny: Vec<Network>,
    pub denial: Denial,
}

/// What a denied client sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Denial {
    /// The end of its connection. A BITS client waits and comes again, so a wrong list costs time.
    #[default]
    Close,
    /// 403. It ends an upload for good.
    Forbidden,
}

impl Access {
    pub fn admits(&self, client: IpAddr) -> bool {
        let holds = |networks: &[Network]| networks.iter().any(|network| network.contains(client));
        !holds(&self.deny) && self.allow.as_deref().is_none_or(holds)
    }

    /// Whether every client may come: nothing is listed.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Whether no client can come, as far as single networks tell: one that several of `deny` cover
    /// together counts as open.
    pub fn is_shut(&self) -> bool {
        let denied = |network: &Network| self.deny.iter().any(|deny| deny.covers(network));
        match &self.allow {
            Some(allow) => allow.iter().all(denied),
            None => Network::EVERYTHING.iter().all(denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn access(allow: Option<&[&str]>, deny: &[&str]) -> Access {
        let allow = allow.map(networks);
        Access { allow, deny: networks(deny), denial: Denial::Close }
    }

    #[track_caller]
    fn check(allow: Option<&[&str]>, deny: &[&str], admitted: &[&str], denied: &[&str]) {
        let access = access(allow, deny);
        let admits = |text: &&str| access.admits(text.parse().unwrap());
        assert!(admitted.iter().all(admits), "{access:?}");
        assert!(!denied.iter().any(admits), "{access:?}");
    }

    #[test]
    fn without_a_list_everybody_may_come() {
        check(None, &[], &["192.0.2.1", "2001:db8::1"], &[]);
        assert!(access(None, &[]).is_open());
        assert!(Access::default().is_open());
    }

    #[test]
    fn with_an_allow_list_nobody_else_may_come() {
        let allow: &[&str] = &["10.0.0.0/8", "2001:db8::/32"];
        let inside = ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"];
        check(Some(allow), &[], &inside, &["192.0.2.1", "2001:db9::1"]);
        assert!(!access(Some(allow), &[]).is_open());
    }

    #[test]
    fn a_denied_address_stays_out_whatever_allows_it() {
        check(None, &["192.0.2.0/24"], &["192.0.3.1", "::1"], &["192.0.2.1", "::ffff:192.0.2.1"]);
        check(Some(&["10.0.0.0/8"]), &["10.6.0.0/16"], &["10.5.0.1"], &["10.6.0.1", "11.0.0.1"]);
        // The longer prefix does not win.
        check(Some(&["10.6.0.7"]), &["10.6.0.0/16"], &[], &["10.6.0.7"]);
        assert!(!access(None, &["192.0.2.0/24"]).is_open());
    }

    #[test]
    fn lists_that_leave_nobody_are_seen() {
        for (allow, deny, shut) in [
            (None, &[][..], false),
            (None, &["0.0.0.0/0"], false),
            (None, &["0.0.0.0/0", "::/0"], true),
            (Some(&["10.0.0.0/8"][..]), &[], false),
            (Some(&["10.0.0.0/8"]), &["10.0.0.0/8"], true),
            (Some(&["10.0.0.0/8"]), &["10.0.0.0/9"], false),
            (Some(&["10.0.0.0/8", "192.0.2.1"]), &["0.0.0.0/0"], true),
            (Some(&["10.0.0.0/8", "::1"]), &["0.0.0.0/0"], false),
        ] {
            assert_eq!(access(allow, deny).is_shut(), shut, "{allow:?} {deny:?}");
        }
    }
}
