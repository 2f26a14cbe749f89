//! Who besides the gateway's user and root can put something else in the place of a TLS file.
//!
//! A file is as safe as the folders that lead to it: who may write to one of them can rename what
//! is in it. That others may read a folder tells them names and nothing of a key, so it is no
//! fault, and neither is a key that its group may read.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Others, beside the owner, may write to a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    path: PathBuf,
    mode: u32,
    writers: Writers,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writers {
    Group,
    Anybody,
}

/// What can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Key,
    Authorities,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.what {
            What::Key => "a private key",
            What::Authorities => "the authorities that are trusted",
        };
        let writers = match self.writers {
            Writers::Group => "its group",
            Writers::Anybody => "others",
        };
        let Self { path, mode, .. } = self;
        let path = path.display();
        write!(f, "{path} leads to {whose} and can be written by {writers} (mode {mode:04o})")
    }
}

impl Exposed {
    /// What would help.
    pub fn help(&self) -> String {
        let right = match self.writers {
            Writers::Group => "g-w",
            Writers::Anybody if self.mode & 0o020 != 0 => "go-w",
            Writers::Anybody => "o-w",
        };
        format!("they can replace what is there: chmod {right} {}", self.path.display())
    }
}

/// Everything on the way to a file that others can write to. Of a key itself it is not asked: one
/// that others can write to is not used.
pub fn exposed(file: &Path, what: What) -> Vec<Exposed> {
    let itself = (what != What::Key).then(|| file.to_owned());
    let of = |path: PathBuf| {
        let found = fs::metadata(&path).ok()?;
        let writers = writers(&found)?;
        Some(Exposed { path, mode: found.mode() & 0o7777, writers, what })
    };
    itself.into_iter().chain(folders(file)).filter_map(of).collect()
}

/// The folder of a file if anybody can write to it, with its mode; of a link also that of the file
/// that it leads to.
pub fn open_folder(file: &Path) -> Option<(PathBuf, u32)> {
    let parents = ways(file).into_iter().filter_map(|way| way.parent().map(Path::to_owned));
    parents.into_iter().find_map(|folder| {
        let found = fs::metadata(&folder).ok()?;
        let open = writers(&found) == Some(Writers::Anybody);
        open.then(|| (folder, found.mode() & 0o7777))
    })
}

/// The folders that lead to a file, each once, the outermost first.
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let ways = ways(file);
    ways.iter().flat_map(|way| way.ancestors().skip(1)).map(Path::to_owned).collect()
}

/// A file by the name it is called, and by that to which links lead.
fn ways(file: &Path) -> Vec<PathBuf> {
    [std::path::absolute(file), fs::canonicalize(file)].into_iter().flatten().collect()
}

fn writers(found: &Metadata) -> Option<Writers> {
    // In a folder such as `/tmp` files belong to their owners.
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    writers_of(found.mode(), found.uid(), found.gid()).filter(|_| !sticky)
}

/// The group of root, and one of the same number as the owner, which is the owner's own on most
/// systems, let nobody else in.
fn writers_of(mode: u32, uid: u32, gid: u32) -> Option<Writers> {
    match mode {
        mode if mode & 0o002 != 0 => Some(Writers::Anybody),
        mode if mode & 0o020 != 0 && gid != 0 && gid != uid => Some(Writers::Group),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn who_may_write_besides_the_owner() {
        use Writers::{Anybody, Group};
        for (mode, uid, gid, expected) in [
            (0o755, 0, 0, None),
            (0o750, 0, 998, None),
            (0o640, 0, 998, None),
            (0o770, 0, 998, Some(Group)),
            (0o775, 0, 998, Some(Group)),
            (0o775, 1000, 1000, None),
            (0o775, 1000, 0, None),
            (0o777, 1000, 1000, Some(Anybody)),
            (0o702, 0, 0, Some(Anybody)),
        ] {
            assert_eq!(writers_of(mode, uid, gid), expected, "{mode:o} {uid} {gid}");
        }
    }

    /// `a/b/file`, with these modes of `a` and `b`.
    #[track_caller]
    fn check(outer: u32, inner: u32, open: Option<&str>, words: &[&str]) {
        let place = tempfile::tempdir().unwrap();
        let inner_folder = place.path().join("a/b");
        fs::create_dir_all(&inner_folder).unwrap();
        let file = inner_folder.join("file");
        fs::write(&file, "").unwrap();
        let link = place.path().join("link");
        symlink(&file, &link).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        set(&place.path().join("a"), outer).unwrap();
        set(&inner_folder, inner).unwrap();
        for name in [&file, &link] {
            let said: Vec<_> =
                exposed(name, What::Key).iter().map(|e| format!("{e} {}", e.help())).collect();
            assert_eq!(said.len(), words.len(), "{said:?}");
            for (said, word) in said.iter().zip(words) {
                assert!(said.contains(word), "{said}");
            }
            let found = open_folder(name).map(|(folder, _)| folder);
            assert_eq!(found, open.map(|name| place.path().join(name)));
        }
    }

    #[test]
    fn every_folder_on_the_way_counts() {
        check(0o755, 0o755, None, &[]);
        check(0o1777, 0o755, None, &[]);
        check(
            0o777,
            0o755,
            None,
            &[
                "/a leads to a private key and can be written by others (mode 0777) they can replace what is there: chmod go-w ",
            ],
        );
        check(0o757, 0o755, None, &["chmod o-w "]);
        check(0o755, 0o777, Some("a/b"), &["/a/b leads"]);
    }

    #[test]
    fn of_authorities_the_file_counts_too() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("ca.pem");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let found = exposed(&file, What::Authorities);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("ca.pem leads to the authorities that are trusted"));
        assert!(found[0].to_string().contains("(mode 0666)"));
        assert!(exposed(&file, What::Key).is_empty());
    }
}
