//! What a packet costs in the gateway, in other proxies and in a bare relay. `docs/performance.md` says how to read it.
//!
//! Clients ([`load`]) and servers ([`sink`]) are in this process; each peer ([`peers`]) is a process of its own, whose
//! processor time and memory the kernel tells ([`meter`]). A round ([`mod@run`]) gives every peer the same load in turn.

mod cases;
mod figure;
mod load;
mod machine;
mod meter;
mod peers;
mod relay;
mod report;
mod run;
mod sink;
mod stats;
mod tls;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e_tests::pki::Authority;
use e2e_tests::{binaries, open_files};

use cases::{CASES, Case};
use machine::Machine;
use peers::{PEERS, Peer, Programs, Setup};
use report::Table;
use run::Bench;

/// Says on standard error what goes on; standard output has the tables.
#[macro_export]
macro_rules! progress {
    ($($words:tt)*) => { eprintln!($($words)*) };
}

/// Measures what a packet costs in bits-gateway, HAProxy, nginx and a bare relay, side by side
#[derive(Parser, Debug)]
#[command(version, after_help = listing())]
struct Options {
    /// Only this case; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = cases())]
    case: Vec<String>,

    /// Only this peer; may be given more than once. Ratios need haproxy-1, haproxy-2 and a floor
    #[arg(long, value_name = "NAME", value_parser = names(PEERS.iter().map(|peer| peer.name)))]
    peer: Vec<String>,

    /// How many times each peer carries each load
    #[arg(long, value_name = "COUNT", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// How much of each load, in percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    percent: u16,

    /// A first look: 3 rounds of 10 percent
    #[arg(long, conflicts_with_all = ["rounds", "percent"])]
    quick: bool,

    /// Where the results go: results.json, results.md and a plot of each case
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    out: PathBuf,

    /// Where stores, logs and configurations of the peers go for as long as they run. Its disk is
    /// the one that durable sessions wait for
    #[arg(long, value_name = "DIRECTORY", default_value = "target")]
    work: PathBuf,

    /// The gateway [default: bits-gateway beside this program]
    #[arg(long, env = "BITS_GATEWAY_BIN", value_name = "PROGRAM")]
    gateway: Option<PathBuf>,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand, Debug)]
enum Part {
    /// The bare relay, which the suite starts by itself
    #[command(hide = true)]
    Relay(relay::Options),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.part {
        Some(Part::Relay(options)) => relay::run(options).map(|()| true),
        None => run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench-suite: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every row counts.
fn run(options: &Options) -> Result<bool, String> {
    // For this process and those that it starts.
    open_files::raise();
    let programs = find(options)?;
    let (rounds, percent) = match options.quick {
        true => (3, 10),
        false => (options.rounds.into(), options.percent.into()),
    };
    let peers: Vec<Peer> = chosen(PEERS, &options.peer, |peer| peer.name).copied().collect();
    let directory = Directory::new(&options.work)?;
    // Half of the machine for both, or less: the proxy needs the rest.
    let threads =
        std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 4).clamp(1, 8));
    let said = |error: std::io::Error| error.to_string();
    let farm = sink::Farm::start(SERVERS, threads).map_err(said)?;
    let machine = Machine::this(&programs, &peers, rounds, percent);
    let authority = Authority::new("bench-suite");
    let bench = Bench {
        tls: tls::client(&authority.pem())?,
        setup: Setup {
            directory: directory.0.clone(),
            servers: farm.addresses().to_vec(),
            issued: authority.issue(&[load::NAME]),
            programs,
            sessions: 1_100_000,
        },
        farm,
        runtime: tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("client")
            .enable_all()
            .build()
            .map_err(said)?,
        rounds,
        percent,
    };
    progress!("{machine}");
    let mut tables = Vec::new();
    for case in chosen(CASES, &options.case, |case: &Case| case.name) {
        let table = Table { case, rows: bench.run(case, &peers) };
        println!("{}\n\n{}", case.title, report::table(&machine, &table));
        tables.push(table);
        // After each, so that a run which is cut short leaves what it has.
        report::write(&options.out, &machine, &tables).map_err(said)?;
    }
    progress!("written to {}", options.out.display());
    Ok(tables.iter().flat_map(|table| &table.rows).all(|row| row.void.is_none()))
}

/// Servers of the farm.
const SERVERS: usize = 4;

fn chosen<'a, T>(
    all: &'a [T],
    names: &'a [String],
    name: impl Fn(&T) -> &str + 'a,
) -> impl Iterator<Item = &'a T> {
    all.iter().filter(move |one| names.is_empty() || names.iter().any(|wanted| wanted == name(one)))
}

fn find(options: &Options) -> Result<Programs, String> {
    let beside = || std::env::current_exe().ok().map(|own| own.with_file_name("bits-gateway"));
    let gateway = options.gateway.clone().or_else(beside).filter(|program| program.is_file());
    let gateway = gateway.ok_or("there is no bits-gateway: build it, or name it with --gateway")?;
    let (haproxy, nginx) = (binaries::foreign("haproxy"), binaries::foreign("nginx"));
    let version = machine::version(&haproxy, "-v");
    let haproxy_version = numbers(&version).ok_or(format!("HAProxy says it is {version:?}"))?;
    Ok(Programs { haproxy, nginx, gateway, haproxy_version })
}

/// The first two numbers of `HAProxy version 2.6.12-1`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let word = version.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: &Path) -> Result<Self, String> {
        let name = format!("bench-{}", std::process::id());
        let said = |error| format!("{}: {error}", parent.display());
        let path = std::path::absolute(parent).map_err(said)?.join(name);
        std::fs::create_dir_all(&path).map_err(said)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(all: impl IntoIterator<Item = &'static str>) -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(all.into_iter().collect::<Vec<_>>())
}

fn cases() -> clap::builder::PossibleValuesParser {
    names(CASES.iter().map(|case| case.name))
}

fn listing() -> String {
    let mut text = "Cases:\n".to_owned();
    for case in CASES {
        text += &format!("  {:<18}{}\n", case.name, case.title);
    }
    text += "\nPeers:\n";
    for peer in PEERS {
        text += &format!("  {:<18}{}\n", peer.name, peer.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_haproxy_is_read() {
        let said = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/";
        assert_eq!(numbers(said), Some((2, 6)));
        assert_eq!(numbers("HAProxy version 3.2.1 2025/06/01"), Some((3, 2)));
        assert_eq!(numbers(""), None);
    }

    #[test]
    fn the_options_are_well_formed() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
