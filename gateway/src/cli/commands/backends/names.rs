//! Which backends a command is about.

use serde_json::{Value as Json, json};

use crate::cli::commands::client::{Client, ClientError};
use crate::config::suggest::closest;

/// The backends that a command is about.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Names {
    /// The backends, one or several
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Every backend of the configuration
    #[arg(long)]
    pub all: bool,
}

/// Those that are meant, by the names that the gateway has for them. Where one of several is not
/// there, nothing is to be changed.
pub fn resolve(client: &Client, names: &[String], all: bool) -> Result<Vec<String>, ClientError> {
    if let ([name], false) = (names, all) {
        return Ok(vec![name.clone()]);
    }
    let known = client.get("backends")?;
    if all {
        let configured = backends(&known).filter(|backend| backend["configured"] != false);
        return Ok(configured.filter_map(name).map(str::to_owned).collect());
    }
    let find = |wanted: &String| {
        let found =
            backends(&known).filter_map(name).find(|name| name.eq_ignore_ascii_case(wanted));
        found.map(str::to_owned).ok_or_else(|| unknown(wanted, &known))
    };
    names.iter().map(find).collect()
}

/// The same error, with the name that was probably meant.
pub fn suggest(client: &Client, wanted: &str, error: ClientError) -> ClientError {
    match &error {
        ClientError::Refused { code, .. } if code == "backend_not_found" => {
            client.get("backends").map_or(error, |known| unknown(wanted, &known))
        }
        _ => error,
    }
}

fn unknown(wanted: &str, known: &Json) -> ClientError {
    let message = format!("there is no backend \"{wanted}\"");
    let help = match closest(wanted, backends(known).filter_map(name)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`bits-gateway backends list` shows them".to_owned(),
    };
    ClientError::Unknown { message, help }
}

fn backends(answer: &Json) -> impl Iterator<Item = &Json> {
    answer["backends"].as_array().into_iter().flatten()
}

fn name(backend: &Json) -> Option<&str> {
    backend["name"].as_str()
}

/// What came of several backends, in the shape of one where there is one.
pub fn together(mut answers: Vec<Json>) -> Json {
    if answers.len() == 1 { answers.remove(0) } else { json!({ "backends": answers }) }
}

/// The answers of [`together`].
pub fn each(answer: &Json) -> Vec<&Json> {
    match answer["backends"].as_array() {
        Some(answers) => answers.iter().collect(),
        None => vec![answer],
    }
}
