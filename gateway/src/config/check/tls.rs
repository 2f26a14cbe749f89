//! Certificates, keys and trusted proxies: what must stand together, and what the files are worth.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_rustls::rustls::SignatureAlgorithm;

use super::Checked;
use crate::base::clock;
use crate::config::affinity::HostIdMode;
use crate::config::backends::BackendConfig;
use crate::config::draft::{Draft, SectionValues};
use crate::config::listeners::Listener;
use crate::config::report::{Finding, Place, Report};
use crate::config::resolve::Config;
use crate::config::sessions::Bind;
use crate::config::tls::ClientAuth;
use crate::config::tls::{
    self, BACKEND_CA, BACKEND_VERIFY, CLIENT_AUTH, CLIENT_CA, LISTENER_CERTIFICATE,
    LISTENER_CERTIFICATES, LISTENER_KEY, TRUSTED, client_auth,
};
use crate::tls::settings::{CertificateFiles, Verify};
use crate::tls::{BackendTls, Exposed, Identity, ListenerTls, TlsError, What, exposed};

/// Whoever renews certificates by hand needs that long, and one that is renewed by a program is
/// renewed earlier.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

pub fn pairs(draft: &Draft, report: &mut Report) -> Checked {
    let all = draft.all("listeners").chain(draft.all("admin")).chain(draft.all("backends"));
    for table in all {
        let given = [LISTENER_CERTIFICATE, LISTENER_KEY].map(|key| table.place_of(key.name));
        let (place, missing) = match given {
            [Some(place), None] => (place, LISTENER_KEY.name),
            [None, Some(place)] => (place, LISTENER_CERTIFICATE.name),
            _ => continue,
        };
        let finding = Finding::error(format!("`{}` is missing", table.key_path(missing)));
        report.add(finding.at(place, "a certificate and its key belong together"));
    }
    Ok(())
}

pub fn listeners(draft: &Draft, report: &mut Report) -> Checked {
    for table in draft.all("listeners").chain(draft.all("admin")) {
        let certified = [LISTENER_CERTIFICATE, LISTENER_CERTIFICATES, LISTENER_KEY];
        let certified = certified.iter().any(|key| table.is_given(key.name));
        if tls::is_on(table) && !certified {
            let finding = Finding::error(format!("`{}` has no certificate", table.path()));
            let finding = finding.at(table.near_group("tls"), "TLS needs one");
            report.add(finding.help(sample()));
        }
        if !tls::is_on(table) || !certified || table.section.name == "admin" {
            continue;
        }
        let more: Option<Vec<CertificateFiles>> = table.find(LISTENER_CERTIFICATES.name)?;
        if more.is_some_and(|more| more.is_empty()) && !table.is_given(LISTENER_CERTIFICATE.name) {
            let finding = Finding::error(format!("`{}` has no certificate", table.path()));
            let place = table.near(LISTENER_CERTIFICATES.name);
            report.add(finding.at(place, "an empty list").help(sample()));
        }
        client_certificates(table, report)?;
    }
    Ok(())
}

fn sample() -> String {
    "add certificate = \"/etc/bits-gateway/tls/fullchain.pem\" and \
     key = \"/etc/bits-gateway/tls/key.pem\""
        .to_owned()
}

fn client_certificates(table: &SectionValues, report: &mut Report) -> Checked {
    let ca = table.find::<PathBuf>(CLIENT_CA.name)?;
    match (client_auth(table)?, ca) {
        (ClientAuth::Required, None) => {
            let message = "`client_auth = \"required\"` needs `client_ca`";
            let finding = Finding::error(message)
                .at(table.near(CLIENT_AUTH.name), "required, but of no authority");
            let help = "add client_ca = \"/etc/bits-gateway/tls/clients-ca.pem\"".to_owned();
            report.add(finding.help(help));
        }
        (ClientAuth::Off, Some(_)) => {
            let path = table.key_path(CLIENT_CA.name);
            let finding = Finding::warning(format!("`{path}` does nothing"));
            let finding = finding
                .at(table.near(CLIENT_CA.name), "clients are asked for no certificate")
                .at(table.place_of(CLIENT_AUTH.name), "because of this");
            report.add(finding.help("client_auth = \"required\" asks for one".to_owned()));
        }
        _ => {}
    }
    Ok(())
}

/// A client without a certificate could open sessions that nobody but anybody may go on with.
pub fn bound_sessions(draft: &Draft, report: &mut Report) -> Checked {
    for sessions in draft.all("sessions") {
        if sessions.get::<Bind>("bind")? != Bind::Certificate {
            continue;
        }
        for table in draft.all("listeners") {
            if client_auth(table)? == ClientAuth::Required {
                continue;
            }
            let message = format!(
                "`sessions.bind = \"certificate\"` needs `{} = \"required\"`",
                table.key_path(CLIENT_AUTH.name)
            );
            let finding = Finding::error(message)
                .at(table.near(CLIENT_AUTH.name), "its clients show no certificate")
                .at(sessions.place_of("bind"), "which this asks for");
            let help = "add client_ca = \"/etc/bits-gateway/tls/clients-ca.pem\" to the `tls` of \
                        the listener, or write bind = \"none\"";
            report.add(finding.help(help.to_owned()));
        }
    }
    Ok(())
}

pub fn proxies(draft: &Draft, report: &mut Report) -> Checked {
    for table in draft.all("listeners") {
        if table.has_group("proxy_protocol") && !table.is_given(TRUSTED.name) {
            let message = format!("`{}` is missing", table.key_path(TRUSTED.name));
            let finding = Finding::error(message);
            let place = table.near_group("proxy_protocol");
            let finding = finding.at(place, "whose word counts is not said");
            let help = "add trusted = [\"10.0.0.0/8\"], the addresses of the balancers".to_owned();
            report.add(finding.help(help));
        }
    }
    Ok(())
}

pub fn unverified(draft: &Draft, report: &mut Report) -> Checked {
    for table in draft.all("backends") {
        if table.find(BACKEND_VERIFY.name)? == Some(Verify::Off) {
            let message = format!("nobody knows whether `{}` is who it says", table.path());
            let finding = Finding::warning(message)
                .at(table.place_of(BACKEND_VERIFY.name), "its certificate is not looked at");
            let help = "trust its authority in place of that: ca = \"/path/to/ca.pem\"".to_owned();
            report.add(finding.help(help));
        }
    }
    Ok(())
}

/// Looks at the files that a configuration without mistakes names.
pub fn files(config: &Config, draft: &Draft, report: &mut Report) {
    let said = unread(draft, report);
    for (listener, table) in config.listeners.iter().zip(draft.all("listeners")) {
        listener_files(config, listener, table, &said, report);
    }
    admin_files(config, draft.once("admin"), &said, report);
    for (backend, table) in config.backends.iter().zip(draft.all("backends")) {
        backend_files(backend, table, &said, report);
    }
}

fn admin_files(config: &Config, table: &SectionValues, said: &[PathBuf], report: &mut Report) {
    let Some(settings) = &config.admin.tls else { return };
    let place = place(table, &[LISTENER_CERTIFICATE.name]);
    match ListenerTls::load("admin", settings) {
        Err(error) if is_said(&error, said) => {}
        Err(error) => unusable(&error, place, report),
        Ok((_, contents)) => {
            contents.identities.iter().for_each(|identity| age(identity, &place, report));
            covered(config.admin.hosts.iter(), &contents.identities, &place, report);
            open_to_others(settings.certificates.iter(), None, &place, report);
        }
    }
}

/// Every file that cannot be read at all, of every listener and backend.
pub fn unread(draft: &Draft, report: &mut Report) -> Vec<PathBuf> {
    let mut said: Vec<PathBuf> = Vec::new();
    let all = draft.all("listeners").chain(draft.all("admin")).chain(draft.all("backends"));
    for table in all {
        let mut named: Vec<(PathBuf, &str)> = Vec::new();
        let keys = [LISTENER_CERTIFICATE.name, LISTENER_KEY.name, CLIENT_CA.name, BACKEND_CA.name];
        for key in keys.into_iter().filter(|key| table.is_given(key)) {
            named.extend(table.find(key).ok().flatten().map(|path| (path, key)));
        }
        if table.is_given(LISTENER_CERTIFICATES.name) {
            let pairs: Result<Option<Vec<CertificateFiles>>, _> =
                table.find(LISTENER_CERTIFICATES.name);
            let files = pairs.ok().flatten().into_iter().flatten();
            let files = files.flat_map(|pair| [pair.certificate, pair.key]);
            named.extend(files.map(|path| (path, LISTENER_CERTIFICATES.name)));
        }
        for (path, key) in named {
            if let Err(source) = std::fs::File::open(&path)
                && !said.contains(&path)
            {
                let error = TlsError::Read { path: path.clone(), source };
                unusable(&error, table.place_of(key), report);
                said.push(path);
            }
        }
    }
    said
}

/// Whether this is told already.
fn is_said(error: &TlsError, said: &[PathBuf]) -> bool {
    matches!(error, TlsError::Read { path, .. } if said.contains(path))
}

fn listener_files(
    config: &Config,
    listener: &Listener,
    table: &SectionValues,
    said: &[PathBuf],
    report: &mut Report,
) {
    let Some(settings) = &listener.tls else { return };
    let place = place(table, &[LISTENER_CERTIFICATE.name, LISTENER_CERTIFICATES.name]);
    match ListenerTls::load(&listener.name, settings) {
        Err(error) if is_said(&error, said) => {}
        Err(error) => unusable(&error, place, report),
        Ok((_, contents)) => {
            contents.identities.iter().for_each(|identity| age(identity, &place, report));
            coverage(config, &contents.identities, &place, report);
            old_windows(&contents.identities, &place, report);
            let keys = settings.certificates.iter();
            open_to_others(keys, settings.client_ca.as_deref(), &place, report);
        }
    }
}

fn backend_files(
    backend: &BackendConfig,
    table: &SectionValues,
    said: &[PathBuf],
    report: &mut Report,
) {
    let Some(settings) = &backend.tls else { return };
    let place = place(table, &[LISTENER_CERTIFICATE.name, "tls.ca", "tls.name"]);
    match BackendTls::load(&backend.name, &backend.address.host, settings) {
        Err(error) if is_said(&error, said) => {}
        Err(error) => unusable(&error, place, report),
        Ok((_, contents)) => {
            contents.identities.iter().for_each(|own| age(own, &place, report));
            open_to_others(settings.identity.iter(), settings.ca.as_deref(), &place, report);
        }
    }
}

/// Who can replace a key or the authorities becomes whom the gateway speaks for, or trusts.
fn open_to_others<'f>(
    keys: impl Iterator<Item = &'f CertificateFiles>,
    ca: Option<&Path>,
    place: &Option<Place>,
    report: &mut Report,
) {
    let keys = keys.flat_map(|files| exposed(&files.key, What::Key));
    let found = keys.chain(ca.into_iter().flat_map(|ca| exposed(ca, What::Authorities)));
    // Keys of one folder are said together.
    let mut said: Vec<Exposed> = Vec::new();
    for each in found {
        if said.contains(&each) {
            continue;
        }
        let finding = Finding::warning(each.to_string()).at(place.clone(), "named here");
        report.add(finding.help(each.help()));
        said.push(each);
    }
}

fn place(table: &SectionValues, keys: &[&str]) -> Option<Place> {
    keys.iter().find_map(|key| table.place_of(key)).or_else(|| table.near_group("tls"))
}

fn unusable(error: &TlsError, place: Option<Place>, report: &mut Report) {
    let finding = Finding::error(error.to_string()).at(place, "named here");
    report.add(Finding { unread: error.unread(), ..finding.help(error.help()) });
}

fn age(identity: &Identity, place: &Option<Place>, report: &mut Report) {
    let now = clock::now();
    let label = |text: &str| text.to_owned();
    if let Err(error) = identity.valid_at(now) {
        let finding = Finding::warning(error.to_string());
        return report.add(finding.at(place.clone(), label("no client will accept it")));
    }
    let left = identity.expires().saturating_sub_unsigned(now.0 / 1000);
    let path = identity.path.display();
    if left < 0 {
        let message = format!(
            "a certificate behind the first in {path} has expired, on {}",
            identity.expires_on()
        );
        let finding = Finding::warning(message).at(place.clone(), label("clients may refuse it"));
        report.add(finding.help("the chain that the authority gives out now".to_owned()));
    } else if u64::try_from(left).unwrap_or(0) < SOON.as_secs() {
        let message = format!("the certificate {path} expires on {}", identity.expires_on());
        let finding = Finding::warning(message).at(place.clone(), label("within 14 days"));
        report.add(finding.help("a new one in the same files is taken up at once".to_owned()));
    }
}

/// Every name that leads clients here must be in a certificate, or they will not come.
fn coverage(config: &Config, shown: &[Identity], place: &Option<Place>, report: &mut Report) {
    let announces = |mode: HostIdMode| config.affinity.host_id == mode;
    let gateway = config.affinity.gateway_name.iter().filter(|_| announces(HostIdMode::Gateway));
    let aliases = config.backends.iter().filter_map(|backend| backend.alias.as_ref());
    let aliases = aliases.filter(|_| announces(HostIdMode::Backend));
    covered(config.http.hosts.iter().chain(gateway).chain(aliases), shown, place, report);
}

fn covered<'n>(
    names: impl Iterator<Item = &'n String>,
    shown: &[Identity],
    place: &Option<Place>,
    report: &mut Report,
) {
    let missing: Vec<&str> = names
        .filter(|name| !shown.iter().any(|identity| identity.covers(name)))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return;
    }
    let has: Vec<&str> =
        shown.iter().flat_map(|identity| &identity.names).map(String::as_str).collect();
    let message = format!("no certificate is for {}", missing.join(", "));
    let finding = Finding::warning(message).at(place.clone(), "clients will refuse it");
    report.add(finding.help(match has.as_slice() {
        [] => "the certificate names no host at all".to_owned(),
        has => format!("it is for {}; one wildcard name covers all host ids", has.join(", ")),
    }));
}

/// With RSA, these releases have suites of CBC or without ECDHE only (docs/windows.md, by Microsoft's
/// lists of suites).
fn old_windows(shown: &[Identity], place: &Option<Place>, report: &mut Report) {
    let rsa = |identity: &Identity| identity.certified.key.algorithm() == SignatureAlgorithm::RSA;
    if shown.iter().all(rsa) {
        let message = "Windows 8.1, Server 2012 R2 and older cannot connect: every certificate has \
                       an RSA key";
        let finding = Finding::warning(message).at(place.clone(), "newer Windows accepts it");
        let help = "where there are such machines, add one with an ECDSA P-256 key: certificates = \
                    [{ certificate = \"...\", key = \"...\" }] beside this one";
        report.add(finding.help(help.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

    use crate::config::load::load_to_run;
    use crate::tls::test_pki::Pki;

    /// `more` is in the table of the certificate for `gw.test`.
    #[track_caller]
    fn warned(pki: &Pki, key: &KeyPair, more: &str) -> bool {
        let shown = pki.issue_for("gw.test", key, "");
        let (certificate, key) = (shown.certificate.display(), shown.key.display());
        let text = format!(
            "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
             tls = {{ certificate = \"{certificate}\", key = \"{key}\"{more} }}\n\
             [store]\nkind = \"memory\"\n\
             [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:1\"\n"
        );
        let loaded = load_to_run(&pki.write("gw.toml", &text), []).expect("it is good");
        loaded.report.lines().iter().any(|line| line.contains("Windows 8.1"))
    }

    #[test]
    fn certificates_of_rsa_alone_are_warned_of() {
        let pki = Pki::new();
        let rsa = KeyPair::from_pem(include_str!("../../../tests/data/rsa-key.pem")).unwrap();
        let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        assert!(warned(&pki, &rsa, ""));
        assert!(!warned(&pki, &ecdsa, ""));
        let both = pki.issue_for("both.test", &ecdsa, "");
        let both = format!(
            ", certificates = [{{ certificate = \"{}\", key = \"{}\" }}]",
            both.certificate.display(),
            both.key.display()
        );
        assert!(!warned(&pki, &rsa, &both));
    }
}
