//! A few sections of a file, whatever the rest of it is worth.
//!
//! A command that talks to a running gateway needs `[admin]` and nothing else, and it is needed most
//! when somebody has just broken the file.

use std::ffi::OsString;
use std::path::Path;

use super::admin::Admin;
use super::draft::{Broken, Draft};
use super::load::LoadError;
use super::load::{read, read_through};
use super::log::LogFormat;
use super::ops::Ops;
use super::report::{Report, Source, SourceKind};
use super::sections::SECTIONS;
use super::store::Store;
use super::{admin, check, env, file, ops, store};

/// What a file says in some of its sections.
#[derive(Debug)]
pub struct Part {
    draft: Draft,
    /// What keeps the file as a whole from being used.
    pub broken: Option<Report>,
}

/// Reads these sections of a file, corrected by the environment. Each may stand once in a file.
///
/// # Errors
/// The file cannot be read, or one of these sections cannot be used.
pub fn load_part(
    path: &Path,
    sections: &[&str],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Part, LoadError> {
    let text = read(path)?;
    let variables: Vec<_> = variables.into_iter().collect();
    let report = match read_through(path, &text, variables.clone()) {
        Ok(loaded) => return Ok(Part { draft: loaded.draft, broken: None }),
        Err(report) => report,
    };
    let ours = |name: &OsString| {
        let name = name.to_string_lossy();
        sections
            .iter()
            .any(|section| name.starts_with(&format!("{}{section}__", env::PREFIX).to_uppercase()))
    };
    let mut part = Report::default();
    let mut draft = Draft::of(SECTIONS);
    let source = Source { name: path.display().to_string(), text, kind: SourceKind::File };
    let text = source.text.clone();
    let source = part.add_source(source);
    let mut unread = Report::default();
    if !file::read(&text, source, Some(sections), &mut draft, &mut unread) {
        // It is not TOML, so what a parser makes of it may stand in the wrong section.
        file::read(&alone(&text, sections), source, Some(sections), &mut draft, &mut part);
    } else {
        unread.findings().iter().for_each(|finding| part.add(finding.clone()));
    }
    draft.paths_begin_at(path.parent().unwrap_or(Path::new("")));
    env::apply(variables.into_iter().filter(|(name, _)| ours(name)), &mut draft, &mut part);
    if sections.contains(&"admin") {
        check::admin(&draft, &mut part);
    }
    part.sort();
    if part.has_errors() {
        return Err(LoadError::Invalid { path: path.to_path_buf(), report: Box::new(part) });
    }
    Ok(Part { draft, broken: Some(report) })
}

impl Part {
    pub fn admin(&self) -> Admin {
        good(admin::build(self.draft.once("admin")))
    }

    pub fn ops(&self) -> Ops {
        good(ops::build(self.draft.once("ops")))
    }

    /// As it is written.
    pub fn log_format(&self) -> Option<LogFormat> {
        let log = self.draft.once("log");
        log.is_given("format").then(|| good(log.get("format")))
    }

    pub fn store(&self) -> Store {
        good(store::build(self.draft.once("store")))
    }
}

fn good<T>(section: Result<T, Broken>) -> T {
    section.expect("a section without mistakes has every value")
}

/// The lines of these sections, on the lines where they stand in `text`.
fn alone(text: &str, sections: &[&str]) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            let name = header.split_once(']').map_or("", |(name, _)| name.trim());
            inside = sections.contains(&name);
        }
        kept.push_str(if inside { line } else { "\n" });
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_cut_out_line_by_line() {
        let text = "[log\nlevel = \n [ admin ] # here\nsocket = \"./a\"\n[[backends]]\nname = 1\n";
        let kept = alone(text, &["admin"]);
        assert_eq!(kept, "\n\n [ admin ] # here\nsocket = \"./a\"\n\n\n");
        assert_eq!(alone(text, &["ops"]).trim(), "");
    }

    #[track_caller]
    fn socket_of(text: &str) -> Option<std::path::PathBuf> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.toml");
        std::fs::write(&path, text).unwrap();
        let part = load_part(&path, &["admin"], []).unwrap();
        assert!(part.broken.is_some());
        let socket = part.admin().socket?;
        Some(socket.strip_prefix(folder.path()).unwrap().to_owned())
    }

    /// What a parser rescues of the second file would put the address into `[admin]`.
    #[test]
    fn a_section_is_read_whatever_stands_around_it() {
        let admin = "[admin]\nsocket = \"./a.sock\"\n";
        for broken in ["[lissteners.public]\n", "[listeners.public\naddress = \"0.0.0.0:80\"\n"] {
            assert_eq!(socket_of(&format!("{admin}{broken}")), Some("a.sock".into()), "{broken}");
            assert_eq!(socket_of(&format!("{broken}{admin}")), Some("a.sock".into()), "{broken}");
        }
    }
}
