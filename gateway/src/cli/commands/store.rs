//! `bits-gateway store backup` and `restore`.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::client::{ClientError, fail};
use super::confirm::confirm;
use super::table::{plural, printable, size};
use super::{config_file, print, to_text};
use crate::base::clock;
use crate::config::{self, Store};
use crate::process::exit::Exit;
use crate::sessions::store::{Copied, OpenError, backup, restore};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Copy the session store into one file, whether a gateway runs on it or not
    Backup(BackupArgs),
    /// Put such a copy in the place of the session store of a gateway that is stopped
    Restore(RestoreArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// Where to; it holds session ids, which are secrets
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// What `backup` has made
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Which store.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The directory of the store [default: the one in the configuration]
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub store: Option<PathBuf>,
    /// The configuration of the gateway, of which only `store` is read
    /// [default: $BITSGW_CONFIG, or /etc/bits-gateway/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn store(command: &Command) -> Exit {
    let (place, done) = match command {
        Command::Backup(args) => (&args.place, back_up(args)),
        Command::Restore(args) => (&args.place, put_back(args)),
    };
    match done {
        Ok((answer, _)) if place.json => print(&to_text(&answer)),
        Ok((_, text)) => print(&text),
        Err(error) => fail(&error, place.json),
    }
}

fn back_up(args: &BackupArgs) -> Result<(Json, String), ClientError> {
    let directory = args.place.directory()?;
    let copied = backup(&directory, &args.file, args.force).map_err(|error| match &error {
        OpenError::Trouble(trouble) if trouble.path == args.file && args.file.exists() => {
            let message = format!("{} is there already; --force replaces it", args.file.display());
            ClientError::Failed { code: "file_exists", message, exit: Exit::Io }
        }
        _ => failed(&error),
    })?;
    let file = args.file.display().to_string();
    let text = format!("{}: {}\n{}", printable(&file), counts(&copied), damage(&copied));
    Ok((to_json(&file, &copied), text))
}

fn put_back(args: &RestoreArgs) -> Result<(Json, String), ClientError> {
    let directory = args.place.directory()?;
    let shown = printable(&directory.display().to_string());
    if !args.yes {
        confirm(&format!(
            "The store in {shown} is replaced by {}. Uploads that have begun since it was made are \
             looked for at their servers.\nGo on?",
            printable(&args.file.display().to_string()),
        ))?;
    }
    let restored = restore(&directory, &args.file, clock::now()).map_err(|error| match &error {
        OpenError::InUse { .. } => ClientError::Failed {
            code: "in_use",
            message: format!("{error}: stop it first"),
            exit: error.exit(),
        },
        _ => failed(&error),
    })?;
    let file = args.file.display().to_string();
    let copied = &restored.copied;
    let mut text = format!("{shown}: {}\n{}", counts(copied), damage(copied));
    let mut answer = to_json(&file, copied);
    if let Some(aside) = &restored.aside {
        let aside = aside.display().to_string();
        text.push_str(&format!("the database that was there is {} now\n", printable(&aside)));
        answer["aside"] = aside.into();
    }
    Ok((answer, text))
}

impl Place {
    fn directory(&self) -> Result<PathBuf, ClientError> {
        if let Some(directory) = &self.store {
            return Ok(directory.clone());
        }
        let path = self.config.clone().or_else(config_file::from_environment);
        let path = path.unwrap_or_else(|| config_file::DEFAULT.into());
        let part = config::load_part(&path, &["store"], std::env::vars_os());
        match part.map_err(ClientError::Config)?.store() {
            Store::Sqlite(store) => Ok(store.path),
            Store::Memory => Err(ClientError::Failed {
                code: "no_store",
                message: format!("{}: sessions are in memory only", path.display()),
                exit: Exit::Config,
            }),
        }
    }
}

fn failed(error: &OpenError) -> ClientError {
    let message = match error {
        // Its help speaks of a gateway that goes on by itself.
        OpenError::Trouble(_) => error.to_string(),
        error => format!("{error}; {}", error.help()),
    };
    ClientError::Failed { code: "store", message, exit: error.exit() }
}

fn counts(copied: &Copied) -> String {
    format!(
        "{}, {} that have ended, {}, {}",
        plural(copied.sessions, "session"),
        copied.ended,
        plural(copied.states, "state") + " of backends",
        size(copied.bytes)
    )
}

fn damage(copied: &Copied) -> String {
    match copied.damaged {
        0 => String::new(),
        rows => format!("warning: {} damaged and of no use\n", plural(rows, "row")),
    }
}

fn to_json(file: &str, copied: &Copied) -> Json {
    let Copied { sessions, ended, states, damaged, bytes } = *copied;
    json!({
        "file": file, "sessions": sessions, "ended": ended, "backend_states": states,
        "damaged": damaged, "bytes": bytes,
    })
}
