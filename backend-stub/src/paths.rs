//! Request targets and the names they may become below the upload folder.

use std::fmt;

use thiserror::Error;

/// A file below the upload folder, as names that are each safe to hand to `openat`.
///
/// # Shape
/// At least one name; none is empty, `.`, `..`, longer than 255 bytes, or holds `/`, `\` or a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    names: Vec<String>,
}

/// Why a request target names no file of ours.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    #[error("the target is not a path")]
    NotAPath,
    #[error("a percent sign without two hex digits after it")]
    BadEscape,
    #[error("the decoded path is not utf-8")]
    NotUtf8,
    #[error("the path names a directory")]
    Directory,
    #[error("a path component that could leave the upload folder")]
    Escapes,
    #[error("the path or one of its components is too long")]
    TooLong,
    #[error("the name is reserved for the server")]
    Reserved,
}

const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4000;

/// The folder name under which replies are served; no upload may take it.
const RESERVED: &str = "BITS-Sessions";

/// Splits a request target into its path (still percent-encoded) and its query without `?`.
///
/// Absolute-form (`http://host/path`) is legal in every request, RFC 9112 3.2.2.
pub fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    let origin = if target.starts_with('/') {
        target
    } else {
        let rest = target
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
            .map(|_| &target[7..])?;
        match rest.find(['/', '?']) {
            Some(slash) if rest.as_bytes()[slash] == b'/' => &rest[slash..],
            _ => return None,
        }
    };
    let origin = origin.split('#').next().unwrap_or(origin);
    Some(match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    })
}

/// Undoes percent-encoding once.
pub fn percent_decode(text: &str) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            bytes
                .next()
                .and_then(|b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok())
                .ok_or(PathError::BadEscape)
        };
        let high = digit()?;
        out.push(high << 4 | digit()?);
    }
    Ok(out)
}

/// Whether two paths are one: a server decodes what a proxy before it may have escaped or not. Escapes of what it reads
/// in a way of its own stay: separators, the percent sign, control characters, bytes beyond ASCII.
pub fn is_same_path(one: &str, other: &str) -> bool {
    one == other || matches!((pieces(one), pieces(other)), (Ok(one), Ok(other)) if one == other)
}

/// Bytes, each with whether it is an escape that stays.
fn pieces(path: &str) -> Result<Vec<(u8, bool)>, PathError> {
    let stays = |byte: &u8| b"/\\%?#".contains(byte) || !(b' '..=b'~').contains(byte);
    let mut parts = path.split('%');
    let mut pieces: Vec<_> = parts.next().unwrap_or_default().bytes().map(|b| (b, false)).collect();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(PathError::BadEscape)?;
        let byte = percent_decode(&format!("%{digits}"))?[0];
        pieces.push((byte, stays(&byte)));
        pieces.extend(rest.bytes().map(|byte| (byte, false)));
    }
    Ok(pieces)
}

impl Destination {
    /// Reads the path of a request target.
    pub fn from_target(target: &str) -> Result<Self, PathError> {
        let (path, _) = split_target(target).ok_or(PathError::NotAPath)?;
        if path.len() > 3 * MAX_PATH {
            return Err(PathError::TooLong);
        }
        // Splitting comes before decoding: a `%2F` must never become a separator.
        let names = path[1..].split('/').map(read_name).collect::<Result<Vec<_>, _>>();
        let names = match names {
            // "/in/" is the directory itself, "//x" is an attempt at an absolute path.
            Err(PathError::Directory) if path.ends_with('/') && !path.contains("//") => {
                return Err(PathError::Directory);
            }
            Err(PathError::Directory) => return Err(PathError::Escapes),
            other => other?,
        };
        if names.iter().map(|name| name.len() + 1).sum::<usize>() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if names.iter().any(|name| name.eq_ignore_ascii_case(RESERVED)) {
            return Err(PathError::Reserved);
        }
        Ok(Self { names })
    }

    /// The directories above the file, outermost first.
    pub fn parents(&self) -> &[String] {
        &self.names[..self.names.len() - 1]
    }

    pub fn file_name(&self) -> &str {
        self.names.last().expect("a destination has at least one name")
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

fn read_name(encoded: &str) -> Result<String, PathError> {
    if encoded.is_empty() {
        return Err(PathError::Directory);
    }
    let name = String::from_utf8(percent_decode(encoded)?).map_err(|_| PathError::NotUtf8)?;
    let bytes = name.as_bytes();
    let drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    if name == "."
        || name == ".."
        || drive
        || name.contains(['/', '\\'])
        || name.chars().any(char::is_control)
    {
        return Err(PathError::Escapes);
    }
    if name.len() > MAX_NAME {
        return Err(PathError::TooLong);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, expected: Result<&str, PathError>) {
        let got = Destination::from_target(target).map(|d| d.to_string());
        assert_eq!(got, expected.map(str::to_owned), "{target}");
    }

    #[test]
    fn ordinary_names_are_kept() {
        check("/a.bin", Ok("/a.bin"));
        check("/in/logs/pc-17.cab?site=7", Ok("/in/logs/pc-17.cab"));
        check("/in/a%20b%C3%A9.bin", Ok("/in/a bé.bin"));
        check("http://up.test:8080/in/x", Ok("/in/x"));
        check("HTTP://up.test/in/x", Ok("/in/x"));
        check("/in/..x", Ok("/in/..x"));
        check("/in/%2541", Ok("/in/%41"));
    }

    #[test]
    fn a_path_is_the_same_in_every_spelling() {
        for (one, other, same) in [
            ("/in/a.bin", "/in/a.bin", true),
            ("/in/a.bin", "/%69n/%61%2ebin", true),
            ("/in/a b~", "/in/a%20b%7E", true),
            ("/in/%7B1%7D", "/in/{1}", true),
            ("/in/%c3%a9", "/in/%C3%A9", true),
            ("/in/%2f", "/in/%2F", true),
            ("/in/%", "/in/%", true),
            ("/in/a", "/in/A", false),
            ("/in/%2Fa", "/in//a", false),
            ("/in/%2541", "/in/%41", false),
            ("/in/%2541", "/in/A", false),
            ("/in/%C3%A9", "/in/\u{e9}", false),
            ("/in/%", "/in/%25", false),
            ("/in/%zz", "/in/%41", false),
        ] {
            assert_eq!(is_same_path(one, other), same, "{one} {other}");
            assert_eq!(is_same_path(other, one), same, "{other} {one}");
        }
    }

    #[test]
    fn nothing_leaves_the_upload_folder() {
        for target in [
            "/../x",
            "/in/../../x",
            "/in/%2e%2e/x",
            "/in/.%2E/x",
            "/./x",
            "/in/..%2fx",
            "/in%2f..%2fx",
            "/in/..%5cx",
            "/in\\..\\x",
            "//etc/passwd",
            "/in//x",
            "/in/x%00.bin",
            "/in/x%0a",
            "/C:/windows/x",
            "/c%3a/x",
            "/in/d:x",
        ] {
            check(target, Err(PathError::Escapes));
        }
        check("/in/%c0%ae%c0%ae/x", Err(PathError::NotUtf8));
        check("/in/%2", Err(PathError::BadEscape));
        check("/in/%zz", Err(PathError::BadEscape));
        check("/in/%+1", Err(PathError::BadEscape));
    }

    #[test]
    fn targets_that_are_no_path_are_refused() {
        for target in ["*", "", "up.test:80", "http://up.test", "http://up.test?x", "ftp://x/y"] {
            check(target, Err(PathError::NotAPath));
        }
        check("/", Err(PathError::Directory));
        check("/in/", Err(PathError::Directory));
    }

    #[test]
    fn long_names_are_refused() {
        check(&format!("/{}", "n".repeat(256)), Err(PathError::TooLong));
        let fits = format!("/{}", "n".repeat(255));
        check(&fits, Ok(&fits));
        check(&"/nnnnnnnnn".repeat(500), Err(PathError::TooLong));
        check(&"/n".repeat(30_000), Err(PathError::TooLong));
    }

    #[test]
    fn the_reply_folder_is_not_a_destination() {
        check("/in/bits-sessions/x", Err(PathError::Reserved));
    }
}
