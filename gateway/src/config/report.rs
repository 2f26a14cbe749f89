//! Mistakes with their places, shown as rustc shows them.

use std::io;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

/// Everything that is the matter, and the texts it is the matter with.
#[derive(Debug, Clone, Default)]
pub struct Report {
    sources: Vec<Source>,
    findings: Vec<Finding>,
}

/// A text in which mistakes can be.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub name: String,
    pub text: String,
    pub kind: SourceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    File,
    /// The text is `NAME=value`.
    Environment,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into the sources of the report.
    pub source: usize,
    /// Bytes.
    pub span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake.
#[derive(Debug, Clone)]
pub struct Finding {
    pub severity: Severity,
    pub message: String,
    /// The place itself first, then what it has to do with. Empty: the file as a whole.
    pub places: Vec<(Place, String)>,
    /// What would be right.
    pub help: Option<String>,
    /// Set where a file that is named could not be read: that may pass, and no word of the
    /// configuration is wrong.
    pub unread: Option<io::ErrorKind>,
}

impl Finding {
    pub fn error(message: impl Into<String>) -> Self {
        let (severity, message) = (Severity::Error, message.into());
        Self { severity, message, places: vec![], help: None, unread: None }
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    pub fn at(mut self, place: impl Into<Option<Place>>, label: impl Into<String>) -> Self {
        if let Some(place) = place.into() {
            self.places.push((place, label.into()));
        }
        self
    }

    pub fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }
}

impl Report {
    /// Returns the index of the source.
    pub fn add_source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub fn source(&self, place: &Place) -> &Source {
        &self.sources[place.source]
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Why files could not be read, if nothing else is wrong.
    pub fn unread(&self) -> Option<io::ErrorKind> {
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error);
        let kinds: Option<Vec<_>> = errors.map(|finding| finding.unread).collect();
        // A lack of rights does not pass by itself, so the others count before it.
        kinds?.into_iter().max_by_key(|kind| *kind != io::ErrorKind::PermissionDenied)
    }

    /// As a file is read: from top to bottom, errors before warnings.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| {
            let warning = finding.severity == Severity::Warning;
            let place = finding.places.first().map(|(place, _)| (place.source, place.span.start));
            (warning, place.unwrap_or((usize::MAX, 0)))
        });
    }

    /// Line and column of a place, both from 1; columns count characters.
    pub fn line_and_column(&self, place: &Place) -> (usize, usize) {
        let text = &self.source(place).text;
        let end = floor_char_boundary(text, place.span.start);
        let before = &text[..end];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (line, before[start..].chars().count() + 1)
    }

    /// `gw.toml:3:9`, or the name of the variable.
    pub fn locate(&self, place: &Place) -> String {
        let source = self.source(place);
        match source.kind {
            SourceKind::Environment => source.name.clone(),
            SourceKind::File => {
                let (line, column) = self.line_and_column(place);
                format!("{}:{line}:{column}", source.name)
            }
        }
    }

    /// Pictures of all findings, one below the other.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut pictures = String::new();
        for finding in &self.findings {
            pictures.push_str(&renderer.render(&[self.picture(finding)]));
            pictures.push_str("\n\n");
        }
        pictures
    }

    /// One line a finding, for a log.
    pub fn lines(&self) -> Vec<String> {
        let line = |finding: &Finding| {
            let place = finding.places.first().map(|(place, _)| self.locate(place) + ": ");
            let help = finding.help.as_ref().map(|help| format!(" ({help})"));
            place.unwrap_or_default() + &finding.message + &help.unwrap_or_default()
        };
        self.findings.iter().map(line).collect()
    }

    pub fn to_json(&self) -> serde_json::Value {
        self.findings.iter().map(|finding| self.finding_to_json(finding)).collect()
    }

    fn finding_to_json(&self, finding: &Finding) -> serde_json::Value {
        let places: serde_json::Value = finding
            .places
            .iter()
            .map(|(place, label)| {
                let source = self.source(place);
                match source.kind {
                    SourceKind::Environment => json!({ "env": source.name, "label": label }),
                    SourceKind::File => {
                        let (line, column) = self.line_and_column(place);
                        let name = &source.name;
                        json!({ "file": name, "line": line, "column": column, "label": label })
                    }
                }
            })
            .collect();
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        json!({
            "severity": severity,
            "message": finding.message,
            "help": finding.help,
            "places": places,
        })
    }

    fn picture<'r>(&'r self, finding: &'r Finding) -> Group<'r> {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&finding.message));
        for (index, source) in self.sources.iter().enumerate() {
            let mut here = finding.places.iter().filter(|(place, _)| place.source == index);
            // Snippets stand in the order in which their sources are first named.
            if here.clone().next().is_none() {
                continue;
            }
            let annotations = here.by_ref().map(|(place, label)| {
                let first = finding.places.first().is_some_and(|(first, _)| first == place);
                let kind = if first { AnnotationKind::Primary } else { AnnotationKind::Context };
                kind.span(clip(&source.text, &place.span)).label(label.as_str())
            });
            group = group.element(
                Snippet::source(&source.text)
                    .path(match source.kind {
                        SourceKind::File => source.name.as_str(),
                        SourceKind::Environment => "the environment",
                    })
                    .annotations(annotations),
            );
        }
        if finding.places.is_empty()
            && let Some(file) = self.sources.first()
        {
            group = group.element(Origin::path(&file.name));
        }
        match &finding.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }
}

/// A span that the picture can hold: within the text and on whole characters.
fn clip(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor_char_boundary(text, span.start);
    let end = floor_char_boundary(text, span.end).max(start);
    // Below a table a caret line would run through the whole table.
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    start..end.min(line_end.max(start))
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, span: Range<usize>) -> (Report, Place) {
        let mut report = Report::default();
        let kind = SourceKind::File;
        let source = report.add_source(Source { name: "gw.toml".into(), text: text.into(), kind });
        (report, Place { source, span })
    }

    #[test]
    fn columns_count_characters() {
        let (report, place) = report("a = 1\nä = 2", 9..10);
        assert_eq!(report.line_and_column(&place), (2, 3));
        assert_eq!(report.locate(&place), "gw.toml:2:3");
    }

    #[test]
    fn a_place_beyond_the_text_still_makes_a_picture() {
        for span in [0..0, 5..99, 99..100, 7..7] {
            let (mut report, place) = report("a = 1\nä", span);
            report.add(Finding::error("wrong").at(place, "here"));
            assert!(report.render(false).contains("error: wrong"));
        }
        let (mut report, place) = report("", 0..0);
        report.add(Finding::error("wrong").at(place, "here"));
        assert!(report.render(false).contains("error: wrong"));
    }

    #[test]
    fn errors_come_first_and_each_kind_from_top_to_bottom() {
        let (mut report, _) = report("a\nb\nc\n", 0..0);
        let place = |start: usize| Place { source: 0, span: start..start + 1 };
        report.add(Finding::warning("w").at(place(0), ""));
        report.add(Finding::error("whole file"));
        report.add(Finding::error("second").at(place(4), ""));
        report.add(Finding::error("first").at(place(2), ""));
        report.sort();
        let order: Vec<&str> = report.findings().iter().map(|f| f.message.as_str()).collect();
        assert_eq!(order, ["first", "second", "whole file", "w"]);
    }
}
