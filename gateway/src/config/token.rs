//! The token of the admin listener.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::open_file::open_at_once;

/// As many as a random token of 256 bits has at least, however it is written.
pub const SHORTEST: usize = 32;

/// More would not fit into the head that carries it.
pub const LONGEST: usize = 4096;

/// A secret that whoever has it may change everything with.
#[derive(Clone)]
pub struct Token(String);

/// Why a file holds no token that may be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the token file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the token file {} can be {what} by others (mode {mode:04o})", path.display())]
    Open { path: PathBuf, what: &'static str, mode: u32 },
    #[error("the token file {} is not a file", path.display())]
    NoFile { path: PathBuf },
    #[error(
        "the token in {} has {length} bytes, and {SHORTEST} are the least", path.display()
    )]
    Short { path: PathBuf, length: usize },
    #[error("the token in {} has more than {LONGEST} bytes", path.display())]
    Long { path: PathBuf },
    #[error("the token in {} has characters beyond visible ASCII", path.display())]
    Letters { path: PathBuf },
}

impl TokenError {
    /// What would help.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Open { .. } => "chmod 600 FILE, and make a new token: others may know this one",
            Self::Read { .. } | Self::NoFile { .. } | Self::Short { .. } => {
                "(umask 077; openssl rand -hex 32 > FILE)"
            }
            Self::Long { .. } | Self::Letters { .. } => "one token on one line and nothing else",
        }
    }
}

impl Token {
    /// Reads a token from a file that nobody else can read; white space around it does not count.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let owned = || path.to_path_buf();
        let failed = |source| TokenError::Read { path: owned(), source };
        // Looked at through the open file, so that it is the one that is read.
        let file = open_at_once(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(TokenError::NoFile { path: owned() });
        }
        let mode = metadata.mode() & 0o7777;
        // A group may read it: that is how a service without privileges shares it with operators.
        let open = [(0o004, "read"), (0o022, "written")];
        if let Some((_, what)) = open.iter().find(|(bits, _)| mode & bits != 0) {
            return Err(TokenError::Open { path: owned(), what, mode });
        }
        let mut text = Vec::new();
        file.take(2 * LONGEST as u64).read_to_end(&mut text).map_err(failed)?;
        let text = text.trim_ascii();
        if text.len() > LONGEST {
            return Err(TokenError::Long { path: owned() });
        }
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Letters { path: owned() });
        }
        if text.len() < SHORTEST {
            return Err(TokenError::Short { path: owned(), length: text.len() });
        }
        Ok(Self(String::from_utf8_lossy(text).into_owned()))
    }

    /// Whether somebody sent this token, in a time that says nothing about either.
    pub fn matches(&self, sent: &[u8]) -> bool {
        // Digests have one length, whatever is compared.
        let (ours, theirs) = (Sha256::digest(self.0.as_bytes()), Sha256::digest(sent));
        ours.as_slice().ct_eq(theirs.as_slice()).into()
    }

    /// For the head of a request.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn read(text: &[u8], mode: u32) -> Result<Token, TokenError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Token::read(&path)
    }

    #[test]
    fn a_token_is_what_stands_in_the_file() {
        for mode in [0o600, 0o400, 0o640] {
            let token = read(format!(" {GOOD}\r\n").as_bytes(), mode).unwrap();
            assert!(token.matches(GOOD.as_bytes()));
        }
        let token = read(GOOD.as_bytes(), 0o600).unwrap();
        for wrong in ["", " ", &GOOD[1..], &format!("{GOOD}0"), &GOOD.to_uppercase()] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_file_that_others_can_open_is_refused() {
        for mode in [0o644, 0o604, 0o620, 0o602, 0o666, 0o664] {
            let error = read(GOOD.as_bytes(), mode).unwrap_err();
            assert!(matches!(error, TokenError::Open { .. }), "{mode:o}: {error}");
        }
    }

    #[test]
    fn a_token_is_long_enough_and_printable() {
        let error = |text: &[u8]| read(text, 0o600).unwrap_err();
        assert!(matches!(error(b""), TokenError::Short { length: 0, .. }));
        assert!(matches!(error(&GOOD.as_bytes()[1..]), TokenError::Short { length: 31, .. }));
        assert!(matches!(error(&[b'a'; LONGEST + 1]), TokenError::Long { .. }));
        assert!(matches!(error(format!("{GOOD} x").as_bytes()), TokenError::Letters { .. }));
        assert!(matches!(error(format!("{GOOD}\u{e9}").as_bytes()), TokenError::Letters { .. }));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Token::read(folder.path()), Err(TokenError::NoFile { .. })));
        assert!(matches!(Token::read(&folder.path().join("no")), Err(TokenError::Read { .. })));
    }

    #[test]
    fn a_named_pipe_is_no_token_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(Token::read(&pipe), Err(TokenError::NoFile { .. })));
    }
}
