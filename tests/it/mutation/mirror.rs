//! The same from the other side: mutated answers of a backend. A client hears the answer that a strict reader would
//! find, or 502 or 504; never a byte of somebody else's; and a spoilt connection is not used again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::data::Chance;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::wait;

use super::answers::{self, Answer, Wrong};
use super::backend::{EVIL, Said};
use super::client::connect_from;
use super::run::{BATCH, WORKERS, env};
use super::strict::{self, Framing};

type Wrongs = Arc<Mutex<Vec<(u64, String)>>>;

fn report(wrongs: &Wrongs, number: u64, what: String) {
    wrongs.lock().expect("no holder panics").push((number, what));
}

/// Answers `X-Say: N` with the answer of that number, and everything else honestly.
fn start(seed: u64, wrongs: &Wrongs) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    let wrongs = Arc::clone(wrongs);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let wrongs = Arc::clone(&wrongs);
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || serve(stream, seed, &wrongs));
        }
    });
    address
}

fn serve(mut stream: TcpStream, seed: u64, wrongs: &Wrongs) {
    let mut buffer = Vec::new();
    let mut spoilt = None;
    loop {
        let end = loop {
            match strict::head_end(&buffer) {
                Some(end) => break end,
                None if fill(&mut stream, &mut buffer) => {}
                None => return,
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let Some((request, Framing::Length(length))) = strict::any_head(&head) else {
            return report(wrongs, 0, format!("not well-formed: {:?}", head.escape_ascii()));
        };
        let number = request.text("x-say").parse::<u64>().unwrap_or(0);
        if let Some(by) = spoilt {
            return report(wrongs, by, format!("its connection was used again, by {number}"));
        }
        let said = (number > 0).then(|| Said::new(seed, number));
        let early = said.as_ref().filter(|said| said.early);
        if let Some(said) = early
            && !send(&mut stream, said)
        {
            return;
        }
        while buffer.len() < length as usize {
            if !fill(&mut stream, &mut buffer) {
                return;
            }
        }
        buffer.drain(..length as usize);
        match &said {
            Some(said) => {
                if !said.early && !send(&mut stream, said) {
                    return;
                }
                if said.closes {
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    while fill(&mut stream, &mut Vec::new()) {}
                    return;
                }
                spoilt = said.spoils(request.method == b"HEAD").then_some(number);
            }
            None => {
                let mark = request.text("x-mark");
                let ack = format!(
                    "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nX-Echo: {mark}\r\nContent-Length: 0\r\n\r\n"
                );
                if stream.write_all(ack.as_bytes()).is_err() {
                    return;
                }
            }
        }
    }
}

fn send(stream: &mut TcpStream, said: &Said) -> bool {
    let mut from = 0;
    said.cuts.iter().copied().chain([said.bytes.len()]).all(|cut| {
        let piece = &said.bytes[from..cut];
        from = cut;
        stream.write_all(piece).is_ok()
    })
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(n) if n > 0 => {
            buffer.extend(&chunk[..n]);
            true
        }
        _ => false,
    }
}

/// A request for the answer of that number.
fn question(seed: u64, number: u64) -> (Vec<u8>, bool, bool) {
    let mut chance = Chance::new(seed ^ 1).fork(number);
    let (method, kind, body) = match chance.between(0, 5) {
        0 => (
            "BITS_POST",
            format!("BITS-Packet-Type: Create-Session\r\nBITS-Supported-Protocols: {PROTOCOL}\r\n"),
            0,
        ),
        1..=2 => ("BITS_POST", "BITS-Packet-Type: Ping\r\n".to_owned(), 0),
        3 => ("POST", String::new(), *chance.pick(&[0, 5, 3000, 100_000])),
        4 => ("HEAD", String::new(), 0),
        _ => ("GET", String::new(), 0),
    };
    let mut bytes = format!(
        "{method} /say/{number} HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Say: {number}\r\n{kind}Content-Length: {body}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend(vec![b'x'; body]);
    (bytes, method == "HEAD", method == "BITS_POST")
}

fn ping(mark: &str) -> Vec<u8> {
    format!(
        "BITS_POST /honest HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Mark: {mark}\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn open(entrance: SocketAddr) -> Self {
        let stream = connect_from(std::net::Ipv4Addr::LOCALHOST, entrance);
        Self { stream, buffer: Vec::new() }
    }

    fn ask(&mut self, bytes: &[u8], to_head: bool) -> Result<Answer, Wrong> {
        let _ = self.stream.write_all(bytes);
        let mut ended = false;
        loop {
            match answers::answer(&self.buffer, to_head, ended) {
                Err(Wrong::Cut) if !ended => ended = !fill(&mut self.stream, &mut self.buffer),
                Ok((answer, used)) => {
                    self.buffer.drain(..used);
                    return Ok(answer);
                }
                Err(wrong) => return Err(wrong),
            }
        }
    }
}

fn one(entrance: SocketAddr, seed: u64, number: u64) -> Result<(), String> {
    let (question, to_head, is_packet) = question(seed, number);
    let said = Said::new(seed, number);
    let mut client = Client::open(entrance);
    let heard = client.ask(&question, to_head);
    let closes = match &heard {
        Ok(answer) => {
            verdict(&said, answer, to_head, is_packet)
                .map_err(|why| format!("{why}\nheard {answer:?}"))?;
            answer.closes
        }
        // Cut off where the backend's was.
        Err(Wrong::Cut) if said.read(to_head).is_err() || said.spoils(to_head) => true,
        Err(wrong) => {
            return Err(format!(
                "heard no answer: {wrong:?} {:?}",
                client.buffer.escape_ascii().to_string()
            ));
        }
    };
    if heard.is_ok() && !client.buffer.is_empty() {
        return Err(format!("more than an answer: {:?}", client.buffer.escape_ascii().to_string()));
    }
    let mark = format!("after-{number}");
    let honest = |client: &mut Client, mark: &str| match client.ask(&ping(mark), false) {
        Ok(answer) if answer.status == 200 && answer.value("x-echo").as_deref() == Some(mark) => {
            Ok(())
        }
        other => Err(format!("{mark}: {other:?}")),
    };
    match honest(&mut client, &mark) {
        // It had its Ack before the rest of the backend's answer turned out to be none.
        Err(_) if closes => {}
        Err(_)
            if (said.read(to_head).is_err() || said.spoils(to_head))
                && client.buffer.is_empty() => {}
        other => other?,
    }
    honest(&mut Client::open(entrance), &format!("{mark}-too"))
}

fn verdict(said: &Said, heard: &Answer, to_head: bool, is_packet: bool) -> Result<(), String> {
    let text = format!("{heard:?}");
    if text.contains(EVIL)
        && !String::from_utf8_lossy(&said.bytes)
            .starts_with("HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nX-Echo: evil")
    {
        return Err("somebody else's answer".to_owned());
    }
    for never in [
        "bits-host-id",
        "bits-host-id-fallback-timeout",
        "location",
        "keep-alive",
        "upgrade",
        "proxy-connection",
    ] {
        if is_packet && heard.value(never).is_some() {
            return Err(format!("{never} came through"));
        }
    }
    let own = heard.value("x-echo").is_none() && matches!(heard.status, 502 | 504);
    if own {
        return match heard.value("content-length").as_deref() {
            Some("0") => Ok(()),
            _ => Err("not an answer of the gateway's".to_owned()),
        };
    }
    match said.read(to_head) {
        Ok(wanted) if wanted.status == heard.status && (wanted.body == heard.body || is_packet) => {
            Ok(())
        }
        Ok(wanted) => Err(format!("not what the backend said: {wanted:?}")),
        // Its chunks end where Pingora's reader thinks they do; the connection is then not used again.
        Err(Wrong::Malformed(what)) if what.starts_with("chunk") => Ok(()),
        // An Ack has no body, so nobody waits for its end.
        Err(Wrong::Cut) if is_packet && heard.body.is_empty() => Ok(()),
        Err(wrong) => Err(format!("repaired: {wrong:?}")),
    }
}

/// Threat: T11.
#[test]
fn mutated_answers_reach_their_own_client_or_become_502() {
    let seed = env("MUTATION_SEED").unwrap_or_else(|| e2e_tests::data::seed("mutated answers"));
    let wrongs = Wrongs::default();
    let backend = start(seed, &wrongs);
    let farm = Farm::of_stubs(0)
        .backend("up01", backend)
        .without_host_ids()
        .set("timeouts.answer", "\"1s\"")
        .set("timeouts.client_body", "\"900ms\"")
        .set("timeouts.answer_long", "\"1s\"")
        .start();
    let count = env("MUTATIONS").unwrap_or(6_000);
    let (mut from, to) = match env("MUTATION_NUMBER") {
        Some(number) => (number, number + 1),
        None => (1, count + 1),
    };
    while from < to && wrongs.lock().expect("no holder panics").len() < 20 {
        let next = AtomicU64::new(from);
        from = to.min(from + u64::from(BATCH));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= from {
                            return;
                        }
                        if let Err(why) = one(farm.entrance(), seed, number) {
                            report(&wrongs, number, why);
                        }
                    }
                });
            }
        });
        wait::until("the last requests have ended", || {
            farm.metric("bitsgw_requests_in_flight", &[]) == 0.0
        });
        farm.expect_healthy();
    }
    let wrongs = wrongs.lock().expect("no holder panics");
    for (number, what) in wrongs.iter().take(20) {
        let said = Said::new(seed, *number);
        let asked = question(seed, *number).0;
        println!(
            "MUTATION_SEED={seed} MUTATION_NUMBER={number}: {what}\nasked: {}\nearly: {} closes: {} said: {}\n",
            asked[..asked.len().min(300)].escape_ascii(),
            said.early,
            said.closes,
            said.bytes[..said.bytes.len().min(1500)].escape_ascii()
        );
    }
    assert!(wrongs.is_empty(), "{} answers went wrong with seed {seed}", wrongs.len());
}
