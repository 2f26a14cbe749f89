//! Command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::flavour::{Flavour, Overlap};

/// A BITS upload server for Linux, for farms without IIS, for tests and for demonstrations.
///
/// Windows clients (Start-BitsTransfer -TransferType Upload) and any other BITS client can upload to it over plain
/// HTTP. Finished files appear below ROOT/files under the path of their URL, whole and synced; unfinished ones are kept
/// in ROOT/sessions and survive a restart. When it accepts connections it prints one line of JSON on stdout.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "backend-stub",
    version,
    after_help = "Exit codes: 0 ended by SIGTERM or SIGINT, 1 internal error, 2 wrong usage, 74 cannot use the \
                  address or the folder.\nThere is no authentication: listen on an address that only trusted peers \
                  reach."
)]
pub struct Options {
    /// Address for uploads and downloads; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: String,

    /// Folder for files and sessions; made if missing, used by one server at a time
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,

    /// Name of this server in its output
    #[arg(long, default_value = "backend-stub")]
    pub name: String,

    /// Address of the control listener for tests: statistics, recorded requests, faults
    #[arg(long, value_name = "HOST:PORT")]
    pub control: Option<String>,

    /// Answer like this server
    #[arg(long, value_enum, default_value_t)]
    pub flavour: Flavour,

    /// Status of the Create-Session Ack [default: 200, or 201 for onedrive]
    #[arg(long, value_name = "200|201", value_parser = parse_create_status)]
    pub create_status: Option<u16>,

    /// Send BITS-Host-Id: the name or address under which clients reach this very server, without a port
    #[arg(long, value_name = "HOST", value_parser = parse_host_id)]
    pub host_id: Option<String>,

    /// Send this BITS-Host-Id-Fallback-Timeout with the Host-Id, seconds
    #[arg(long, value_name = "SECS", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(1..))]
    pub host_id_fallback_timeout: u32,

    /// Drop a session that made no progress for so long (500ms, 30s, 15m, 12h, 14d)
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = parse_duration)]
    pub session_timeout: Duration,

    /// Close a connection on which no request begins for so long
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = parse_duration)]
    pub idle_timeout: Duration,

    /// Refuse larger files with 500 and 0x80200020 (plain bytes, or KiB, MiB, GiB)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_upload_size: Option<u64>,

    /// Refuse larger fragments with 413; clients then send smaller ones
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_fragment_size: Option<u64>,

    /// Let an upload replace a file that exists
    #[arg(long)]
    pub allow_overwrites: bool,

    /// Answer 416 to a fragment that starts below the next offset, rather than storing its new part
    #[arg(long)]
    pub strict_ranges: bool,

    /// Write the whole of a fragment that overlaps, the old part again, rather than its new part only
    #[arg(long, conflicts_with = "strict_ranges")]
    pub overwrite_overlaps: bool,

    /// Keep what arrived of a fragment that was cut off, rather than nothing of it
    #[arg(long)]
    pub keep_parts: bool,

    /// What becomes of a file when its session is closed
    #[arg(long, value_enum, default_value_t)]
    pub delivery: Delivery,

    /// Answer 405 to HEAD, as a server that takes uploads and serves nothing
    #[arg(long)]
    pub refuse_head: bool,

    /// Tell a server application about every complete upload: http URL, at most 2200 characters
    #[arg(long, value_name = "URL", value_parser = parse_notify_url)]
    pub notify_url: Option<String>,

    /// Give the application the path of the file, or the file itself
    #[arg(long, value_enum, default_value_t, requires = "notify_url")]
    pub notify: NotifyMode,

    /// Limit for each of sending to the application, and waiting for its answer
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub notify_timeout: Duration,

    /// Speak TLS with this certificate and its chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Serve only clients with a certificate of these authorities, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Log only what went wrong
    #[arg(long, short)]
    pub quiet: bool,
}

/// What becomes of a file when its session is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// It keeps the time of its last write, as with IIS
    #[default]
    Rename,
    /// It gets the time of its delivery
    Stamp,
    /// An application moves it away at once, below ROOT/taken
    TakeAway,
}

/// How the server application gets an upload, the BITSServerNotificationType of IIS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NotifyMode {
    /// Paths in headers, no body
    #[default]
    ByReference,
    /// The file as body, the reply as body of the answer
    ByValue,
}

impl Options {
    pub fn overlap(&self) -> Overlap {
        match (self.strict_ranges, self.overwrite_overlaps) {
            (true, _) => Overlap::Refuse,
            (_, true) => Overlap::Overwrite,
            _ => self.flavour.overlap(),
        }
    }
}

fn parse_create_status(text: &str) -> Result<u16, String> {
    match text {
        "200" => Ok(200),
        "201" => Ok(201),
        _ => Err("must be 200 or 201".to_owned()),
    }
}

fn parse_host_id(text: &str) -> Result<String, String> {
    // MC-BUP 2.2.3.2: a host, no port; the IIS property is limited to 300 characters.
    let fine = !text.is_empty() && text.len() <= 300 && text.bytes().all(|b| b.is_ascii_graphic());
    if fine && !text.contains('/') {
        Ok(text.to_owned())
    } else {
        Err("must be a host name or address of at most 300 characters".to_owned())
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = split_unit(
        text,
        &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
        1000,
    );
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit_ms))
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| "must be a number with ms, s, m, h or d, more than zero".to_owned())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) =
        split_unit(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)], 1);
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .ok_or_else(|| "must be a number of bytes, or one with KiB, MiB or GiB".to_owned())
}

fn split_unit<'a>(text: &'a str, units: &[(&str, u64)], plain: u64) -> (&'a str, u64) {
    units
        .iter()
        .find_map(|(name, factor)| text.strip_suffix(name).map(|number| (number, *factor)))
        .unwrap_or((text, plain))
}

fn parse_notify_url(text: &str) -> Result<String, String> {
    crate::notify::Target::parse(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| "must be http://host[:port]/path of at most 2200 characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("14d"), Ok(Duration::from_secs(1_209_600)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        for bad in ["", "d", "-1s", "1w", "0s", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("30000000"), Ok(30_000_000));
        assert_eq!(parse_bytes("13MiB"), Ok(13 << 20));
        assert!(parse_bytes("13MB").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn a_notification_type_needs_an_address() {
        let parse = |more: &[&str]| {
            let base = ["backend-stub", "--listen", "x:0", "--root", "r"];
            Options::try_parse_from(base.iter().chain(more))
        };
        assert!(parse(&["--notify", "by-value"]).is_err());
        assert!(parse(&["--notify", "by-value", "--notify-url", "http://a/b"]).is_ok());
        assert!(parse(&["--notify-url", "https://a/b"]).is_err());
    }
}
