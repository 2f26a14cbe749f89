//! Logins while connections to the server break at any moment, and while it dies.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use e2e_tests::data::Chance;
use e2e_tests::farm::Farm;
use e2e_tests::fault_link::{Cut, FaultLink};
use e2e_tests::ports::Port;
use e2e_tests::wait;

use super::server::{Book, claimed, log_in, login_server, login_server_at};
use crate::packets::{Servers, ping};

const CLIENTS: usize = 50;

/// So many requests are to be served, in all, and so many cuts are to be made.
const REQUESTS: usize = 1500;
const CUTS: usize = 30;

const DEATHS: usize = 20;

/// Item 90.
///
/// Threat: T4.
#[test]
fn nobody_is_served_as_somebody_else_while_connections_break() {
    let chance = Chance::new(e2e_tests::data::seed("logins under chaos"));
    let (backend, book) = login_server(|_| None);
    let link = FaultLink::to(backend.address());
    link.random_cuts(chance.fork(0).next_u64(), 20, 4_000);
    let farm = Farm::of_stubs(0)
        .backend("up01", link.address())
        .set("process.threads", "4")
        .set("failover.hold", "\"0s\"")
        // The link also breaks connections that are just being made, and the server is not down for that.
        .set("health.passive_failures", "100")
        .start();
    let servers = Servers { farm, backends: vec![backend] };
    let (served, cuts, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (servers, served, over) = (&servers, &served, &over);
            let chance = chance.fork(1 + number as u64);
            scope.spawn(move || be_served(servers, &format!("user{number}"), chance, served, over));
        }
        // However this ends, the clients end too.
        let _over = Over(&over);
        let mut chance = chance.fork(1_000);
        wait::until("enough was served and enough was cut", || {
            // Not all at once: between two cuts there has to be time for a login.
            let (served, done) = (served.load(Ordering::Relaxed), cuts.load(Ordering::Relaxed));
            if served >= done * REQUESTS / CUTS {
                link.cut(*chance.pick(&[Cut::Fin, Cut::Reset]));
                cuts.fetch_add(1, Ordering::Relaxed);
            }
            done >= CUTS && served >= REQUESTS
        });
    });
    expect_clean(&book);
    servers.farm.expect_healthy();
}

/// A login is not continued at a server that has begun anew, whatever the gateway reads anew meanwhile.
///
/// Item 90.
///
/// Threat: T4.
#[test]
fn nobody_is_served_as_somebody_else_while_the_server_dies() {
    let chance = Chance::new(e2e_tests::data::seed("logins of a server that dies"));
    let port = Port::reserve();
    let farm = Farm::of_stubs(0)
        .backend("up01", port.address())
        .set("process.threads", "4")
        .set("failover.hold", "\"0s\"")
        .set("health.passive_failures", "0")
        .start();
    let servers = Servers { farm, backends: Vec::new() };
    let (served, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut books = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (servers, served, over) = (&servers, &served, &over);
            let chance = chance.fork(1 + number as u64);
            scope.spawn(move || be_served(servers, &format!("user{number}"), chance, served, over));
        }
        let _over = Over(&over);
        for life in 1..=DEATHS {
            let (server, book) = login_server_at(port.address(), |_| None);
            books.push(book);
            wait::until("enough was served", || {
                served.load(Ordering::Relaxed) >= life * REQUESTS / DEATHS
            });
            if life % 4 == 0 {
                assert!(servers.farm.gateway().reload());
            }
            // The listener and all connections end at once.
            drop(server);
        }
    });
    books.iter().for_each(expect_clean);
    servers.farm.expect_healthy();
    wait::until("nothing is bound", || servers.farm.metric("bitsgw_bound_connections", &[]) == 0.0);
}

/// Logs in and asks, again and again. Whatever comes: the server judges.
fn be_served(
    servers: &Servers,
    user: &str,
    mut chance: Chance,
    served: &AtomicUsize,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let mut connection = servers.connect();
        if !log_in(&mut connection, &ping("/a"), user).is_ok_and(|a| a.status == 200) {
            continue;
        }
        for _ in 0..chance.between(1, 30) {
            match connection.exchange(&claimed(&ping("/a"), user).bytes()) {
                Ok(answer) if answer.status == 200 => {
                    served.fetch_add(1, Ordering::Relaxed);
                }
                _ => break,
            }
        }
    }
}

fn expect_clean(book: &Arc<Mutex<Book>>) {
    let book = book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(book.leaks.is_empty(), "{:?}", book.leaks);
    assert!(book.torn.is_empty(), "{:?}", book.torn);
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
