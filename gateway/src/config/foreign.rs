//! Files that are meant for other programs.

/// What a text is that is no TOML, as far as that shows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    Yaml,
    Json,
    Xml,
    HaProxy,
    Nginx,
    Certificate,
}

impl Foreign {
    /// Looks at the first line that says something.
    pub fn of(text: &str) -> Option<Self> {
        let mut lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = lines.next()?;
        let (word, rest) = first.split_once([' ', '\t']).unwrap_or((first, ""));
        match word {
            "---" => return Some(Self::Yaml),
            "global" | "defaults" | "frontend" | "backend" | "listen"
                if !first.contains(['=', ':']) =>
            {
                return Some(Self::HaProxy);
            }
            "worker_processes" | "user" | "events" | "http" | "upstream" | "server"
                if first.ends_with(['{', ';']) && !first.contains('=') =>
            {
                return Some(Self::Nginx);
            }
            _ => {}
        }
        match () {
            () if first.starts_with('{') => Some(Self::Json),
            () if first.starts_with('<') => Some(Self::Xml),
            () if first.starts_with("-----BEGIN ") => Some(Self::Certificate),
            () if is_key(word) && (rest.is_empty() || !rest.trim_start().starts_with('=')) => {
                Some(Self::Yaml)
            }
            () => None,
        }
    }

    /// "a YAML file".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Yaml => "a YAML file",
            Self::Json => "a JSON file",
            Self::Xml => "an XML file",
            Self::HaProxy => "a configuration of HAProxy",
            Self::Nginx => "a configuration of nginx",
            Self::Certificate => "a certificate or a key",
        }
    }
}

/// `listeners:`, as YAML has it.
fn is_key(word: &str) -> bool {
    let name = word.strip_suffix(':').unwrap_or_default();
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_told_by_their_first_line() {
        for (text, expected) in [
            ("# a word\n\nlisteners:\n  public:\n", Some(Foreign::Yaml)),
            ("---\nlisteners: {}\n", Some(Foreign::Yaml)),
            ("backends: [a]\n", Some(Foreign::Yaml)),
            ("{\"listeners\": {}}", Some(Foreign::Json)),
            ("<configuration>", Some(Foreign::Xml)),
            ("global\n    daemon\n", Some(Foreign::HaProxy)),
            ("frontend up\n    bind :80\n", Some(Foreign::HaProxy)),
            ("worker_processes 4;\n", Some(Foreign::Nginx)),
            ("http {\n", Some(Foreign::Nginx)),
            ("-----BEGIN CERTIFICATE-----\n", Some(Foreign::Certificate)),
            ("", None),
            ("[listeners.public\n", None),
            ("backend = \n", None),
            ("server = { \n", None),
            ("some words\n", None),
        ] {
            assert_eq!(Foreign::of(text), expected, "{text:?}");
        }
    }
}
