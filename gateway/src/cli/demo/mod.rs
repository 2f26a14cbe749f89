//! `bits-gateway demo`: a farm on this machine, real uploads, one server killed on the way.
//!
//! `farm` starts and ends the processes, `files` makes and compares what is uploaded,
//! `show` is what a person sees. The uploads are those of [`bits_uploader`].

mod farm;
mod files;
mod show;
mod stay;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::base::{chain, clock};
use bits_uploader::engine::{SMALLEST_FRAGMENT, Settings};
use bits_uploader::{Report, target::Mapping};
pub use farm::SERVER_COMMAND;
use farm::{Farm, FarmError};
use files::Sample;
use show::{Outcome, Row, Stage, Track};

/// Start three servers and a gateway here, upload files, kill a server on the way
///
/// Everything runs on this machine, on free ports and in a temporary folder, and is gone
/// afterwards. Ends with a table: every file, the server it is on, and whether it arrived whole.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Exit status: 0 all files arrived whole, 1 they did not.")]
pub struct Args {
    /// How many files to upload at once
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub files: u16,

    /// Size of each file
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = file_size)]
    pub size: u64,

    /// What the random content of the files is made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Print one JSON object with the result on standard output, and the story on standard error
    #[arg(long)]
    pub json: bool,

    /// Keep the temporary folder with files, configuration and logs
    #[arg(long)]
    pub keep: bool,

    /// Keep servers and gateway up afterwards, until Ctrl-C, and say what to look at
    #[arg(long)]
    pub stay: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Farm(#[from] FarmError),
    #[error("cannot use the temporary folder")]
    Folder(#[from] std::io::Error),
    #[error("interrupted; everything that was started has been stopped")]
    Interrupted,
}

/// How long an upload takes when nothing happens: long enough to be watched.
const UPLOAD_SECONDS: u64 = 8;
/// How long the killed server stays away at least: until the gateway holds a packet of each of its
/// uploads, if that takes longer.
const OUTAGE: Duration = Duration::from_secs(2);
/// And at most: less than `failover.hold`, after which the clients are told to wait.
const LONGEST_OUTAGE: Duration = Duration::from_secs(10);
/// A server is killed when the uploads on it are this far, in percent.
const KILL_AT: std::ops::Range<u64> = 25..75;
/// An upload that takes so long hangs.
const LIMIT: Duration = Duration::from_secs(300);
/// Many pieces, so that there is a middle in which a server can be killed.
const FRAGMENTS: u64 = 32;
const SMALLEST_FILE: u64 = 64 << 10;

/// Runs the demo to its end.
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bits-gateway demo: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stage = Arc::new(Stage::new(args.json));
    // Dropping the play or what it leaves, by its end, an interruption or a panic, ends the
    // processes and removes the folder.
    let outcome = runtime.block_on(async {
        let mut interrupted = std::pin::pin!(bits_uploader::interrupted());
        // The farm is dropped first: the processes end, then their files.
        let (_folder, farm, outcome) = tokio::select! {
            played = play(&args, &stage) => played?,
            () = &mut interrupted => return Err(DemoError::Interrupted),
        };
        if args.stay {
            stage.stay(&farm);
            interrupted.await;
        }
        Ok(outcome)
    });
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => {
            if args.json {
                println!("{}", serde_json::to_string(&outcome).expect("an outcome is plain data"));
            }
            if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            stage.clear();
            eprintln!("bits-gateway demo: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// From the start of the farm to the table of what arrived, and the farm as it is then.
async fn play(
    args: &Args,
    stage: &Arc<Stage>,
) -> Result<(tempfile::TempDir, Farm, Outcome), DemoError> {
    let started = clock::steady();
    let mut folder = tempfile::Builder::new().prefix("bits-gateway-demo-").tempdir()?;
    folder.disable_cleanup(args.keep);
    stage.introduce();

    stage.step("Starting three upload servers and one gateway in front of them.");
    // After `folder`, so that it is dropped before it: first the processes end, then their files.
    let mut farm = Farm::start(folder.path()).await?;
    stage.farm(&farm, folder.path());

    let samples =
        files::make(&folder.path().join("send"), args.files, args.size, args.seed).await?;
    stage.uploads(&samples, args.size);
    let tracks: Vec<_> = samples.iter().map(|sample| stage.track(sample)).collect();
    let mut uploads = start_uploads(&samples, &tracks, &farm, args.size);

    let killed = tokio::select! {
        killed = kill_and_restart(&mut farm, &tracks, stage) => killed?,
        () = finished(&tracks) => None,
    };
    let mut reports: Vec<Option<Report>> = samples.iter().map(|_| None).collect();
    while let Some(done) = uploads.join_next().await {
        if let Ok((index, report)) = done {
            reports[index] = report;
        }
    }
    stage.clear();

    stage.step("All uploads have ended. Comparing what arrived with what was sent.");
    let mut rows = Vec::new();
    for ((sample, track), report) in samples.iter().zip(&tracks).zip(reports) {
        let arrived = files::find(folder.path(), &farm.names(), &sample.name).await?;
        rows.push(Row::new(sample, report.as_ref(), track.times_held(), &arrived));
    }
    let kept = args.keep.then(|| folder.path().display().to_string());
    let seconds = clock::steady().saturating_sub(started).as_secs_f64();
    let outcome = Outcome::new(rows, killed, args.seed, seconds, kept);
    stage.conclude(&outcome);
    Ok((folder, farm, outcome))
}

type Uploads = JoinSet<(usize, Option<Report>)>;

fn start_uploads(samples: &[Sample], tracks: &[Arc<Track>], farm: &Farm, size: u64) -> Uploads {
    let gateway = farm.gateway();
    // Stands in for DNS: the host ids of the farm lead to the gateway.
    let mapping: Mapping =
        format!("*:{gateway}").parse().expect("a socket address makes a mapping");
    let mut uploads = JoinSet::new();
    for (index, (sample, track)) in samples.iter().zip(tracks).enumerate() {
        let url = format!("http://upload.{}:{}/in/{}", farm::DOMAIN, gateway.port(), sample.name);
        let settings = Settings {
            fragment_bytes: (size / FRAGMENTS).max(SMALLEST_FRAGMENT),
            retry_delay: Duration::from_millis(500),
            give_up: Duration::from_secs(60),
            bytes_per_second: std::num::NonZeroU64::new(size / UPLOAD_SECONDS),
            reply: None,
        };
        let (path, mapping, track) = (sample.path.clone(), mapping.clone(), track.clone());
        uploads.spawn(async move {
            let upload = bits_uploader::upload(
                &path,
                &url,
                settings,
                vec![mapping],
                track.clone().listener(),
            );
            let report = tokio::time::timeout(LIMIT, upload).await.ok();
            track.finish(report.as_ref());
            (index, report)
        });
    }
    uploads
}

/// Waits for a server that is in the middle of its uploads, kills it and brings it back.
async fn kill_and_restart(
    farm: &mut Farm,
    tracks: &[Arc<Track>],
    stage: &Stage,
) -> Result<Option<String>, DemoError> {
    let victim = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(found) = find_victim(&farm.names(), tracks) {
            break found;
        }
    };
    farm.kill(&victim).await;
    let hit: Vec<_> = tracks.iter().filter(|track| track.is_on(&victim)).collect();
    hit.iter().for_each(|track| track.server_went());
    stage.killed(&victim, hit.len());
    tokio::time::sleep(OUTAGE).await;
    let all_held = async {
        while !hit.iter().all(|track| track.is_held()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Not worth a word: the uploads go on without having been held.
    let _ = tokio::time::timeout(LONGEST_OUTAGE - OUTAGE, all_held).await;
    hit.iter().for_each(|track| track.server_comes_back());
    farm.restart(&victim).await?;
    stage.restarted(&victim);
    Ok(Some(victim))
}

/// The server with most uploads that are far enough and not too far.
fn find_victim(names: &[String], tracks: &[Arc<Track>]) -> Option<String> {
    let in_the_middle = |name: &String| {
        let hit = |track: &&Arc<Track>| track.is_on(name) && KILL_AT.contains(&track.percent());
        tracks.iter().filter(hit).count()
    };
    let busiest = names.iter().max_by_key(|name| in_the_middle(name))?;
    (in_the_middle(busiest) > 0).then(|| busiest.clone())
}

async fn finished(tracks: &[Arc<Track>]) {
    while !tracks.iter().all(|track| track.is_finished()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn file_size(text: &str) -> Result<u64, String> {
    let bytes = bits_uploader::parse_size(text)?;
    if bytes < SMALLEST_FILE {
        return Err("with less than 64KiB there is nothing to see".to_owned());
    }
    Ok(bytes)
}
