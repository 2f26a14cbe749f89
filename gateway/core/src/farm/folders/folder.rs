//! The folder of a target, and its directory.

/// The first segment of the path of a target, in lower case: most backends run on Windows. The root
/// is a folder too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(Box<[u8]>);

/// The longest name that is kept of a folder; longer ones that begin alike are one.
const NAME: usize = 64;

/// The directory of a target, as its client spelled it, with a slash on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(Box<[u8]>);

/// A longer directory is none: nothing is sent there.
const DIRECTORY: usize = 256;

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

impl Directory {
    /// `target`: path and query, without scheme and authority. `None` where it is not plain in which
    /// folder the directory lies.
    pub fn of(target: &[u8]) -> Option<Self> {
        let end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
        let length = target[..end].iter().rposition(|&byte| byte == b'/')? + 1;
        let path = target[..length].strip_prefix(b"/").filter(|_| length <= DIRECTORY)?;
        let first = path.iter().position(|&byte| byte == b'/').unwrap_or(0);
        let plain = path.is_empty() || (1..=NAME).contains(&first);
        plain.then(|| Self(target[..length].into()))
    }

    /// As it stands in a request line.
    pub fn path(&self) -> &[u8] {
        &self.0
    }

    /// The deepest directory that has both in it.
    pub fn common(&self, other: &Self) -> Self {
        let same = self.0.iter().zip(&other.0).take_while(|(a, b)| a.eq_ignore_ascii_case(b));
        let slash = same.enumerate().filter(|(_, (byte, _))| **byte == b'/').last();
        Self(self.0[..slash.map_or(0, |(at, _)| at + 1)].into())
    }
}
