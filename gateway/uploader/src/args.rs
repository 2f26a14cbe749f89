//! The command line of `bits-gateway upload`.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;

use crate::client::{Credentials, parse_header};
use crate::engine::{SMALLEST_FRAGMENT, Settings};
use crate::error::UploadError;
use crate::exchange::Patience;
use crate::target::Mapping;

/// Upload a file to a BITS server or a farm of them
///
/// Speaks the protocol that Windows' BITSAdmin and Start-BitsTransfer speak, on any platform. An
/// upload that was interrupted goes on where it stopped when the same command is given again.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The file to upload
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Where it goes; a URL that ends in / gets the file's name appended
    #[arg(value_name = "URL")]
    pub url: String,

    /// Print one JSON object with the result on standard output
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,

    /// End the session that an interrupted upload left on the server, and forget it
    #[arg(long)]
    pub cancel: bool,

    /// Keep what is needed to resume in this file [default: in the user's cache folder]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Send at most so many bytes in one request (at least 5KiB); smaller ones repeat less after an
    /// error
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = fragment_size)]
    pub fragment_size: u64,

    /// Wait so long before trying again after an error that may pass
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub retry_delay: Duration,

    /// Give up after so long without progress; 0 ends at the first error
    #[arg(
        long,
        visible_alias = "retry-timeout",
        value_name = "TIME",
        default_value = "1h",
        value_parser = duration
    )]
    pub give_up: Duration,

    /// Wait so long for an answer; the last one may take as long as the application behind the
    /// server needs
    #[arg(long, value_name = "TIME", default_value = "310s", value_parser = duration)]
    pub answer_timeout: Duration,

    /// Send at most so many bytes per second
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub limit_rate: Option<NonZeroU64>,

    /// Log in with this name; the password is asked for
    #[arg(long, value_name = "NAME", value_parser = user)]
    pub user: Option<String>,

    /// Take the password from the first line of this file
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,

    /// Send one more header field with every request; may stand several times
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    pub header: Vec<(String, String)>,

    /// Connect to ADDRESS instead of asking DNS for HOST, which may be * or *.domain; may stand
    /// several times
    #[arg(long, value_name = "HOST:ADDRESS[:PORT]")]
    pub resolve: Vec<Mapping>,

    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Show this certificate to a server that asks for one, PEM with its chain
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,

    /// The private key of the certificate, PEM; nobody else may be able to read it
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,

    /// Store the server application's reply in this file, if there is one
    #[arg(long, value_name = "FILE")]
    pub reply: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
The password comes from --password-file, the environment variable BITS_GATEWAY_PASSWORD or a prompt.
It is sent only to hosts that ask for it, by HTTP Basic: use https.

Exit status: 0 uploaded, 1 not uploaded, 2 wrong arguments, 74 a local file could not be read or
written.";

impl Args {
    pub fn settings(&self) -> Settings {
        Settings {
            fragment_bytes: self.fragment_size,
            retry_delay: self.retry_delay,
            give_up: self.give_up,
            bytes_per_second: self.limit_rate,
            reply: self.reply.clone(),
        }
    }

    /// The files with what is shown to servers that ask for a certificate, and its key.
    pub fn identity(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }

    pub fn patience(&self) -> Patience {
        Patience { send: SEND_PATIENCE, answer: self.answer_timeout }
    }

    /// Finds the password. Never on the command line, where every process could read it.
    pub fn credentials(&self) -> Result<Option<Credentials>, UploadError> {
        let Some(user) = self.user.clone() else { return Ok(None) };
        let password = match (&self.password_file, std::env::var("BITS_GATEWAY_PASSWORD")) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    UploadError::Usage(format!("cannot read {}: {error}", file.display()))
                })?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, Ok(password)) => password,
            (None, Err(_)) => ask_password(&user)?,
        };
        Ok(Some(Credentials { user, password }))
    }
}

/// What Windows allows for sending a whole request (MC-BUP 3.1.2.1); here for every step of it.
const SEND_PATIENCE: Duration = Duration::from_secs(120);

fn ask_password(user: &str) -> Result<String, UploadError> {
    let terminal = console::Term::stderr();
    let missing = "a password is needed: --password-file, BITS_GATEWAY_PASSWORD, or a terminal";
    if !terminal.is_term() {
        return Err(UploadError::Usage(missing.to_owned()));
    }
    let asked = terminal.write_str(&format!("Password for {user}: "));
    asked.and_then(|()| terminal.read_secure_line()).map_err(|_| UploadError::Interrupted)
}

fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 5s, 10m, 1h"))
}

pub fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.0).map_err(|_| "write a size like 512KiB, 4MiB".into())
}

fn fragment_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < SMALLEST_FRAGMENT {
        return Err("the protocol's smallest fragment is 5KiB".to_owned());
    }
    Ok(bytes)
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(size(text)?).ok_or_else(|| "a rate of 0 would never end".to_owned())
}

fn user(text: &str) -> Result<String, String> {
    if text.contains(':') {
        return Err("a name holds no colon; the password is asked for".to_owned());
    }
    if text.chars().any(char::is_control) || text.is_empty() {
        return Err("this is no name".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let words = ["upload", "file", "http://up.test/x"].iter().chain(words);
        <Command as clap::Parser>::try_parse_from(words).map(|command| command.args)
    }

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        let args = parse(&["--fragment-size", "13MiB", "--retry-delay", "250ms", "--give-up", "0"]);
        let args = args.unwrap();
        assert_eq!(args.fragment_size, 13 << 20);
        assert_eq!(args.retry_delay, Duration::from_millis(250));
        assert_eq!(args.give_up, Duration::ZERO);
    }

    #[test]
    fn wrong_arguments_are_refused_before_anything_is_sent() {
        for words in [
            ["--fragment-size", "1KiB"],
            ["--fragment-size", "big"],
            ["--retry-delay", "soon"],
            ["--limit-rate", "0"],
            ["--user", "joe:secret"],
            ["--header", "Host: x"],
            ["--resolve", "up.test"],
            ["--password-file", "x"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }
}
