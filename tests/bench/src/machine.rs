//! Where and with what was measured.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::peers::{Peer, Programs};

#[derive(serde::Serialize)]
pub struct Machine {
    /// With the number of its cores that may be used.
    pub processor: String,
    pub kernel: String,
    /// Before the first round, of the last minute.
    pub load_average: String,
    pub haproxy: String,
    pub nginx: String,
    pub gateway: String,
    pub rounds: usize,
    /// Of the packets of a full run.
    pub percent: usize,
    #[serde(skip)]
    pub peers: Vec<Peer>,
}

impl Machine {
    pub fn this(programs: &Programs, peers: &[Peer], rounds: usize, percent: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, name)| name);
        let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
        Self {
            processor: format!("{model}, {cores}"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            haproxy: version(&programs.haproxy, "-v"),
            nginx: version(&programs.nginx, "-v"),
            gateway: version(&programs.gateway, "--version"),
            rounds,
            percent,
            peers: peers.to_vec(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor, kernel, load_average, haproxy, nginx, gateway, rounds, percent, ..
        } = self;
        write!(
            f,
            "{processor}, Linux {kernel}, load average {load_average} at the start; {haproxy}; {nginx}; \
             {gateway}; {rounds} rounds of {percent} % of a full run"
        )
    }
}

/// The line in which a program says what it is.
pub fn version(program: &Path, option: &str) -> String {
    let Ok(output) = Command::new(program).arg(option).output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
