//! Logins by NTLM through proxies: they are of one connection, and proxies have their own connections.

use std::net::Ipv4Addr;
use std::thread;

use e2e_tests::client::Connection;

use super::front::{Front, configured_for};
use crate::logins::server::{Guarded, claimed, log_in};
use crate::packets::{TARGET, ping};

const CLIENTS: u8 = 8;
const REQUESTS: usize = 10;

/// Clients at once, each from an address of its own. Returns the requests that were served after a login.
#[track_caller]
fn served(name: &str) -> usize {
    let guarded = Guarded::start(|farm| configured_for(name, farm.plain()));
    let farm = &guarded.servers.farm;
    let front = &Front::start(name, farm.entrance(), farm.gateway().listener("ops"));
    let client = |number: u8| {
        let user = format!("user{number}");
        let source = Ipv4Addr::new(127, 0, 0, number + 2);
        let mut connection = Connection::open_from(source, front.address()).expect("a connection");
        if log_in(&mut connection, &ping(TARGET), &user).map_or(0, |answer| answer.status) != 200 {
            return 0;
        }
        let packet = claimed(&ping(TARGET), &user).bytes();
        let answers = (0..REQUESTS).map_while(|_| connection.exchange(&packet).ok());
        answers.filter(|answer| answer.status == 200).count()
    };
    let served = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).sum()
    });
    let stranger = claimed(&ping(TARGET), "stranger").bytes();
    for _ in 0..20 {
        let source = Ipv4Addr::new(127, 0, 0, 99);
        let mut connection = Connection::open_from(source, front.address()).expect("a connection");
        let answer = connection.exchange(&stranger).expect("an answer");
        assert_eq!(answer.status, 401, "{name}: {}", answer.head);
    }
    assert!(guarded.book().leaks.is_empty(), "{name}: {:?}", guarded.book().leaks);
    served
}

/// Where the proxy mixes its clients, they have to log in again and again, but never as another.
#[track_caller]
pub fn no_login_is_lent(name: &str) {
    let requests = usize::from(CLIENTS) * REQUESTS;
    println!("{name}: {} of {requests} requests had their login", served(name));
}

/// Where each client keeps its connection.
#[track_caller]
pub fn every_login_works(name: &str) {
    assert_eq!(served(name), usize::from(CLIENTS) * REQUESTS, "{name}");
}
