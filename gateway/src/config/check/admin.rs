//! The admin listener: who gets in.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Checked;
use crate::config::admin::SOCKET_PATH_LIMIT;
use crate::config::draft::{Draft, SectionValues};
use crate::config::kind::Value;
use crate::config::report::{Finding, Report};
use crate::config::tls::ADMIN_CERTIFICATE;
use crate::config::token::Token;

pub fn address(draft: &Draft, report: &mut Report) -> Checked {
    let table = draft.once("admin");
    if let Some(address) = given_address(table)?
        && !address.ip().to_canonical().is_loopback()
        && !table.is_given(ADMIN_CERTIFICATE.name)
    {
        let finding = Finding::error("the admin listener would be open to the network");
        let finding = finding.at(table.near("address"), "not a loopback address");
        report.add(finding.help(format!(
            "\"127.0.0.1:{}\", reached from elsewhere through SSH, or admin.tls: its token would \
             cross the network in the clear",
            address.port()
        )));
    }
    Ok(())
}

pub fn token(draft: &Draft, report: &mut Report) -> Checked {
    let table = draft.once("admin");
    let file = table.find::<PathBuf>("token_file")?;
    for key in ["viewer_token_file", ADMIN_CERTIFICATE.name] {
        if let (None, Some(place)) = (given_address(table)?, table.place_of(key)) {
            let finding = Finding::warning(format!("`admin.{key}` does nothing"));
            report.add(finding.at(place, "there is no `address`"));
        }
    }
    match (given_address(table)?, file) {
        (Some(_), None) => {
            let finding = Finding::error("`admin.address` needs `admin.token_file`");
            let finding = finding.at(table.near("address"), "every program here could use it");
            report.add(finding.help(
                "add token_file = \"/etc/bits-gateway/admin-token\", or have a `socket` in place \
                 of the address"
                    .to_owned(),
            ));
        }
        (None, Some(_)) => {
            let finding = Finding::warning("`admin.token_file` does nothing");
            let finding = finding.at(table.near("token_file"), "there is no `address`");
            report.add(finding.help("a socket asks for no token".to_owned()));
        }
        _ => {}
    }
    Ok(())
}

pub fn socket(draft: &Draft, report: &mut Report) -> Checked {
    let table = draft.once("admin");
    let Some(path) = table.find::<PathBuf>("socket")? else {
        if let Some(place) = table.place_of("socket_mode") {
            let finding = Finding::warning("`admin.socket_mode` does nothing");
            report.add(finding.at(place, "there is no `socket`"));
        }
        return Ok(());
    };
    let length = path.as_os_str().as_bytes().len();
    if length > SOCKET_PATH_LIMIT {
        let finding = Finding::error("the path of the admin socket is too long");
        let label = format!("{length} bytes, and {SOCKET_PATH_LIMIT} are the most");
        report.add(finding.at(table.near("socket"), label));
    }
    if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
        let finding = Finding::error("the path of the admin socket does not end in a name");
        let help = "such as \"/run/bits-gateway/admin.sock\"".to_owned();
        report.add(finding.at(table.near("socket"), "a directory").help(help));
    }
    Ok(())
}

/// Looks at the files that a draft without mistakes names.
pub fn files(draft: &Draft, report: &mut Report) {
    let table = draft.once("admin");
    let Ok(Some(_)) = given_address(table) else { return };
    let mut read = |key: &str| {
        let path = table.find::<PathBuf>(key).ok().flatten()?;
        let token = Token::read(&path);
        if let Err(error) = &token {
            let finding = Finding::error(error.to_string());
            let finding = finding.at(table.near(key), "this file");
            report.add(finding.help(error.help().replace("FILE", &path.display().to_string())));
        }
        token.ok()
    };
    let (operator, viewer) = (read("token_file"), read("viewer_token_file"));
    if let (Some(operator), Some(viewer)) = (operator, viewer)
        && operator.matches(viewer.secret().as_bytes())
    {
        let finding = Finding::error("both tokens are the same");
        let finding =
            finding.at(table.near("viewer_token_file"), "a viewer could change everything");
        report.add(finding.help("(umask 077; openssl rand -hex 32 > FILE)".to_owned()));
    }
}

fn given_address(table: &SectionValues) -> Result<Option<SocketAddr>, super::Broken> {
    // The word "off" is no address.
    Ok(match table.value("address")? {
        Some(Value::Socket(address)) => Some(*address),
        _ => None,
    })
}
