//! Browsers that have shown a token, and go on with a cookie.
//!
//! The cookie is a random name and never the token, so what a browser keeps is of no use after it was
//! signed out, after [`LIFE`], or after a restart: names are in memory only, and as digests.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::access::Role;

/// A shift and the way home.
pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// Only with TLS, only for this host and no other, says the prefix to the browser.
const NAME: &str = "__Host-bits-gateway";

/// Of each role, more than there are. The oldest makes room.
const MOST: usize = 256;

/// What is remembered in place of a name.
pub type Known = [u8; 32];

#[derive(Default)]
pub struct SignedIn(Mutex<HashMap<Known, Visit>>);

#[derive(Debug, Clone, Copy)]
struct Visit {
    role: Role,
    /// By the steady clock.
    since: Duration,
}

impl SignedIn {
    /// Lets a browser in, and returns the `Set-Cookie` that it has to bring back.
    pub fn begin(&self, role: Role, now: Duration) -> String {
        let name = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut visits = self.0.lock();
        visits.retain(|_, visit| visit.is_good(now));
        let same = || visits.iter().filter(|(_, visit)| visit.role == role);
        if same().count() >= MOST
            && let Some(oldest) = same().min_by_key(|(_, visit)| visit.since)
        {
            let oldest = *oldest.0;
            visits.remove(&oldest);
        }
        visits.insert(known(&name), Visit { role, since: now });
        cookie(&name, LIFE)
    }

    /// Whom the cookie of a request speaks for.
    pub fn find(&self, headers: &HeaderMap, now: Duration) -> Option<(Known, Role)> {
        let mut all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = all.by_ref().flat_map(|value| value.split(';'));
        let mut names = pairs.filter_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='));
        let known = known(names.next()?);
        self.role(&known, now).map(|role| (known, role))
    }

    /// What it may do, while it is signed in.
    pub fn role(&self, known: &Known, now: Duration) -> Option<Role> {
        let visits = self.0.lock();
        visits.get(known).filter(|visit| visit.is_good(now)).map(|visit| visit.role)
    }

    /// Signs it out, and returns the `Set-Cookie` that makes the browser forget.
    pub fn end(&self, known: &Known) -> String {
        self.0.lock().remove(known);
        cookie("", Duration::ZERO)
    }
}

impl Visit {
    fn is_good(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) < LIFE
    }
}

/// Compared by their digests, names say nothing by the time that it takes.
fn known(name: &str) -> Known {
    Sha256::digest(name).into()
}

fn cookie(name: &str, life: Duration) -> String {
    let life = life.as_secs();
    format!("{NAME}={name}; Path=/; Max-Age={life}; Secure; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    /// What a browser brings back for a `Set-Cookie`.
    fn back(set: &str) -> HeaderMap {
        let pair = set.split(';').next().expect("a cookie has a name");
        let value = format!("other=1; {pair}").parse().expect("a header");
        HeaderMap::from_iter([(COOKIE, value)])
    }

    #[test]
    fn a_cookie_ends_after_its_life_and_with_the_sign_out() {
        let signed_in = SignedIn::default();
        let headers = back(&signed_in.begin(Role::Viewer, NOW));
        let (known, role) = signed_in.find(&headers, NOW).expect("it is known");
        assert_eq!(role, Role::Viewer);
        let almost = NOW + LIFE - Duration::from_secs(1);
        assert!(signed_in.find(&headers, almost).is_some());
        assert!(signed_in.find(&headers, NOW + LIFE).is_none());
        assert!(signed_in.end(&known).contains("Max-Age=0;"));
        assert!(signed_in.find(&headers, NOW).is_none());
        assert!(SignedIn::default().find(&headers, NOW).is_none(), "another process");
    }

    #[test]
    fn the_cookie_is_for_this_host_and_tls_alone() {
        let set = SignedIn::default().begin(Role::Operator, NOW);
        for part in ["__Host-", "Path=/", "Secure", "HttpOnly", "SameSite=Strict", "=43200;"] {
            assert!(set.contains(part), "{part}: {set}");
        }
        assert!(!set.contains("Domain"), "{set}");
    }

    #[test]
    fn the_oldest_makes_room() {
        let signed_in = SignedIn::default();
        let first = back(&signed_in.begin(Role::Viewer, NOW));
        let later = |n: usize| NOW + Duration::from_secs(n as u64);
        let others: Vec<_> =
            (1..=MOST).map(|n| back(&signed_in.begin(Role::Viewer, later(n)))).collect();
        assert!(signed_in.find(&first, later(MOST)).is_none());
        assert!(others.iter().all(|one| signed_in.find(one, later(MOST)).is_some()));
    }

    #[test]
    fn viewers_put_no_operator_out() {
        let signed_in = SignedIn::default();
        let operator = back(&signed_in.begin(Role::Operator, NOW));
        let then = NOW + Duration::from_secs(1);
        (0..=MOST).for_each(|_| drop(signed_in.begin(Role::Viewer, then)));
        assert!(signed_in.find(&operator, then).is_some());
    }
}
