//! A certificate with its key.

use std::path::PathBuf;
use std::sync::Arc;

use gateway_core::session::{Subject, Timestamp};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use super::files::{self, TlsError};
use super::provider;
use super::settings::CertificateFiles;

/// A certificate that may be shown, with its chain and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certified: Arc<CertifiedKey>,
    /// Where the certificate came from.
    pub path: PathBuf,
    /// The DNS names it is for, in lower case; a wildcard begins with `*.`.
    pub names: Vec<String>,
    not_before: ASN1Time,
    not_after: ASN1Time,
    /// When the first of the chain ends.
    chain_until: ASN1Time,
}

impl Identity {
    /// Reads both files and makes sure that they belong together.
    pub fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        let CertificateFiles { certificate, key } = files;
        let chain = files::certificates(certificate)?;
        let unusable = |reason: String| TlsError::Certificate { path: certificate.clone(), reason };
        let (_, parsed) =
            X509Certificate::from_der(&chain[0]).map_err(|error| unusable(error.to_string()))?;
        let validity = parsed.validity().clone();
        let authority_first = parsed.is_ca() && chain.len() > 1;
        let names = dns_names(&parsed);
        let behind = chain[1..].iter().filter_map(|der| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            Some(parsed.validity().not_after)
        });
        let chain_until = behind.fold(validity.not_after, std::cmp::min);
        let secret = files::key(key)?;
        let certified = CertifiedKey::from_der(chain, secret, &provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) if authority_first => {
                TlsError::AuthorityFirst { path: certificate.clone() }
            }
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate: certificate.clone(), key: key.clone() }
            }
            Error::InvalidCertificate(reason) => unusable(format!("{reason:?}")),
            error => TlsError::Key { path: key.clone(), reason: error.to_string() },
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            path: certificate.clone(),
            names,
            not_before: validity.not_before,
            not_after: validity.not_after,
            chain_until,
        })
    }

    /// When the first certificate of the file ends, in Unix time in seconds: without one of those
    /// between it and its authority, clients accept it no more.
    pub fn expires(&self) -> i64 {
        self.chain_until.timestamp()
    }

    /// For people.
    pub fn expires_on(&self) -> String {
        self.chain_until.to_string()
    }

    /// Whether clients can accept it at this moment.
    pub fn valid_at(&self, now: Timestamp) -> Result<(), TlsError> {
        let now = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
        let path = self.path.clone();
        if self.not_after.timestamp() < now {
            return Err(TlsError::Expired { path, when: self.not_after.to_string() });
        }
        if self.not_before.timestamp() > now {
            return Err(TlsError::Early { path, when: self.not_before.to_string() });
        }
        Ok(())
    }

    /// Whether a client that asks for this host accepts it, by the rule of rustls.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_owned();
        let (Ok(name), [own, ..]) = (ServerName::try_from(host), &self.certified.cert[..]) else {
            return false;
        };
        ParsedCertificate::try_from(own).is_ok_and(|own| verify_server_name(&own, &name).is_ok())
    }

    /// The certificate alone, without those behind it.
    pub fn own(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }
}

/// Who a client is, by what stays in its certificate when that is renewed: who issued it, and all
/// names that it is for.
pub fn subject_of(certificate: &[u8]) -> Subject {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // With their lengths, or parts could run into each other.
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => {
            part(parsed.issuer().as_raw());
            part(parsed.subject().as_raw());
            let names = parsed.extensions().iter();
            names.filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME).for_each(|e| part(e.value));
        }
        // Rustls has read and checked it, so this is a certificate of an odd kind: it is only
        // itself.
        Err(_) => part(certificate),
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    Subject::new(bytes)
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}
