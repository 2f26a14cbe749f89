//! The folder of a target.

/// The first segment of the path of a target, in lower case: most backends run on Windows. The root
/// is a folder too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(Box<[u8]>);

/// The longest name that is kept of a folder; longer ones that begin alike are one.
const NAME: usize = 64;

impl Folder {
    /// `target`: path and query, without scheme and authority.
    pub fn of(target: &[u8]) -> Self {
        let end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
        let path = &target[..end];
        let begin = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
        let path = &path[begin..];
        // What follows the last slash is the name of the file.
        let length = path.iter().position(|&byte| byte == b'/').unwrap_or(0).min(NAME);
        Self(path[..length].to_ascii_lowercase().into())
    }

    /// As it stands in a path, with a slash on both sides.
    pub fn path(&self) -> String {
        let name = String::from_utf8_lossy(&self.0);
        if name.is_empty() { "/".into() } else { format!("/{name}/") }
    }
}
