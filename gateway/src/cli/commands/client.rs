//! Talking to a gateway that runs, over its admin listener.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use super::transport::{self, Secure, Target, TransportError};
use super::{config_file, count, explain, print, print_error, table::printable, to_text};
use crate::config::report::Report;
use crate::config::token::{Token, TokenError};
use crate::config::{self, LoadError};
use crate::process::exit::Exit;

/// How to reach the gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The admin listener, such as 127.0.0.1:9081, unix:/run/bits-gateway/admin.sock or
    /// `https://gw1.example.com:9443`
    #[arg(long, value_name = "ADDR|unix:PATH|URL")]
    pub admin: Option<Target>,
    /// The configuration of the gateway, of which only `admin` is read
    /// [default: $BITSGW_CONFIG, or /etc/bits-gateway/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The file with the token, for an address [default: the one in the configuration]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// CA certificates to trust for an https:// listener (PEM) [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A gateway that can be asked.
#[derive(Debug)]
pub struct Client {
    target: Target,
    token: Option<Token>,
    /// What is to be said of the configuration that named the target.
    notice: Option<String>,
    /// How long an answer to a question is waited for.
    patience: Duration,
}

/// Where it listens, its token, and what is to be said of the file.
type Found = (Target, Option<PathBuf>, Option<String>);

/// Why there is no answer, or not the one that was wished for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("where is the gateway?")]
    Nowhere,
    #[error(transparent)]
    Config(LoadError),
    #[error("no admin listener is configured in {}", path.display())]
    NoListener { path: PathBuf },
    #[error("`admin.address` in {} has port 0, so its port is unknown", path.display())]
    AnyPort { path: PathBuf },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the gateway is not running: nothing listens on {target}")]
    NotRunning { target: Target },
    #[error("you may not use {target}")]
    NoPermission { target: Target },
    #[error("the gateway at {target} does not answer: {source}")]
    Io { target: Target, source: io::Error },
    #[error("what listens on {target} is no admin listener of a gateway")]
    NotAGateway { target: Target },
    #[error("{message}")]
    Refused {
        status: u16,
        code: String,
        message: String,
        details: Option<String>,
        /// Of a configuration, as `check --json` has them.
        findings: Option<Box<Json>>,
    },
    /// A name that the command itself has looked for.
    #[error("{message}")]
    Unknown { message: String, help: String },
    /// Something that the command itself found out.
    #[error("{message}")]
    Failed { code: &'static str, message: String, exit: Exit },
}

/// Longer than the listener gives itself.
const ANSWER: Duration = Duration::from_secs(70);

/// What a segment of a path may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'@');

impl Connection {
    /// Finds out where the gateway is, without asking it yet. Says so if the file as a whole cannot
    /// be used.
    pub fn client(&self) -> Result<Client, ClientError> {
        let client = self.find()?;
        client.notice.iter().for_each(|notice| print_error(notice));
        Ok(client)
    }

    /// As [`Self::client`], for a command of which the gateway says itself what is wrong with the
    /// file.
    pub fn find(&self) -> Result<Client, ClientError> {
        let (mut target, token_file, notice) = match (&self.admin, &self.token_file) {
            (Some(target @ Target::Unix(_)), _) => (target.clone(), None, None),
            (Some(target), Some(file)) => (target.clone(), Some(file.clone()), None),
            (given, _) => self.read(given.clone())?,
        };
        if let Target::Tls(secure) = &mut target {
            secure.ca.clone_from(&self.ca);
        }
        let token = token_file.as_deref().map(Token::read).transpose()?;
        Ok(Client { target, token, notice, patience: ANSWER })
    }

    /// What the configuration says.
    fn read(&self, given: Option<Target>) -> Result<Found, ClientError> {
        let named = self.config.clone().or_else(config_file::from_environment);
        let path = named.clone().unwrap_or_else(|| config_file::DEFAULT.into());
        let part = match config::load_part(&path, &["admin"], std::env::vars_os()) {
            Ok(part) => part,
            // Nobody has named it, so nobody expects it.
            Err(LoadError::Missing { .. }) if named.is_none() => {
                let target = given.ok_or(ClientError::Nowhere)?;
                return Ok((target, self.token_file.clone(), None));
            }
            Err(error) => return Err(ClientError::Config(error)),
        };
        let admin = part.admin();
        let target = match (given, admin.socket, admin.address) {
            (Some(target), ..) => target,
            (None, Some(socket), _) => Target::Unix(socket),
            (None, None, Some(address)) if address.port() == 0 => {
                return Err(ClientError::AnyPort { path });
            }
            (None, None, Some(address)) => match admin.tls {
                None => Target::Tcp(address),
                Some(_) => Target::Tls(secure(reachable(address), admin.hosts)),
            },
            (None, None, None) => {
                return Err(match part.broken {
                    // Perhaps that is why there is none in it.
                    Some(report) => {
                        ClientError::Config(LoadError::Invalid { path, report: Box::new(report) })
                    }
                    None => ClientError::NoListener { path },
                });
            }
        };
        let token_file = match &target {
            Target::Unix(_) => None,
            Target::Tcp(_) | Target::Tls(_) => self.token_file.clone().or(admin.token_file),
        };
        Ok((target, token_file, part.broken.map(|report| notice(&path, &report))))
    }

    /// Asks, and shows what came of it: `show` turns the result into text for people.
    pub fn run(
        &self,
        ask: impl FnOnce(&Client) -> Result<Json, ClientError>,
        show: impl FnOnce(&Json) -> String,
    ) -> Exit {
        self.show(self.client().and_then(|client| ask(&client)), show)
    }

    /// Shows what came of asking.
    pub fn show(
        &self,
        asked: Result<Json, ClientError>,
        show: impl FnOnce(&Json) -> String,
    ) -> Exit {
        match asked {
            Ok(answer) if self.json => print(&to_text(&answer)),
            Ok(answer) => print(&show(&answer)),
            Err(error) => fail(&error, self.json),
        }
    }
}

impl Client {
    /// For who asks again soon.
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub fn get(&self, path: &str) -> Result<Json, ClientError> {
        self.ask(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Result<Json, ClientError> {
        self.ask(Method::POST, path)
    }

    pub fn delete(&self, path: &str) -> Result<Json, ClientError> {
        self.ask(Method::DELETE, path)
    }

    /// `path` is what follows `/api/v1/`.
    fn ask(&self, method: Method, path: &str) -> Result<Json, ClientError> {
        let host = match &self.target {
            Target::Tcp(address) => address.to_string(),
            Target::Unix(_) => "localhost".to_owned(),
            Target::Tls(secure) => format!("{}:{}", secure.host, secure.port),
        };
        let patience = if method == Method::GET { self.patience } else { ANSWER };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(HOST, host)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.secret()));
        }
        let stranger = || ClientError::NotAGateway { target: self.target.clone() };
        let request = request.body(String::new()).map_err(|_| stranger())?;
        let answer = transport::exchange(&self.target, request, patience);
        let (status, body) = answer.map_err(|error| self.trouble(error))?;
        let body: Json = serde_json::from_slice(&body).map_err(|_| stranger())?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let error = &body["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        match (text("code"), text("message")) {
            (Some(code), Some(message)) => {
                let (details, findings) =
                    (text("details"), error.get("findings").cloned().map(Box::new));
                let status = status.as_u16();
                Err(ClientError::Refused { status, code, message, details, findings })
            }
            _ => Err(stranger()),
        }
    }

    fn trouble(&self, error: TransportError) -> ClientError {
        let target = self.target.clone();
        let source = match error {
            TransportError::Stranger => return ClientError::NotAGateway { target },
            TransportError::Io(source) => source,
        };
        match source.kind() {
            _ if transport::is_nobody(&source) => ClientError::NotRunning { target },
            io::ErrorKind::PermissionDenied => ClientError::NoPermission { target },
            _ => ClientError::Io { target, source },
        }
    }
}

/// A listener of this machine, by the first of its names.
fn secure(address: SocketAddr, hosts: Vec<String>) -> Secure {
    let own = || match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let host = hosts.into_iter().next().unwrap_or_else(own);
    Secure { host, port: address.port(), at: Some(address), ca: None }
}

/// Where a listener on all addresses is found.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// That the file is of no use for a gateway that starts.
fn notice(path: &Path, report: &Report) -> String {
    format!(
        "warning: {} cannot be used: {}; only its [admin] is read here\n\
         help: `bits-gateway check {0}` shows what is wrong\n",
        path.display(),
        count(report)
    )
}

/// A part of a path, whatever it holds.
pub fn segment(text: &str) -> String {
    match text {
        // Programs on the way take these two for steps up and down.
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        text => utf8_percent_encode(text, PLAIN).to_string(),
    }
}

/// Tells why a command could not do its work.
pub fn fail(error: &ClientError, json: bool) -> Exit {
    let exit = error.exit();
    if json {
        let mut body = json!({ "error": { "code": error.code(), "message": error.to_string() } });
        let findings = match error {
            ClientError::Refused { findings, .. } => findings.as_deref().cloned(),
            ClientError::Config(LoadError::Invalid { report, .. }) => Some(report.to_json()),
            _ => None,
        };
        if let Some(findings) = findings {
            body["error"]["findings"] = findings;
        }
        return match print(&to_text(&body)) {
            Exit::Ok => exit,
            other => other,
        };
    }
    match error {
        ClientError::Config(error) => return explain(error),
        ClientError::Refused { details: Some(details), .. } => {
            print_error(&details.lines().map(|line| printable(line) + "\n").collect::<String>());
        }
        _ => {}
    }
    print_error(&format!("error: {}\n", printable(&error.to_string())));
    if let Some(help) = error.help() {
        print_error(&format!("help: {help}\n"));
    }
    exit
}

impl ClientError {
    /// Whether the gateway may answer in a moment, as while it is started anew.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Io { .. })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Nowhere => Exit::Usage,
            Self::Config(error) => super::exit_code(error),
            Self::NoListener { .. } | Self::AnyPort { .. } => Exit::Config,
            Self::Token(TokenError::Read { source, .. })
                if source.kind() != io::ErrorKind::PermissionDenied =>
            {
                Exit::Io
            }
            Self::Token(_) | Self::NoPermission { .. } => Exit::Permission,
            Self::NotRunning { .. } | Self::NotAGateway { .. } => Exit::Unavailable,
            Self::Io { .. } => Exit::Io,
            Self::Refused { status: 401 | 403, .. } => Exit::Permission,
            Self::Refused { status: 422, .. } => Exit::Config,
            Self::Refused { .. } | Self::Unknown { .. } => Exit::Failure,
            Self::Failed { exit, .. } => *exit,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Nowhere => "usage",
            Self::Config(_) => "config_invalid",
            Self::NoListener { .. } | Self::AnyPort { .. } => "no_admin_listener",
            Self::Token(_) => "token_file",
            Self::NotRunning { .. } => "not_running",
            Self::NoPermission { .. } => "no_permission",
            Self::Io { .. } => "no_answer",
            Self::NotAGateway { .. } => "not_a_gateway",
            Self::Refused { code, .. } => code,
            Self::Unknown { .. } => "backend_not_found",
            Self::Failed { code, .. } => code,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Nowhere => {
                format!(
                    "name it by --admin, or its configuration by --config or BITSGW_CONFIG; there \
                     is no {}",
                    config_file::DEFAULT
                )
            }
            Self::NoListener { .. } => {
                "set admin.socket, or admin.address and admin.token_file, and restart the gateway"
                    .to_owned()
            }
            Self::AnyPort { .. } => "name the address by --admin; the ready file has it".to_owned(),
            Self::Token(error) => error.help().to_owned(),
            Self::Unknown { help, .. } => help.clone(),
            Self::Io { target: Target::Tls(_), source }
                if source.kind() == io::ErrorKind::InvalidData =>
            {
                "name the authority of its certificate by --ca, and it by a name in the certificate"
                    .to_owned()
            }
            Self::NoPermission { .. } => {
                "be the user that the gateway runs as, or set admin.socket_mode = \"0660\" and be \
                 in its group"
                    .to_owned()
            }
            Self::Refused { code, .. } => match code.as_str() {
                "token_missing" => "name the file with the token by --token-file".to_owned(),
                "token_wrong" => "the gateway read its token from admin.token_file when it was \
                                  started: is this the same?"
                    .to_owned(),
                "backend_not_found" => "`bits-gateway backends list` shows them".to_owned(),
                "session_not_found" => {
                    "it has ended, or never was; `bits-gateway sessions list` shows what there is"
                        .to_owned()
                }
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_over_loopback() {
        let check = |from: &str, to: &str| {
            assert_eq!(reachable(from.parse().unwrap()), to.parse().unwrap());
        };
        check("0.0.0.0:9080", "127.0.0.1:9080");
        check("[::]:9080", "[::1]:9080");
        check("10.0.0.1:9080", "10.0.0.1:9080");
    }

    #[test]
    fn a_segment_survives_the_way() {
        assert_eq!(segment("{3F9C}"), "%7B3F9C%7D");
        assert_eq!(segment("/in/a%20b?c#d"), "%2Fin%2Fa%2520b%3Fc%23d");
        assert_eq!(segment("@00ff"), "@00ff");
        assert_eq!(segment(".."), "%2E%2E");
    }
}
