//! Who imports whom, against `gateway/import-order`.

use std::collections::{BTreeMap, BTreeSet};

use super::tree;

const ORDER: &str = "gateway/import-order";
const PICTURE: &str = "docs/architecture.md";

/// The modules at the top of one source folder, lowest first, each with what it is.
struct Layers {
    folder: String,
    modules: Vec<(String, String)>,
}

impl Layers {
    /// By which its modules are named.
    fn path(&self) -> String {
        let (_, inner) = self.folder.split_once("src/").expect("sources lie in src");
        format!("crate::{}", inner.replace('/', "::"))
    }

    fn rank(&self, module: &str) -> Option<usize> {
        self.modules.iter().position(|(name, _)| name == module)
    }
}

fn layers() -> Vec<Layers> {
    let mut all: Vec<Layers> = Vec::new();
    let text = tree::read(ORDER);
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(folder) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            all.push(Layers { folder: format!("{folder}/"), modules: Vec::new() });
            continue;
        }
        let (name, about) = line.split_once(": ").expect("a module and what it is");
        let layers = all.last_mut().expect("a folder comes first");
        layers.modules.push((name.to_owned(), about.to_owned()));
    }
    all
}

/// The module at the top of `folder` that a file belongs to.
fn module_of<'f>(file: &'f str, folder: &str) -> Option<&'f str> {
    let path = file.strip_prefix(folder)?.strip_suffix(".rs")?;
    let module = path.split('/').next().expect("a path has a part");
    let module = module.strip_suffix("_tests").unwrap_or(module);
    (!["lib", "main", "mod", "tests"].contains(&module)).then_some(module)
}

/// The modules that a source names behind this.
fn named(source: &str, behind: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for rest in code.split(behind).skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !letter.is_whitespace() => {
                    found.extend(identifier(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let name = &text[..end.unwrap_or(text.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

/// For each module, those that its files name.
fn imports(layers: &Layers) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in tree::ending(".rs") {
        let Some(module) = module_of(&file, &layers.folder) else { continue };
        let rank = layers.rank(module);
        let rank = rank.unwrap_or_else(|| panic!("{ORDER} says nothing of {module} ({file})"));
        let used = all.entry(module.to_owned()).or_default();
        let source = tree::read(&file);
        // The tests of a module may ask for a whole configuration.
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut names = named(source, &layers.path());
        if !file[layers.folder.len()..].contains('/') {
            names.extend(named(source, "super::"));
        }
        for name in names {
            let Some(at) = layers.rank(&name) else { continue };
            assert!(at <= rank, "{file} uses {name}, which is above {module} in {ORDER}");
            if at < rank {
                used.insert(name);
            }
        }
    }
    all
}

#[test]
fn a_module_uses_only_those_below_it() {
    for layers in layers() {
        let used = imports(&layers);
        for (module, _) in &layers.modules {
            assert!(used.contains_key(module), "{module} of {ORDER} is not in {}", layers.folder);
        }
    }
}

/// The arrows that say something: none where a longer way leads to the same place.
fn arrows(layers: &Layers) -> Vec<(String, String)> {
    let used = imports(layers);
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut arrows = Vec::new();
    for (module, _) in &layers.modules {
        let mut all = BTreeSet::new();
        // Those highest up first: they reach the most.
        for (lower, _) in layers.modules.iter().rev() {
            if used[module].contains(lower) && !all.contains(lower.as_str()) {
                arrows.push((module.clone(), lower.clone()));
                all.insert(lower.as_str());
                all.extend(&reached[lower.as_str()]);
            }
        }
        reached.insert(module, all);
    }
    arrows
}

#[test]
fn the_picture_of_the_house_shows_its_rooms_and_arrows() {
    let layers = layers();
    let shell = layers.iter().find(|layers| layers.folder == "gateway/src/").expect("the shell");
    let mut picture = String::from("```mermaid\nflowchart TD\n");
    for (module, about) in shell.modules.iter().rev() {
        picture += &format!("    {module}[\"<b>{module}</b><br>{about}\"]\n");
    }
    for (module, lower) in arrows(shell).iter().rev() {
        picture += &format!("    {module} --> {lower}\n");
    }
    picture += "```\n";
    let document = tree::read(PICTURE);
    let (head, rest) = document.split_once("<!-- rooms -->\n").expect("a mark before the picture");
    let (_, tail) = rest.split_once("<!-- end of rooms -->").expect("a mark behind it");
    let wanted = format!("{head}<!-- rooms -->\n{picture}<!-- end of rooms -->{tail}");
    tree::expect_document(PICTURE, &wanted);
}
