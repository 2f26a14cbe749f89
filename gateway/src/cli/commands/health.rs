//! `bits-gateway health`, for monitoring plugins and containers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Request;
use http::header::HOST;
use serde_json::{Value as Json, json};

use super::client::{ClientError, Connection, reachable};
use super::table::{plural, printable};
use super::transport::{self, Target, TransportError};
use super::{config_file, print, to_text};
use crate::config;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Ask only whether the process answers: exit code 0 or 1
    #[arg(long)]
    pub live: bool,
    /// The ops listener, such as 127.0.0.1:9080
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    pub ops: Option<SocketAddr>,
    /// The configuration of the gateway, of which only `ops` and `admin` are read
    /// [default: $BITSGW_CONFIG, or /etc/bits-gateway/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How it stands, as a monitoring plugin says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Critical,
    /// There is no listener to ask.
    Unknown,
}

/// Why nothing can be said of the gateway's health.
enum Silence {
    /// It does not answer.
    Dead(String),
    /// It could not be asked.
    Unknown(String),
}

/// Says in one line how the gateway is.
pub fn health(args: &Args) -> ExitCode {
    let asked = if args.live { live(args) } else { judged(args) };
    let (state, line, answer) = match asked {
        Ok((state, line, answer)) => (state, line, answer),
        Err(silence) => {
            let (state, line) = match silence {
                Silence::Dead(line) => (State::Critical, line),
                Silence::Unknown(line) => (State::Unknown, line),
            };
            let answer = json!({ "status": state.word().to_lowercase(), "error": line });
            (state, line, answer)
        }
    };
    let text = match args.json {
        true => to_text(&answer),
        false => format!("{}: {}\n", state.word(), printable(&line)),
    };
    print(&text);
    let code = match (args.live, state) {
        (true, State::Ok) => 0,
        (true, _) => 1,
        (false, state) => state as u8,
    };
    ExitCode::from(code)
}

type Asked = Result<(State, String, Json), Silence>;

fn live(args: &Args) -> Asked {
    match listener(args)? {
        Listener::Ops(target) => match ask(args, &target, "/livez")? {
            (200, _) => {}
            (status, _) => return Err(Silence::Dead(format!("{target} answers {status}"))),
        },
        Listener::Admin(connection) => {
            status(&connection)?;
        }
    }
    Ok((State::Ok, "the process answers".to_owned(), json!({ "status": "ok" })))
}

fn judged(args: &Args) -> Asked {
    let answer = match listener(args)? {
        Listener::Ops(target) => {
            let (_, body) = ask(args, &target, "/health")?;
            let stranger = || Silence::Dead(format!("what listens on {target} is no gateway"));
            serde_json::from_slice(&body).map_err(|_| stranger())?
        }
        Listener::Admin(connection) => status(&connection)?["health"].clone(),
    };
    let state = match answer["status"].as_str() {
        Some("ok") => State::Ok,
        Some("warning") => State::Warning,
        Some("critical") => State::Critical,
        _ => return Err(Silence::Dead("what answers is no gateway of this version".to_owned())),
    };
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    let messages = answer["problems"].as_array().into_iter().flatten();
    let messages: Vec<&str> = messages.filter_map(|one| one["message"].as_str()).collect();
    let line = match messages.as_slice() {
        [] => format!(
            "new uploads go to {} of {}, {} known",
            number("eligible"),
            plural(number("backends"), "backend"),
            plural(number("sessions"), "upload")
        ),
        messages => messages.join("; "),
    };
    Ok((state, line, answer))
}

enum Listener {
    Ops(Target),
    Admin(Box<Connection>),
}

/// Whom to ask: the ops listener, which every user of the machine may, or else the admin listener.
fn listener(args: &Args) -> Result<Listener, Silence> {
    if let Some(address) = args.ops {
        return Ok(Listener::Ops(Target::Tcp(reachable(address))));
    }
    let path = args.config.clone().or_else(config_file::from_environment);
    let path = path.unwrap_or_else(|| config_file::DEFAULT.into());
    let part = config::load_part(&path, &["ops", "admin"], std::env::vars_os());
    let part = part.map_err(|error| Silence::Unknown(error.to_string()))?;
    let unknown = |text: &str| Silence::Unknown(format!("{}: {text}", path.display()));
    let admin = part.admin();
    let is_on = admin.socket.is_some() || admin.address.is_some_and(|address| address.port() != 0);
    match part.ops().address {
        Some(address) if address.port() != 0 => Ok(Listener::Ops(Target::Tcp(reachable(address)))),
        _ if is_on => {
            let config = Some(path);
            let connection =
                Connection { admin: None, config, token_file: None, ca: None, json: false };
            Ok(Listener::Admin(Box::new(connection)))
        }
        Some(_) => {
            Err(unknown("`ops.address` has port 0, so its port is unknown; name it by --ops"))
        }
        None if admin.address.is_some() => Err(unknown(
            "`admin.address` has port 0, so its port is unknown, and `ops` is off; set `admin.socket`",
        )),
        None => Err(unknown("neither `ops` nor `admin` is on, so there is no listener to ask")),
    }
}

fn ask(args: &Args, target: &Target, path: &str) -> Result<(u16, Vec<u8>), Silence> {
    let request = Request::get(path).header(HOST, "localhost").body(String::new());
    let request = request.expect("a path of ours is one");
    let (status, body) =
        transport::exchange(target, request, args.timeout).map_err(|error| match error {
            TransportError::Stranger => {
                Silence::Dead(format!("what listens on {target} is no gateway"))
            }
            TransportError::Io(error) if transport::is_nobody(&error) => {
                Silence::Dead(format!("the gateway is not running: nothing listens on {target}"))
            }
            TransportError::Io(error) => {
                Silence::Dead(format!("{target} does not answer: {error}"))
            }
        })?;
    Ok((status.as_u16(), body))
}

fn status(connection: &Connection) -> Result<Json, Silence> {
    let asked = connection.find().and_then(|client| client.get("status"));
    asked.map_err(|error| match &error {
        ClientError::NotRunning { .. } | ClientError::Io { .. } => Silence::Dead(error.to_string()),
        _ => Silence::Unknown(error.to_string()),
    })
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}
