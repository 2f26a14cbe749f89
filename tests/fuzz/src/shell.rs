//! Targets of the gateway itself.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use bits_gateway::config::{dump, parse};
use bits_gateway::guard::proxy_protocol::{self, HeaderError, ProxyHeader};
use bits_gateway::sessions::store::{OnError, Options, Store, StoredPin, SyncMode, read_only};
use bits_gateway::telemetry::events::Events;
use bits_gateway::telemetry::metrics::Metrics;
use gateway_core::session::{Subject, TargetHash, Timestamp};

/// A configuration that is accepted says the same when it is written out and read again; one that
/// is not is refused with a report that can be shown.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse("fuzz.toml", text, []) {
        Ok(loaded) => {
            let written = dump::to_toml(&loaded);
            let again = parse("again.toml", &written, []);
            let again =
                again.unwrap_or_else(|report| panic!("{}\n{written}", report.render(false)));
            assert_eq!(again.config, loaded.config, "{written}");
        }
        Err(report) => {
            assert!(report.has_errors());
            let _ = (report.render(false), report.to_json());
            assert_eq!(report.lines().len(), report.findings().len());
        }
    }
}

/// Pins of the store whose bytes [`rows`] damages.
const PINS: u64 = 40;

fn pin(number: u64) -> StoredPin {
    StoredPin {
        id: format!("{{{number:08X}-0000-4000-8000-0123456789AB}}"),
        backend: format!("up{:02}", number % 3),
        backend_session: number.is_multiple_of(4).then(|| format!("own-{number}")),
        target: TargetHash(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        created: Timestamp(1_700_000_000_000 + number),
        subject: number.is_multiple_of(3).then(|| Subject::new([number as u8; 16])),
        spelling: number.is_multiple_of(5).then(|| format!("/%61{number}")),
    }
}

/// The bytes of a store with [`PINS`] pins.
fn store() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // It makes its own, which is nobody else's.
        let place = folder.path().join("store");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let metrics = Metrics::new(&[], &[]);
            let options = Options {
                events: Events::default(),
                sync: SyncMode::Crash,
                on_error: OnError::Refuse,
                slow: std::time::Duration::from_secs(2),
                metrics,
                lock: None,
            };
            let opened = Store::open(&place, options, &mut |_| true);
            let (store, _) = opened.expect("a new store");
            for number in 0..PINS {
                store.pin(pin(number)).await.expect("room for a pin");
            }
            store.close().await;
        });
        std::fs::read(place.join("sessions.db")).expect("the store's file")
    })
}

/// Whatever becomes of the file of a store, what is read from it was written to it. Each four bytes of the input are
/// a place and a byte to put there.
pub fn rows(data: &[u8]) {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    let mut bytes = store().to_vec();
    for patch in data.chunks_exact(4).take(64) {
        let at = usize::from(u16::from_be_bytes([patch[0], patch[1]])) << (patch[2] % 4);
        match patch[2] {
            // Rarely, the file ends there.
            0xff => bytes.truncate(at),
            _ => {
                let length = bytes.len();
                if let Some(byte) = bytes.get_mut(at % length.max(1)) {
                    *byte = patch[3];
                }
            }
        }
    }
    FOLDER.with(|folder| {
        for file in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
            let _ = std::fs::remove_file(file.path());
        }
        std::fs::write(folder.path().join("sessions.db"), &bytes).expect("room for a file");
        let Ok(reader) = read_only(folder.path()) else { return };
        let mut count = 0;
        for read in reader.flatten() {
            let written = |number| StoredPin { spelling: None, ..pin(number) };
            assert!((0..PINS).any(|number| written(number) == read), "never written: {read:?}");
            count += 1;
        }
        assert!(count == PINS || bytes != store(), "what nobody damaged is whole");
    });
}

/// What these bytes are read as, and how many of them were.
fn reserved(bytes: &[u8]) -> (Result<ProxyHeader, HeaderError>, usize) {
    let mut rest = bytes;
    let polled =
        pin!(proxy_protocol::read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(outcome) = polled else { panic!("bytes that are there are not waited for") };
    (outcome, bytes.len() - rest.len())
}

/// A header that names `client` and the port it connected to, in both versions.
fn written(client: SocketAddr, to: u16) -> [Vec<u8>; 2] {
    let (ip, port) = (client.ip(), client.port());
    let (name, family, octets) = match ip {
        IpAddr::V4(ip) => ("TCP4", 0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => ("TCP6", 0x21, ip.octets().to_vec()),
    };
    let body = [&octets[..], &octets, &port.to_be_bytes(), &to.to_be_bytes()].concat();
    let length = u16::try_from(body.len()).expect("36 bytes at most").to_be_bytes();
    let second = [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length, &body].concat();
    [format!("PROXY {name} {ip} {ip} {port} {to}\r\n").into_bytes(), second]
}

/// A header of the PROXY protocol ends where it says, whatever stands behind it and not a byte sooner; the client it
/// names can be written again; and what is no header is given back whole.
pub fn proxy_header(data: &[u8]) {
    let (outcome, used) = reserved(data);
    let more = [data, b"\r\nPROXY "].concat();
    match outcome {
        Err(HeaderError::Silent) => assert!(data.is_empty(), "there was a byte"),
        Err(HeaderError::Cut(_)) => assert_eq!(used, data.len(), "all of it was looked at"),
        Err(_) => {
            assert!(data.starts_with(b"PROXY ") || data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
            assert!(reserved(&more).0.is_err(), "no more bytes make it a header");
        }
        Ok(ProxyHeader::NotAHeader(read)) => assert_eq!(read, data[..used]),
        Ok(said) => {
            for bytes in [&data[..used], &more] {
                let (again, length) = reserved(bytes);
                assert_eq!((again.expect("it was read before"), length), (said.clone(), used));
            }
            for end in [used - 1, used / 2] {
                let (cut, _) = reserved(&data[..end]);
                assert!(matches!(cut, Err(HeaderError::Cut(_))), "{end} of {used}: {cut:?}");
            }
            let ProxyHeader::For(client, to) = said else { return };
            assert_eq!(client.ip(), client.ip().to_canonical(), "one client has one address");
            for header in written(client, to) {
                let (again, length) = reserved(&[&header[..], data].concat());
                let again = again.expect("what was read can be written");
                assert_eq!((again, length), (ProxyHeader::For(client, to), header.len()));
            }
        }
    }
}
