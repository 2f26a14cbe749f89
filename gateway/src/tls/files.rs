//! PEM files, and everything that can be the matter with them.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, RootCertStore};

use super::exposed::open_folder;
use crate::base::open_file::open_at_once;

/// A chain has a few certificates and the bundle of a system some hundreds.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Why files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a file", path.display())]
    NoFile { path: PathBuf },
    #[error("{} is larger than any certificate or key", path.display())]
    Large { path: PathBuf },
    #[error("the private key {} can be {what} by others (mode {mode:04o})", path.display())]
    Open { path: PathBuf, what: &'static str, mode: u32 },
    #[error(
        "the folder of the private key {} can be written by others: {} (mode {mode:04o})",
        path.display(), folder.display()
    )]
    OpenFolder { path: PathBuf, folder: PathBuf, mode: u32 },
    #[error("{} begins with a byte-order mark", path.display())]
    ByteOrderMark { path: PathBuf },
    #[error("{} is written in UTF-16", path.display())]
    Utf16 { path: PathBuf },
    #[error("{} begins with the certificate of an authority", path.display())]
    AuthorityFirst { path: PathBuf },
    #[error("there is no certificate in {}", path.display())]
    NoCertificate { path: PathBuf },
    #[error("there is no private key in {}", path.display())]
    NoKey { path: PathBuf },
    #[error("the private key in {} is encrypted", path.display())]
    Encrypted { path: PathBuf },
    #[error("what {} holds is not PEM: {reason}", path.display())]
    Pem { path: PathBuf, reason: String },
    #[error("a certificate in {} cannot be used: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error("the private key in {} cannot be used: {reason}", path.display())]
    Key { path: PathBuf, reason: String },
    #[error("the key {} is not the one of the certificate {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate {} has expired, on {when}", path.display())]
    Expired { path: PathBuf, when: String },
    #[error("the certificate {} is not valid before {when}", path.display())]
    Early { path: PathBuf, when: String },
    #[error("the certificates of {} cannot serve as authorities: {reason}", path.display())]
    Authorities { path: PathBuf, reason: String },
    #[error("the system has no certificates to trust")]
    NoSystemStore,
    #[error("{name:?} is no name that a certificate can be for")]
    Name { name: String },
    #[error("rustls does not take the settings: {0}")]
    Settings(#[from] rustls::Error),
}

impl TlsError {
    /// Why a file could not be read, where nothing is known of what is in it.
    pub fn unread(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Read { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// What would help.
    pub fn help(&self) -> String {
        match self {
            Self::Read { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("the user that runs the gateway must be able to read {}", path.display())
            }
            Self::Read { path, .. } | Self::NoFile { path } => {
                format!("put a PEM file at {}", path.display())
            }
            Self::Open { path, .. } => {
                format!("chmod 600 {}, or 640 with a group of its own", path.display())
            }
            Self::OpenFolder { folder, .. } => {
                format!("they could put another key there: chmod go-w {}", folder.display())
            }
            Self::ByteOrderMark { path } => {
                format!("write it without one: sed -i '1s/^\\xEF\\xBB\\xBF//' {}", path.display())
            }
            Self::Utf16 { path } => {
                format!("write it as ASCII: iconv -f UTF-16 -t ASCII {} > new.pem", path.display())
            }
            Self::AuthorityFirst { .. } => {
                "put the server's own certificate first, then those up to its authority".into()
            }
            Self::NoCertificate { .. } | Self::Large { .. } | Self::Certificate { .. } => {
                "PEM, the server's own certificate first, then those up to its authority".into()
            }
            Self::Encrypted { path } => {
                format!("(umask 077; openssl pkey -in {} -out plain.pem)", path.display())
            }
            Self::NoKey { .. } | Self::Key { .. } => {
                "a private key as PEM: ECDSA P-256 or P-384, RSA from 2048 bits, or Ed25519".into()
            }
            Self::Pem { .. } => "PEM begins with -----BEGIN".into(),
            Self::Mismatch { .. } => {
                "`openssl x509 -noout -pubkey -in CERT` and `openssl pkey -pubout -in KEY` must \
                 print the same"
                    .into()
            }
            Self::Expired { .. } => "a certificate that is valid now".into(),
            Self::Early { .. } => "the right time on this machine, or the older certificate".into(),
            Self::Authorities { .. } => "certificates of authorities as PEM".into(),
            Self::NoSystemStore => "install ca-certificates, or name some with `tls.ca`".into(),
            Self::Name { .. } => "a host name or an IP address in `tls.name`".into(),
            Self::Settings(_) => "other certificates".into(),
        }
    }
}

/// The chain in a file, not empty.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, |_| Ok(()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| pem_error(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: path.into() });
    }
    Ok(chain)
}

/// The key in a file that nobody else can read.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path, |mode| {
        // A group may read it: that is how certificate managers share it with services.
        let open = [(0o004, "read"), (0o022, "written")];
        match open.iter().find(|(bits, _)| mode & bits != 0) {
            Some((_, what)) => Err(TlsError::Open { path: path.into(), what, mode }),
            None => Ok(()),
        }
    })?;
    if let Some((folder, mode)) = open_folder(path) {
        return Err(TlsError::OpenFolder { path: path.into(), folder, mode });
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(&bytes);
    match keys.next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(pem_error(path, &error)),
        None if bytes.windows(9).any(|window| window == b"ENCRYPTED") => {
            Err(TlsError::Encrypted { path: path.into() })
        }
        None => Err(TlsError::NoKey { path: path.into() }),
    }
}

/// Every certificate of a file, trusted as an authority.
pub fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            let reason = error.to_string();
            TlsError::Authorities { path: path.into(), reason }
        })?;
    }
    Ok(roots)
}

/// `check` is given the permissions of the file that is then read.
fn read(path: &Path, check: impl FnOnce(u32) -> Result<(), TlsError>) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.into(), source };
    let file = open_at_once(path).map_err(failed)?;
    // Looked at through the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TlsError::NoFile { path: path.into() });
    }
    check(metadata.mode() & 0o7777)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(TlsError::Large { path: path.into() });
    }
    // Editors on Windows write both, and what reads PEM finds nothing in either.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(TlsError::ByteOrderMark { path: path.into() });
    }
    let utf16 = [&b"\xff\xfe"[..], b"\xfe\xff", b"-\0", b"\0-"];
    if utf16.iter().any(|start| bytes.starts_with(start)) {
        return Err(TlsError::Utf16 { path: path.into() });
    }
    Ok(bytes)
}

fn pem_error(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Pem { path: path.into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_editors_of_windows_write_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        let pem = "-----BEGIN PRIVATE KEY-----\n";
        let little: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = pem.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (mark, text, utf16) in [
            (&b"\xef\xbb\xbf"[..], pem.as_bytes(), false),
            (b"\xff\xfe", &little, true),
            (b"\xfe\xff", &big, true),
            (b"", &little, true),
            (b"", &big, true),
        ] {
            std::fs::write(&file, [mark, text].concat()).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            for error in [key(&file).unwrap_err(), certificates(&file).unwrap_err()] {
                let named = match &error {
                    TlsError::Utf16 { path } => utf16 && *path == file,
                    TlsError::ByteOrderMark { path } => !utf16 && *path == file,
                    _ => false,
                };
                assert!(named, "{error}");
                assert!(error.help().contains("key.pem"), "{}", error.help());
            }
        }
    }

    #[test]
    fn a_key_in_a_folder_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        for (mode, open) in [(0o700, false), (0o755, false), (0o1777, false), (0o777, true)] {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let error = key(&file).unwrap_err();
            assert_eq!(matches!(error, TlsError::OpenFolder { .. }), open, "{mode:o}: {error}");
        }
    }

    #[test]
    fn a_named_pipe_is_no_key_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("key.pem");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(key(&pipe), Err(TlsError::NoFile { .. })));
        assert!(matches!(certificates(&pipe), Err(TlsError::NoFile { .. })));
    }
}
