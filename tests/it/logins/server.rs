//! A server that believes its connections, and clients that log in to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use e2e_tests::client::{Answer, Connection, WireError};
use e2e_tests::farm::{Farm, FarmBuilder, Tls};
use e2e_tests::pki;
use e2e_tests::raw_backend::{Moment, RawBackend, Reply, Request, agree};
use e2e_tests::temp::TempDir;
use e2e_tests::tls_link::TlsLink;

use crate::packets::{Packet, Servers};

/// The field in which a request says whose it is meant to be.
const CLAIM: &str = "X-Claim";

static LIVES: AtomicUsize = AtomicUsize::new(0);

/// What the server's connections know, and what went wrong.
#[derive(Default)]
pub struct Book {
    /// Which of the servers it is of: what one has said, another has not.
    life: usize,
    /// Who is logged in, by connection.
    users: HashMap<usize, String>,
    /// What the second leg said, by connection.
    nonces: HashMap<usize, String>,
    /// Requests that were served, or would have been, as somebody else.
    pub leaks: Vec<String>,
    /// Last legs that came over another connection than the first.
    pub torn: Vec<String>,
    /// Requests served after a login.
    pub served: usize,
}

/// A gateway in front of one such server.
pub struct Guarded {
    pub servers: Servers,
    book: Arc<Mutex<Book>>,
    _link: Option<(TlsLink, TempDir)>,
}

impl Guarded {
    #[track_caller]
    pub fn start(change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let (backend, book) = login_server(|_| None);
        Self { servers: Servers::of(vec![backend], change), book, _link: None }
    }

    /// `instead` may answer a request in the server's place.
    #[track_caller]
    pub fn with(
        instead: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
        change: impl FnOnce(FarmBuilder) -> FarmBuilder,
    ) -> Self {
        let (backend, book) = login_server(instead);
        Self { servers: Servers::of(vec![backend], change), book, _link: None }
    }

    /// Beside other servers, at its own name: `login`.
    #[track_caller]
    pub fn beside(others: &[RawBackend], change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let (backend, book) = login_server(|_| None);
        let farm = Farm::of_stubs(0).plain().backend("login", backend.address());
        let farm = others.iter().zip(1..).fold(farm, |farm, (other, number)| {
            farm.backend(&format!("up{number:02}"), other.address())
        });
        let servers = Servers { farm: change(farm).start(), backends: vec![backend] };
        Self { servers, book, _link: None }
    }

    /// TLS on both sides of the gateway.
    #[track_caller]
    pub fn over_tls(instead: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let (backend, book) = login_server(instead);
        let (link, directory) = (TlsLink::to(backend.address()), TempDir::new("logins"));
        let authority = directory.join("ca.pem");
        pki::write(&authority, &pki::servers().pem(), 0o644);
        let farm = Farm::of_stubs(0)
            .tls(Tls::Front)
            .backend("up01", link.address())
            .set_backend("up01", "tls.ca", &format!("{authority:?}"))
            .start();
        let servers = Servers { farm, backends: vec![backend] };
        Self { servers, book, _link: Some((link, directory)) }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    #[track_caller]
    pub fn expect_clean(&self) {
        let book = self.book();
        assert!(book.leaks.is_empty(), "{:?}", book.leaks);
        assert!(book.torn.is_empty(), "{:?}", book.torn);
    }
}

/// The server, and what it writes down.
pub fn login_server(
    instead: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (RawBackend, Arc<Mutex<Book>>) {
    login_server_at(SocketAddr::from(([127, 0, 0, 1], 0)), instead)
}

/// The same on a port that is free. It knows nothing of the one that was there before.
pub fn login_server_at(
    address: SocketAddr,
    instead: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (RawBackend, Arc<Mutex<Book>>) {
    let life = LIVES.fetch_add(1, Ordering::Relaxed);
    let book = Arc::new(Mutex::new(Book { life, ..Book::default() }));
    let (written, agree) = (book.clone(), agree());
    let backend = RawBackend::at(address, move |moment, request| {
        if moment == Moment::Head {
            return Reply::Wait;
        }
        let mut book = lock(&written);
        let reply = book.judge(request);
        drop(book);
        instead(request).or(reply).unwrap_or_else(|| agree(request))
    });
    (backend, book)
}

impl Book {
    /// A challenge, or nothing for who may pass.
    fn judge(&mut self, request: &Request) -> Option<Reply> {
        let claim = request.field(CLAIM).unwrap_or_default();
        let connection = request.connection;
        let Some(token) = request.field("Authorization").and_then(|v| v.strip_prefix("NTLM "))
        else {
            return match self.users.get(&connection) {
                None => Some(challenge(&["Negotiate", "NTLM", "Basic realm=\"a, b\""])),
                Some(user) if user == claim => {
                    self.served += 1;
                    None
                }
                Some(user) => {
                    self.leaks
                        .push(format!("{claim:?} came as {user:?} to connection {connection}"));
                    None
                }
            };
        };
        let mut parts = token.split('.');
        let (leg, user, nonce) = (parts.next(), parts.next(), parts.next());
        let user = user.unwrap_or_default();
        if leg == Some("first") {
            let nonce = format!("{}-{connection}-{}", self.life, request.number);
            let second = format!("NTLM second.{nonce}");
            self.nonces.insert(connection, nonce);
            return Some(challenge(&[&second]));
        }
        if self.nonces.remove(&connection).as_deref() != nonce {
            self.torn.push(format!("{token} on connection {connection}"));
            return Some(challenge(&["NTLM"]));
        }
        if user != claim {
            self.leaks.push(format!("{claim:?} logged in as {user:?}"));
        }
        self.users.insert(connection, user.to_owned());
        self.served += 1;
        None
    }
}

fn challenge(values: &[&str]) -> Reply {
    let mut head = "HTTP/1.1 401 Unauthorized\r\n".to_owned();
    for value in values {
        head += &format!("WWW-Authenticate: {value}\r\n");
    }
    Reply::raw(&(head + "Content-Length: 5\r\n\r\nlogin"))
}

/// A packet that says whose it is meant to be.
pub fn claimed(packet: &Packet, user: &str) -> Packet {
    packet.clone().with(CLAIM, user)
}

/// The first leg and the answer to it: what the last leg has to repeat.
pub fn first_leg(
    connection: &mut Connection,
    packet: &Packet,
    user: &str,
) -> Result<String, Failure> {
    let first = claimed(packet, user).with("Authorization", &format!("NTLM first.{user}"));
    let answer = connection.exchange(&first.bytes())?;
    let nonce = answer.field("WWW-Authenticate").and_then(|v| v.strip_prefix("NTLM second."));
    match nonce {
        Some(nonce) if answer.status == 401 => Ok(nonce.to_owned()),
        _ => Err(Failure::Answer(Box::new(answer))),
    }
}

pub fn last_leg(packet: &Packet, user: &str, nonce: &str) -> Packet {
    claimed(packet, user).with("Authorization", &format!("NTLM last.{user}.{nonce}"))
}

/// Sends the packet as a client does that has not logged in: three times. Returns the last answer.
pub fn log_in(connection: &mut Connection, packet: &Packet, user: &str) -> Result<Answer, Failure> {
    let answer = connection.exchange(&claimed(packet, user).bytes())?;
    if answer.status != 401 {
        return Err(Failure::Answer(Box::new(answer)));
    }
    let nonce = first_leg(connection, packet, user)?;
    Ok(connection.exchange(&last_leg(packet, user, &nonce).bytes())?)
}

/// Why a login did not come to its end.
#[derive(Debug)]
pub enum Failure {
    Wire(#[allow(dead_code, reason = "shown by Debug")] WireError),
    Answer(#[allow(dead_code, reason = "shown by Debug")] Box<Answer>),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
