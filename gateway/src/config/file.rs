//! Reads the file into a draft.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::Draft;
use super::foreign::Foreign;
use super::keys::{Key, Section, Shape};
use super::kind::Given;
use super::report::{Finding, Place, Report};
use super::sections::{self, LATER, SECTIONS};
use super::suggest::closest;

/// Reads `text`, which is source number `source` of the report: all of it, or `only` these sections.
///
/// Returns whether it is TOML at all. If not, what it means is not looked at: what a parser
/// rescues from a broken file only makes for more confusing messages.
pub fn read(
    text: &str,
    source: usize,
    only: Option<&[&str]>,
    draft: &mut Draft,
    report: &mut Report,
) -> bool {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty()
        && let Some(foreign) = Foreign::of(text)
    {
        let finding = Finding::error(format!("this is {}", foreign.noun()));
        let at = text.len() - text.trim_start().len();
        let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
        let finding = finding.at(Place { source, span: at..end }, "a configuration is TOML");
        let help = "`bits-gateway schema --format example` prints a file to start from";
        report.add(finding.help(help.to_owned()));
        return false;
    }
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let finding = Finding::error("this is not TOML");
        report.add(finding.at(Place { source, span }, error.message()));
    }
    if errors.is_empty() {
        let mut reader = Reader { source, only, draft, report };
        reader.root(root.get_ref());
    }
    errors.is_empty()
}

type Entry<'t, 'i> = (&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

struct Reader<'r> {
    source: usize,
    only: Option<&'r [&'r str]>,
    draft: &'r mut Draft,
    report: &'r mut Report,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) {
        let only = self.only;
        let wanted = |name: &str| only.is_none_or(|sections| sections.contains(&name));
        for (name, value) in root.iter().filter(|(name, _)| wanted(name.get_ref())) {
            let known = sections::section(name.get_ref());
            let section = known.or_else(|| self.unknown_section((name, value)));
            match section.map(|section| (section, section.shape, value.get_ref())) {
                None => {}
                Some((section, Shape::Once, DeValue::Table(table))) => {
                    self.once(section, table, value);
                }
                Some((section, Shape::Named, DeValue::Table(table))) => self.named(section, table),
                Some((section, Shape::Listed, DeValue::Array(array))) => {
                    for element in array.iter() {
                        self.listed(section, element);
                    }
                }
                Some((section, Shape::Listed, DeValue::Table(table)))
                    if section.keys.iter().any(|key| table.contains_key(key.name)) =>
                {
                    let finding = Finding::error(format!("`{}` is written [[{0}]]", section.name));
                    let finding = finding.at(self.place(value), "there may be several");
                    let help =
                        format!("write [[{}]] in place of [{0}], for each one", section.name);
                    self.report.add(finding.help(help));
                    self.listed(section, value);
                }
                Some((section, ..)) => self.wrong_shape(section, value),
            }
        }
    }

    fn once(&mut self, section: &'static Section, table: &DeTable<'_>, value: &Spanned<DeValue>) {
        let place = self.place(value);
        self.draft.once_mut(section.name).place = Some(place);
        self.keys(section, 0, table);
    }

    fn named(&mut self, section: &'static Section, table: &DeTable<'_>) {
        let mut entries: Vec<Entry> = table.iter().collect();
        // The parser sorts by name; people expect the order in which they wrote.
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let DeValue::Table(keys) = value.get_ref() else {
                self.no_table(section, name);
                continue;
            };
            self.check_name(section, name);
            let place = self.place(name);
            let index = self.draft.add(section, name.get_ref().to_string(), place).index;
            self.keys(section, index, keys);
        }
    }

    fn listed(&mut self, section: &'static Section, element: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = element.get_ref() else {
            return self.wrong_shape(section, element);
        };
        let name = table.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or("");
        let place = self.place(element);
        let index = self.draft.add(section, name.to_owned(), place).index;
        self.keys(section, index, table);
    }

    fn keys(&mut self, section: &'static Section, index: usize, table: &DeTable<'_>) {
        self.keys_within(section, index, "", table);
    }

    /// `group` is empty, or `health.` for the keys of the table `health`.
    fn keys_within(
        &mut self,
        section: &'static Section,
        index: usize,
        group: &str,
        table: &DeTable<'_>,
    ) {
        for (name, value) in table.iter() {
            let path = format!("{group}{}", name.get_ref());
            let inner = format!("{path}.");
            if group.is_empty() && section.keys.iter().any(|key| key.name.starts_with(&inner)) {
                match value.get_ref() {
                    DeValue::Table(table) => {
                        let place = self.place(value);
                        let own = self.draft.all_mut(section.name).nth(index);
                        own.expect("the caller has added it").open_group(&path, place);
                        self.keys_within(section, index, &inner, table);
                    }
                    _ => self.no_group(section, index, (name, value)),
                }
                continue;
            }
            let key = section.key(&path).filter(|_| !name.get_ref().contains('.'));
            let Some(key) = key else {
                self.unknown_key(section, index, group, (name, value));
                continue;
            };
            let place = self.place(value);
            let given = given(value);
            let table = self.draft.all_mut(section.name).nth(index);
            let table = table.expect("the caller has added it");
            table.set(key, &given, place, self.report);
        }
    }

    fn no_group(&mut self, section: &'static Section, index: usize, (name, value): Entry<'_, '_>) {
        let place = self.place(value);
        let table = self.draft.all(section.name).nth(index).expect("the caller has added it");
        let finding =
            Finding::error(format!("`{}` must be a table", table.key_path(name.get_ref())));
        let group = format!("{}.", name.get_ref());
        let sample = section.keys.iter().find_map(|key| {
            let inner = key.name.strip_prefix(&group)?;
            Some(format!("write {} = {{ {inner} = {} }}", name.get_ref(), key.sample()))
        });
        self.report.add(finding.at(place, "this is something else").help(sample));
    }

    fn no_table(&mut self, section: &'static Section, name: &Spanned<Cow<'_, str>>) {
        self.draft.assume(section);
        let place = self.place(name);
        let shown = name.get_ref().escape_debug();
        let finding = match section.key(name.get_ref()) {
            Some(_) => Finding::error(format!("[{}] without a name", section.name))
                .at(place, "there may be several, so this one needs a name")
                .help(format!("write [{}.public] above it", section.name)),
            None => Finding::error(format!("`{}.{shown}` must be a table", section.name))
                .at(place, "this is none")
                .help(format!("write [{}.{shown}] on a line of its own", section.name)),
        };
        self.report.add(finding);
    }

    fn check_name(&mut self, section: &Section, name: &Spanned<Cow<'_, str>>) {
        let text = name.get_ref();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let place = self.place(name);
        if text.is_empty() || text.len() > 63 || !text.bytes().all(legal) {
            let message = format!("\"{}\" is no name for a listener", text.escape_debug());
            let finding = Finding::error(message).at(place, "not a name");
            self.report.add(finding.help("1 to 63 letters, digits, `-` and `_`".to_owned()));
        } else if section.name == "listeners" && ["ops", "admin"].contains(&&**text) {
            let finding = Finding::error(format!("a listener cannot be named `{text}`"));
            let label = format!("this is the name of the listener in [{text}]");
            let finding = finding.at(place, label);
            self.report.add(finding.help("such as [listeners.public]".to_owned()));
        }
    }

    /// Returns the section that was probably meant, so that what is in it can be checked as well.
    fn unknown_section(&mut self, (name, value): Entry<'_, '_>) -> Option<&'static Section> {
        let place = self.place(name);
        let word: &str = name.get_ref();
        if LATER.contains(&word) {
            let finding = Finding::error(format!("[{word}] is not supported by this version"));
            let finding = finding.at(place, "of a later version");
            self.report.add(finding.help("leave the section out".to_owned()));
            return None;
        }
        let table = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        let shown = word.escape_debug();
        let (message, label) = match table {
            true => (format!("there is no section [{shown}]"), "unknown section"),
            false => (format!("there is no key `{shown}` outside of sections"), "unknown key"),
        };
        let meant = closest(word, SECTIONS.iter().map(|section| section.name));
        let meant = meant.and_then(sections::section).filter(|_| table);
        let help = match (meant, homes(word)) {
            (Some(meant), _) => Some(format!("did you mean {}?", header(meant))),
            (None, Some(homes)) => Some(format!("`{shown}` belongs in {homes}")),
            (None, None) => None,
        };
        self.report.add(Finding::error(message).at(place, label).help(help));
        meant
    }

    fn unknown_key(
        &mut self,
        section: &'static Section,
        index: usize,
        group: &str,
        (name, value): Entry<'_, '_>,
    ) {
        let place = self.place(name);
        let word: &str = name.get_ref();
        let table = self.draft.all_mut(section.name).nth(index).expect("the caller has added it");
        let path = table.key_path(&format!("{group}{}", word.escape_debug()));
        if section.later.contains(&word) {
            let finding = Finding::error(format!("`{path}` is not supported by this version"));
            let finding = finding.at(place, "of a later version");
            return self.report.add(finding.help("leave the key out".to_owned()));
        }
        let names: Vec<&str> =
            section.keys.iter().filter_map(|key| key.name.strip_prefix(group)).collect();
        let meant = closest(word, names.iter().copied());
        let help = match (homes(word), meant) {
            (Some(homes), _) => format!("`{word}` belongs in {homes}"),
            (None, Some(meant)) => {
                let place = Place { source: self.source, span: value.span() };
                table.assume(&format!("{group}{meant}"), &given(value), place);
                format!("did you mean `{meant}`?")
            }
            (None, None) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let whose = match group.strip_suffix('.') {
                    Some(group) => format!("`{group}` of {}", header(section)),
                    None => header(section),
                };
                format!("{whose} has {}", names.join(", "))
            }
        };
        let finding = Finding::error(format!("there is no key `{path}`"));
        self.report.add(finding.at(place, "unknown key").help(help));
    }

    fn wrong_shape(&mut self, section: &'static Section, value: &Spanned<DeValue<'_>>) {
        self.draft.assume(section);
        let place = self.place(value);
        let header = header(section);
        let finding = Finding::error(format!("`{}` is written {header}", section.name));
        let finding = finding.at(place, "this is something else");
        self.report.add(finding.help(format!("put {header} on a line of its own")));
    }

    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        Place { source: self.source, span: spanned.span() }
    }
}

/// How a section is opened.
pub fn header(section: &Section) -> String {
    match section.shape {
        Shape::Once => format!("[{}]", section.name),
        Shape::Named => format!("[{}.NAME]", section.name),
        Shape::Listed => format!("[[{}]]", section.name),
    }
}

/// The sections that have a key or a group of keys of that very name.
fn homes(key: &str) -> Option<String> {
    let home = |section: &Section| {
        let is_group =
            |known: &Key| known.name.split_once('.').is_some_and(|(group, _)| group == key);
        if section.key(key).is_some() || section.keys.iter().any(is_group) {
            return Some(header(section));
        }
        let groups = section.keys.iter().filter_map(|known| known.name.split_once('.'));
        let (group, _) = groups.into_iter().find(|(_, name)| *name == key)?;
        Some(format!("`{group}` of {}", header(section)))
    };
    let homes: Vec<String> = SECTIONS.iter().filter_map(home).collect();
    (!homes.is_empty()).then(|| homes.join(" or "))
}

fn given(value: &Spanned<DeValue<'_>>) -> Given {
    match value.get_ref() {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Given::Integer(integer),
                Err(_) => Given::Other("a number beyond all bounds"),
            }
        }
        DeValue::Boolean(value) => Given::Bool(*value),
        DeValue::Float(_) => Given::Other("a number with a point"),
        DeValue::Datetime(_) => Given::Other("a date or a time"),
        DeValue::Table(table) => Given::Table(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), value.span(), given(value)))
                .collect(),
        ),
        DeValue::Array(array) => {
            Given::List(array.iter().map(|element| (element.span(), given(element))).collect())
        }
    }
}
