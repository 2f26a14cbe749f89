//! From a file to a configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::draft::Draft;
use super::report::{Report, Source, SourceKind};
use super::resolve::Config;
use super::sections::SECTIONS;
use super::{check, env, file, resolve};

/// A configuration with all that was learnt on the way.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Holds warnings only.
    pub report: Report,
    /// Says where every value comes from.
    pub draft: Draft,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("there is no file {}", path.display())]
    Missing { path: PathBuf },
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not UTF-8 text, at byte {at}", path.display())]
    NotText { path: PathBuf, at: usize },
    #[error("{} cannot be used", path.display())]
    Invalid { path: PathBuf, report: Box<Report> },
}

/// Reads a file and corrects it by the environment.
pub fn load(
    path: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, LoadError> {
    let text = read(path)?;
    read_through(path, &text, variables)
        .map_err(|report| LoadError::Invalid { path: path.to_path_buf(), report: Box::new(report) })
}

/// Makes a configuration of the text of the file at `path`.
pub(super) fn read_through(
    path: &Path,
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Report> {
    let base = path.parent().unwrap_or(Path::new(""));
    parse_in(base, &path.display().to_string(), text, variables)
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, LoadError> {
    let path = path.to_path_buf();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::Missing { path });
        }
        Err(source) => return Err(LoadError::Io { path, source }),
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        LoadError::NotText { path, at }
    })
}

/// Reads a file as [`load`] does, and looks at the other files that it names.
///
/// Only whoever is to run the gateway can do that: nobody else may read a token.
pub fn load_to_run(
    path: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, LoadError> {
    text_to_run(path, &read(path)?, variables)
}

/// As [`load_to_run`], of a text that stands in the file at `path`, or in none.
pub fn text_to_run(
    path: &Path,
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, LoadError> {
    let variables: Vec<_> = variables.into_iter().collect();
    let invalid = |report| {
        let (path, report) = (path.to_path_buf(), Box::new(report));
        LoadError::Invalid { path, report }
    };
    let mut loaded = read_through(path, text, variables.clone()).map_err(|mut report| {
        // What is wrong with the files that it names is told in the same go.
        let (draft, _) = drafted(path, text, variables);
        check::unread(&draft, &mut report);
        report.sort();
        invalid(report)
    })?;
    check::files(&loaded.config, &loaded.draft, &mut loaded.report);
    loaded.report.sort();
    if loaded.report.has_errors() {
        return Err(invalid(loaded.report));
    }
    Ok(loaded)
}

/// Makes a configuration of the text of a file, which `name` stands for in messages. Relative paths
/// begin at the working directory.
///
/// # Errors
/// Every mistake in the file and in the environment.
pub fn parse(
    name: &str,
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Report> {
    parse_in(Path::new(""), name, text, variables)
}

/// As [`parse`], for a file whose relative paths begin at `base`. Those of the environment begin at
/// the working directory, as those of a command line do.
fn parse_in(
    base: &Path,
    name: &str,
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Report> {
    let (mut draft, mut report) = draft_in(base, name, text, variables);
    report.sort();
    if report.has_errors() {
        return Err(report);
    }
    resolve::resolve_defaults(&mut draft).expect("a draft without mistakes has every value");
    let config = resolve::build(&draft).expect("a draft without mistakes has every value");
    Ok(Loaded { config, report, draft })
}

/// What a text says, rightly or not.
fn draft_in(
    base: &Path,
    name: &str,
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> (Draft, Report) {
    let mut report = Report::default();
    let mut draft = Draft::of(SECTIONS);
    let source = Source { name: name.into(), text: text.into(), kind: SourceKind::File };
    let source = report.add_source(source);
    if file::read(text, source, None, &mut draft, &mut report) {
        draft.paths_begin_at(base);
        env::apply(variables, &mut draft, &mut report);
        check::check(&draft, &mut report);
    }
    (draft, report)
}

fn drafted(
    path: &Path,
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> (Draft, Report) {
    draft_in(path.parent().unwrap_or(Path::new("")), &path.display().to_string(), text, variables)
}

impl Config {
    /// A configuration from the text of a file alone, as tests want it.
    ///
    /// # Errors
    /// The picture of every mistake.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        match parse("config.toml", text, []) {
            Ok(loaded) => Ok(loaded.config),
            Err(report) => Err(report.render(false)),
        }
    }
}
