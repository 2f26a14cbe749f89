//! Certificates for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    SignatureAlgorithm,
};
use tempfile::TempDir;

use super::settings::CertificateFiles;

/// An authority, and the files with its certificates.
pub struct Pki {
    folder: TempDir,
    pub authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        Self::of(authority())
    }

    pub fn of(authority: CertificateParams) -> Self {
        let authority = CertifiedIssuer::self_signed(authority, key(&PKCS_ECDSA_P256_SHA256));
        Self { folder: TempDir::new().unwrap(), authority: authority.unwrap() }
    }

    /// A certificate of the authority, with `behind` after it in its file.
    pub fn issue(
        &self,
        name: &str,
        kind: &'static SignatureAlgorithm,
        behind: &str,
    ) -> CertificateFiles {
        self.issue_for(name, &key(kind), behind)
    }

    pub fn issue_for(&self, name: &str, key: &KeyPair, behind: &str) -> CertificateFiles {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let issued = params.signed_by(key, &self.authority).unwrap();
        CertificateFiles {
            certificate: self.write(&format!("{name}.pem"), &(issued.pem() + behind)),
            key: self.write(&format!("{name}-key.pem"), &key.serialize_pem()),
        }
    }

    pub fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        path
    }
}

pub fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key(kind: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(kind).unwrap()
}
