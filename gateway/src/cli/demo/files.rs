//! What the demo uploads, and what of it arrived.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::farm::server_folder;

/// A file of random content.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
}

/// A copy of a file on a server.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub server: String,
    pub size: u64,
    pub sha256: String,
}

const CHUNK: usize = 64 << 10;

/// Writes `count` files into `folder`. The same seed makes the same files.
pub async fn make(folder: &Path, count: u16, size: u64, seed: u64) -> io::Result<Vec<Sample>> {
    let folder = folder.to_owned();
    blocking(move || {
        std::fs::create_dir_all(&folder)?;
        (1..=count)
            .map(|number| {
                let name = format!("file-{number:02}.bin");
                let path = folder.join(&name);
                let sha256 =
                    fill(&path, size, seed.wrapping_mul(1_000).wrapping_add(number.into()))?;
                Ok(Sample { name, path, size, sha256 })
            })
            .collect()
    })
    .await
}

/// Every server that has the file. More than one would mean that an upload was split.
pub async fn find(folder: &Path, servers: &[String], name: &str) -> io::Result<Vec<Arrival>> {
    let mut found = Vec::new();
    for server in servers {
        let path = server_folder(folder, server).join("files").join("in").join(name);
        if path.is_file() {
            let (size, sha256) = blocking(move || hash(&path)).await?;
            found.push(Arrival { server: server.clone(), size, sha256 });
        }
    }
    Ok(found)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn fill(path: &Path, size: u64, seed: u64) -> io::Result<String> {
    let mut file = std::fs::File::create(path)?;
    let (mut random, mut hasher) = (SplitMix(seed), Sha256::new());
    let mut chunk = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        for bytes in chunk.chunks_exact_mut(8) {
            bytes.copy_from_slice(&random.next().to_le_bytes());
        }
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(&chunk[..length])?;
        hasher.update(&chunk[..length]);
        left -= length as u64;
    }
    Ok(hex(hasher))
}

fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let (mut chunk, mut size) = (vec![0; CHUNK], 0);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((size, hex(hasher))),
            got => {
                hasher.update(&chunk[..got]);
                size += got as u64;
            }
        }
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014): random enough to tell files apart.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seed_makes_the_same_files_again_and_each_is_different() {
        let folder = tempfile::tempdir().unwrap();
        let first = make(folder.path(), 2, 100_001, 7).await.unwrap();
        let again = make(folder.path(), 2, 100_001, 7).await.unwrap();
        let other = make(folder.path(), 2, 100_001, 8).await.unwrap();
        assert_eq!(first[0].sha256, again[0].sha256);
        assert_ne!(first[0].sha256, first[1].sha256);
        assert_ne!(first[0].sha256, other[0].sha256);
        assert_eq!(hash(&other[1].path).unwrap(), (100_001, other[1].sha256.clone()));
    }
}
