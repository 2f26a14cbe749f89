//! `deploy/bits-gateway.toml`: every key with its default, from the table of keys.

use super::keys::{DefaultValue, Key, Shape};
use super::kind::Kind;
use super::sections::SECTIONS;

const INTRODUCTION: &str = "\
# bits-gateway: every key, commented out where it has its default.
# Made by `bits-gateway schema --format example`; docs/config.md says the same at more length.
#
#   bits-gateway check FILE    shows what is wrong, or what would run
#   bits-gateway run --config FILE      runs it
#
# Any key can be set by the environment: BITSGW__AFFINITY__FALLBACK_TIMEOUT=1h
";

/// A file that runs as it stands, once the address of the backend is right.
pub fn example() -> String {
    let mut file = String::from(INTRODUCTION);
    for section in SECTIONS {
        file.push('\n');
        comment(&mut file, section.about);
        let header = match section.shape {
            Shape::Once => format!("[{}]", section.name),
            Shape::Named => format!("[{}.public]", section.name),
            Shape::Listed => format!("[[{}]]", section.name),
        };
        file.push_str(&header);
        file.push('\n');
        for key in section.keys {
            write_key(&mut file, key);
        }
    }
    file
}

fn write_key(file: &mut String, key: &Key) {
    file.push('\n');
    comment(file, key.about);
    if let Kind::Word { choices, .. } | Kind::WordOr(choices, _) = key.kind {
        let width = choices.iter().map(|choice| choice.name.len()).max().unwrap_or(0) + 2;
        for choice in choices {
            let word = format!("\"{}\"", choice.name);
            file.push_str(&format!("#   {word:width$}  {}\n", choice.about));
        }
    }
    match &key.default {
        DefaultValue::Required { sample } => file.push_str(&format!("{} = {sample}\n", key.name)),
        DefaultValue::Is(value) => file.push_str(&format!("#{} = {}\n", key.name, value.to_toml())),
        DefaultValue::Depends { on, sample } => {
            comment(file, &format!("Default: {on}."));
            file.push_str(&format!("#{} = {sample}\n", key.name));
        }
        DefaultValue::Unset { meaning, sample } => {
            comment(file, &format!("Default: not set; {meaning}."));
            file.push_str(&format!("#{} = {sample}\n", key.name));
        }
    }
}

/// Lines of comment, broken between words.
fn comment(file: &mut String, text: &str) {
    const WIDTH: usize = 98;
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            file.push_str(&line);
            file.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    file.push_str(&line);
    file.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve::Config;

    /// Only a setting has no space after its `#`.
    fn uncomment(keep: impl Fn(&Key) -> bool) -> String {
        let mut file = String::new();
        let mut section = &SECTIONS[0];
        for line in example().lines() {
            let name = line.trim_matches(['[', ']']).split('.').next().unwrap_or_default();
            if line.starts_with('[') {
                section = crate::config::sections::section(name).unwrap();
            }
            let setting =
                line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic));
            match setting {
                Some(setting) => {
                    let key = section.key(setting.split(" = ").next().unwrap()).unwrap();
                    if keep(key) {
                        file.push_str(setting);
                    }
                }
                None => file.push_str(line),
            }
            file.push('\n');
        }
        file
    }

    #[test]
    fn the_example_holds_every_key() {
        let file = uncomment(|_| true);
        let mut keys = 0;
        for section in SECTIONS {
            for key in section.keys {
                keys += 1;
                assert!(file.contains(&format!("\n{} = ", key.name)), "{}", key.name);
            }
        }
        assert_eq!(
            file.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(),
            keys
        );
        Config::from_toml(&file).unwrap();
    }

    #[test]
    fn the_example_states_the_defaults() {
        let silent = Config::from_toml(&example()).unwrap();
        let spoken =
            Config::from_toml(&uncomment(|key| matches!(key.default, DefaultValue::Is(_))))
                .unwrap();
        assert_eq!(silent, spoken);
        assert_eq!(silent.timeouts.answer_long, std::time::Duration::from_secs(310));
    }
}
