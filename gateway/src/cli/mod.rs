//! The command line: what can be typed, and who does it.

pub mod commands;
pub mod demo;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::app::{self, RunOptions};
use crate::base::build_info::VERSION_AND_REVISION;
use crate::cli::commands::config_file::ConfigFile;
use crate::config::kind::Refusal;
use crate::config::reload::Source;
use crate::config::{self, BackendAddress};
use crate::tls::Identity;
use crate::tls::settings::CertificateFiles;

/// Keeps BITS uploads on the server that has their file.
#[derive(Debug, Parser)]
#[command(name = "bits-gateway", version, long_version = VERSION_AND_REVISION, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 ok, 1 failure, 2 usage, 69 dependency missing, 74 I/O, \
                        77 permission, 78 bad configuration.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Run(RunArgs),
    Upload(Box<bits_uploader::Args>),
    Demo(crate::cli::demo::Args),
    /// A server of the demo
    #[command(name = crate::cli::demo::SERVER_COMMAND, hide = true)]
    DemoServer(Box<backend_stub::options::Options>),
    /// Check a configuration: show every mistake, or what would run
    Check(CheckArgs),
    /// Print the configuration schema
    Schema(SchemaArgs),
    /// Work with a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show status
    Status(commands::status::Args),
    /// Say in one line whether all is well, for monitoring and containers
    #[command(
        after_help = "Exit status: 0 ok, 1 warning, 2 critical, 3 unknown; with --live 0 or 1."
    )]
    Health(commands::health::Args),
    /// Manage uploads that the gateway remembers
    #[command(subcommand)]
    Sessions(commands::sessions::Command),
    /// Manage upload servers
    #[command(subcommand)]
    Backends(commands::backends::Command),
    /// Show uploads and backends as they change, in a terminal
    Top(commands::top::Args),
    /// Show recent events: backends, sessions, reloads, certificates, the store, operators
    Events(Box<commands::events::Args>),
    /// Back up or restore the session store
    #[command(subcommand)]
    Store(commands::store::Command),
    /// Have the gateway read its configuration again
    Reload(commands::reload::Args),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands into this directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the version
    Version(Json),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every value that counts and where it comes from
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Without a configuration: an upload server, as in `10.0.0.11:80`; once for each. Sessions are
    /// kept in memory only
    #[arg(long, value_name = "ADDRESS", value_parser = backend_address)]
    #[arg(conflicts_with_all = ["bare", "config"])]
    pub backend: Vec<BackendAddress>,
    /// With --backend: address for clients [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", requires = "backend")]
    #[arg(conflicts_with_all = ["bare", "config"])]
    pub listen: Option<SocketAddr>,
    /// Write this file once every listener accepts connections
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Take over the sockets of the gateway that runs with this configuration, which then drains
    #[arg(long)]
    pub upgrade: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Skip checks that depend on this machine: DNS, open-file limit
    #[arg(long)]
    pub portable: bool,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = SchemaFormat::Json)]
    pub format: SchemaFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaFormat {
    /// JSON Schema, for editors
    Json,
    /// A page of documentation
    Markdown,
    /// A commented configuration with every default
    Example,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Upload(args) => bits_uploader::run(*args, load_identity),
        Command::Demo(args) => crate::cli::demo::run(args),
        Command::DemoServer(options) => backend_stub::main(*options),
        Command::Check(args) => {
            commands::check::check(&args.config.path(), args.portable, args.json.json).into()
        }
        Command::Schema(args) => commands::schema::schema(args.format).into(),
        Command::Config(ConfigCommand::Dump(args)) => {
            commands::dump::dump(&args.config.path(), args.json.json).into()
        }
        Command::Status(args) => commands::status::status(&args).into(),
        Command::Health(args) => commands::health::health(&args),
        Command::Sessions(command) => commands::sessions::sessions(&command).into(),
        Command::Backends(command) => commands::backends::backends(&command).into(),
        Command::Top(args) => commands::top::top(&args).into(),
        Command::Events(args) => commands::events::events(&args).into(),
        Command::Store(command) => commands::store::store(&command).into(),
        Command::Reload(args) => commands::reload::reload(&args).into(),
        Command::Completions { shell } => commands::meta::completions(shell).into(),
        Command::Man { dir } => commands::meta::man(dir.as_deref()).into(),
        Command::Version(args) => commands::meta::version(args).into(),
    }
}

/// Where clients connect by default: not from the network.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

fn run(args: RunArgs) -> ExitCode {
    let RunArgs { config, backend, listen, ready_file, upgrade } = args;
    let config = match backend.as_slice() {
        [] => Source::new(config.path()),
        backends => Source::of_backends(listen.unwrap_or(LISTEN), backends),
    };
    match config.load() {
        Ok(loaded) => app::run(loaded, RunOptions { config, ready_file, upgrade }),
        Err(error) => commands::start::refuse(&config.path, &error).into(),
    }
}

fn backend_address(text: &str) -> Result<BackendAddress, String> {
    config::host_port(text).map_err(|Refusal { message, label, help, .. }| {
        let help = help.map(|help| format!("; {help}")).unwrap_or_default();
        format!("{message}: {label}{help}")
    })
}

/// The certificate of `bits-gateway upload`, read as strictly as those of the gateway.
fn load_identity(
    certificate: &Path,
    key: &Path,
) -> Result<Arc<CertifiedKey>, Box<dyn Error + Send + Sync>> {
    let files = CertificateFiles { certificate: certificate.into(), key: key.into() };
    Ok(Identity::load(&files)?.certified)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
