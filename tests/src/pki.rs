//! Certificates for a test, made when it runs: none that lies in the repository can expire.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use crate::clock;

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

/// Where both lie.
#[derive(Clone, Debug)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    Over,
    NotYet,
    /// For five days and a half.
    NotForLong,
    /// From now on.
    Seconds(u64),
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a legal authority");
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For host names, wildcards or IP addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_valid(names, Validity::Now)
    }

    pub fn issue_valid(&self, names: &[&str], validity: Validity) -> Issued {
        let after = |seconds| {
            date_time_ymd(1970, 1, 1) + (clock::since_1970() + Duration::from_secs(seconds))
        };
        self.issue_with(names, |params| match validity {
            Validity::Now => {}
            Validity::Over => params.not_after = date_time_ymd(2000, 1, 1),
            Validity::NotForLong => params.not_after = after((5 * 24 + 12) * 60 * 60),
            Validity::Seconds(seconds) => params.not_after = after(seconds),
            Validity::NotYet => params.not_before = date_time_ymd(4000, 1, 1),
        })
    }

    /// For a client of that name; each with a key of its own, as when a certificate is renewed.
    pub fn issue_to(&self, name: &str) -> Issued {
        self.issue_with(&[], |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// Valid up to the first day of a year.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        self.issue_with(names, |params| params.not_after = date_time_ymd(year, 1, 1))
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of a test are legal");
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a legal certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    /// As `NAME.pem` and `NAME-key.pem`; files of that name are replaced at once.
    pub fn write(&self, directory: &Path, name: &str) -> Files {
        let certificate = directory.join(format!("{name}.pem"));
        let key = directory.join(format!("{name}-key.pem"));
        write(&key, &self.key, 0o600);
        write(&certificate, &self.certificate, 0o644);
        Files { certificate, key }
    }
}

/// Replaces a file by renaming, as programs that renew certificates do.
pub fn write(path: &Path, text: &str, mode: u32) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode)))
        .and_then(|()| std::fs::rename(&fresh, path))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// The authority of all farms of this process.
pub fn servers() -> &'static Authority {
    static SERVERS: OnceLock<Authority> = OnceLock::new();
    SERVERS.get_or_init(|| Authority::new("servers of the tests"))
}

/// The authority of clients, and of the gateway where it is one.
pub fn clients() -> &'static Authority {
    static CLIENTS: OnceLock<Authority> = OnceLock::new();
    CLIENTS.get_or_init(|| Authority::new("clients of the tests"))
}

/// What the gateway and the stubs of every farm show: the origin, everything below it, and loopback.
pub fn server() -> &'static Issued {
    static SERVER: OnceLock<Issued> = OnceLock::new();
    SERVER.get_or_init(|| servers().issue(&["up.test", "*.up.test", "127.0.0.1"]))
}

pub fn client() -> &'static Issued {
    static CLIENT: OnceLock<Issued> = OnceLock::new();
    CLIENT.get_or_init(|| clients().issue(&["client.test"]))
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the machine has random numbers")
}
