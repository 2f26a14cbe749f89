//! The local file: what it is, its bytes, its SHA-256.

use std::fs::Metadata;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// What tells a changed file from the one that an upload began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub size: u64,
    /// Time of the last change, nanoseconds since 1970; 0 where the system does not tell.
    pub modified_ns: u64,
}

/// An open file that is being sent.
pub struct Source {
    path: PathBuf,
    /// `None`: only the name is known, for ending a session whose file is gone.
    file: Option<File>,
    identity: Identity,
    position: u64,
    hasher: Sha256,
    /// Bytes in the hasher: always a prefix of the file.
    hashed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot open {}", .0.display())]
    Open(PathBuf, #[source] io::Error),
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} changed during the upload; start it again to send the new content", .0.display())]
    Changed(PathBuf),
}

const CHUNK: usize = 256 << 10;

impl Source {
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let unopened = |error| SourceError::Open(path.to_owned(), error);
        let file = File::open(path).await.map_err(unopened)?;
        let metadata = file.metadata().await.map_err(unopened)?;
        if !metadata.is_file() {
            return Err(SourceError::NotAFile(path.to_owned()));
        }
        let (hasher, identity) = (Sha256::new(), identity(&metadata));
        let (path, file) = (path.to_owned(), Some(file));
        Ok(Self { path, file, identity, position: 0, hasher, hashed: 0 })
    }

    /// A file of which nothing will be read.
    pub fn absent(path: &Path) -> Self {
        let identity = Identity { size: 0, modified_ns: 0 };
        let (path, hasher) = (path.to_owned(), Sha256::new());
        Self { path, file: None, identity, position: 0, hasher, hashed: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// The file name for `Content-Name`, `None` where it cannot stand in a header.
    pub fn content_name(&self) -> Option<String> {
        let name = self.path.file_name()?.to_str()?;
        let legal = name.len() <= gateway_core::protocol::headers::VALUE_LIMIT
            && !name.chars().any(char::is_control)
            && name.trim() == name;
        legal.then(|| name.to_owned())
    }

    /// Compares the file under the path with the one that is open.
    pub async fn check_unchanged(&self) -> Result<(), SourceError> {
        let now = tokio::fs::metadata(&self.path).await.map(|metadata| identity(&metadata));
        match now {
            Ok(now) if now == self.identity => Ok(()),
            Ok(_) => Err(SourceError::Changed(self.path.clone())),
            Err(error) => Err(SourceError::Read(self.path.clone(), error)),
        }
    }

    /// Moves to `offset`, reading what the hash still lacks before it: all of the beginning when
    /// an upload is resumed, nothing in the usual case.
    pub async fn seek(&mut self, offset: u64) -> Result<(), SourceError> {
        self.hash_up_to(offset).await?;
        if self.position != offset {
            self.move_to(offset).await?;
        }
        Ok(())
    }

    /// The next bytes from the current position.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let got = file.read(buffer).await?;
        self.absorb(&buffer[..got]);
        Ok(got)
    }

    /// SHA-256 of the whole file in lower-case hexadecimal.
    pub async fn sha256(&mut self) -> Result<String, SourceError> {
        self.hash_up_to(self.identity.size).await?;
        let digest = self.hasher.clone().finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn hash_up_to(&mut self, offset: u64) -> Result<(), SourceError> {
        if self.hashed >= offset {
            return Ok(());
        }
        self.move_to(self.hashed).await?;
        let mut buffer = vec![0; CHUNK];
        while self.hashed < offset {
            let left = usize::try_from(offset - self.hashed).unwrap_or(CHUNK).min(CHUNK);
            let got = self.read(&mut buffer[..left]).await;
            if got.map_err(|error| SourceError::Read(self.path.clone(), error))? == 0 {
                return Err(SourceError::Changed(self.path.clone()));
            }
        }
        Ok(())
    }

    async fn move_to(&mut self, offset: u64) -> Result<(), SourceError> {
        let moved = match &mut self.file {
            Some(file) => file.seek(SeekFrom::Start(offset)).await,
            None => Err(io::ErrorKind::NotFound.into()),
        };
        moved.map_err(|error| SourceError::Read(self.path.clone(), error))?;
        self.position = offset;
        Ok(())
    }

    /// Hashes what continues the hashed prefix; bytes that are sent again are in it already.
    fn absorb(&mut self, bytes: &[u8]) {
        let known = self.hashed.saturating_sub(self.position);
        if let Some(fresh) = usize::try_from(known).ok().and_then(|known| bytes.get(known..))
            && self.position <= self.hashed
        {
            self.hasher.update(fresh);
            self.hashed += fresh.len() as u64;
        }
        self.position += bytes.len() as u64;
    }
}

fn identity(metadata: &Metadata) -> Identity {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ns = modified.and_then(|since| u64::try_from(since.as_nanos()).ok());
    Identity { size: metadata.len(), modified_ns: modified_ns.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    async fn read(source: &mut Source, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            filled += source.read(&mut bytes[filled..]).await.unwrap();
        }
        bytes
    }

    #[tokio::test]
    async fn the_hash_is_that_of_the_file_in_whatever_order_it_was_sent() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let expected: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let file = write(&bytes);
        let mut source = Source::open(file.path()).await.unwrap();
        for (offset, length) in [(0, 100), (50, 100), (5_000, 20), (0, 6_000), (4_000, 1)] {
            source.seek(offset).await.unwrap();
            let sent = read(&mut source, length).await;
            assert_eq!(sent, bytes[offset as usize..][..length]);
        }
        assert_eq!(source.sha256().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_file_that_changes_is_noticed() {
        let file = write(b"before");
        let source = Source::open(file.path()).await.unwrap();
        source.check_unchanged().await.unwrap();
        std::fs::write(file.path(), b"longer than before").unwrap();
        assert!(matches!(source.check_unchanged().await, Err(SourceError::Changed(_))));
    }

    #[tokio::test]
    async fn a_folder_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Source::open(folder.path()).await, Err(SourceError::NotAFile(_))));
    }
}
