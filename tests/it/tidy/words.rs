//! The words of the house: each thing has one, and `docs/glossary.md` says which.

use super::tree;

/// Words that were given up, in parts: this file must not hold them.
const GIVEN_UP: &[[&str; 2]] = &[
    ["Under", "taker"],
    ["Orphan", "age"],
    ["Mour", "ner"],
    ["To", "mbs"],
    ["epi", "taph"],
    ["Err", "and"],
    ["Mes", "senger"],
    ["Fli", "ghts"],
    ["Way", "In"],
    ["Bo", "nd"],
    ["Fare", "well"],
    ["Ros", "ter"],
    ["Kee", "per"],
    ["Str", "ay"],
    ["Doub", "ts"],
    ["Spo", "ken"],
    ["Spo", "ilt"],
    ["Ea", "rs"],
    ["Wit", "ness"],
    ["Accu", "sers"],
    ["Compl", "aints"],
    ["Renew", "able"],
    ["Ma", "int"],
];

/// Short words that documents say only beside the long one, where they tell that both are read.
const SHORT: &[[&str; 2]] = &[["maint", "maintenance"]];

/// Whether `word` stands in a line as a word of its own, or as a part of a name in `CamelCase`.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let starts = !before.is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        starts && !after.is_some_and(|c| c.is_ascii_lowercase() || c == '_')
    })
}

#[test]
fn no_word_that_was_given_up_comes_back() {
    for file in tree::ending(".rs").iter().filter(|file| file.starts_with("gateway/")) {
        for (number, line) in tree::read(file).lines().enumerate() {
            let found = GIVEN_UP.iter().map(|parts| parts.concat()).find(|word| names(line, word));
            let word = found.unwrap_or_default();
            assert!(word.is_empty(), "{file}:{}: {word}: docs/glossary.md has another", number + 1);
        }
    }
}

#[test]
fn documents_say_the_long_word() {
    for file in tree::ending(".md") {
        for (number, line) in tree::read(&file).lines().enumerate() {
            for [short, long] in SHORT {
                let said = line.split(|c: char| !c.is_alphanumeric()).any(|word| word == *short);
                assert!(!said || line.contains(long), "{file}:{}: say {long}", number + 1);
            }
        }
    }
}

#[test]
fn the_glossary_has_each_word_once() {
    let text = tree::read("docs/glossary.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| word |"));
    let mut words: Vec<_> = rows.filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
    assert!(words.len() > 40, "the glossary has moved");
    let count = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), count);
}
