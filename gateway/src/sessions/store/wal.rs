//! Reads a write-ahead log frame by frame, further than SQLite does.
//!
//! SQLite stops at the first frame whose sum is wrong, and takes what follows for leftovers: one
//! flipped bit silently loses every commit behind it.
//!
//! # Source
//! <https://www.sqlite.org/fileformat2.html>, section 4.1 and 4.2.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::pages::PAGE;

const HEAD: u64 = 32;
const FRAME_HEAD: usize = 24;
const FRAME: usize = FRAME_HEAD + PAGE;
/// With this one, sums go over little-endian words; with the next number, over big-endian ones.
const MAGIC: u32 = 0x377f_0682;

/// Where a log with so many frames ends.
pub const fn end_of(frames: u64) -> u64 {
    HEAD + frames * FRAME as u64
}

/// What tells the rounds through a log apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Counts the rounds.
    salt: u32,
    /// Another one for each round.
    random: u32,
}

impl Head {
    /// In how many rounds a log may have come from one head to this one; `None` if it cannot have.
    pub fn rounds_since(self, before: Self) -> Option<u32> {
        let rounds = self.salt.wrapping_sub(before.salt);
        (rounds > 0 || self.random == before.random).then_some(rounds)
    }
}

/// The head of a log in which so many frames are in use; `None` if it is damaged, or the last of the
/// frames is none of its round.
pub fn head(file: &File, frames: u64) -> io::Result<Option<Head>> {
    let mut head = [0; HEAD as usize];
    file.read_exact_at(&mut head, 0)?;
    let mut last = [0; FRAME_HEAD];
    file.read_exact_at(&mut last, end_of(frames.saturating_sub(1)))?;
    let whole = is_whole(&head) && last[8..16] == head[16..24] && word(&last, 0) != 0;
    let [salt, random] = [16, 20].map(|at| word(&head, at));
    Ok(whole.then_some(Head { salt, random }))
}

/// What a log holds.
#[derive(Debug, Default)]
pub struct Log {
    /// Where the newest image of a page lies.
    pub pages: BTreeMap<u32, u64>,
    /// Images with a wrong sum that no later one replaces, with the page that they claim to be.
    pub loose: Vec<(u32, u64)>,
}

/// Reads all frames.
pub fn read(file: &File) -> io::Result<Log> {
    let mut log = Log::default();
    walk(file, true, &mut |_, frame| {
        let page = word(frame.bytes, 0);
        if frame.whole {
            log.loose.retain(|(claimed, _)| *claimed != page);
            log.pages.insert(page, frame.image);
        } else {
            log.loose.push((page, frame.image));
        }
    })?;
    Ok(log)
}

/// Number of the last frame, from 1, that ends a transaction; 0 if there is none.
pub fn last_commit(file: &File) -> io::Result<u64> {
    let mut last = 0;
    walk(file, false, &mut |number, frame| {
        if word(frame.bytes, 4) != 0 {
            last = number;
        }
    })?;
    Ok(last)
}

struct Frame<'a> {
    /// Its head.
    bytes: &'a [u8],
    /// Where its page begins.
    image: u64,
    /// Whether its sum is right, if anybody asked.
    whole: bool,
}

fn walk(file: &File, sums: bool, visit: &mut dyn FnMut(u64, Frame<'_>)) -> io::Result<()> {
    let size = file.metadata()?.len();
    let mut head = [0; HEAD as usize];
    if size < HEAD + FRAME as u64 {
        return Ok(());
    }
    file.read_exact_at(&mut head, 0)?;
    let salt = salt(file, &head);
    let big_endian = word(&head, 0) == MAGIC + 1;
    let mut sum = (word(&head, 24), word(&head, 28));
    let mut bytes = vec![0; if sums { FRAME } else { FRAME_HEAD }];
    for number in 1..=(size - HEAD) / FRAME as u64 {
        let offset = HEAD + (number - 1) * FRAME as u64;
        if file.read_exact_at(&mut bytes, offset).is_err() {
            // A sector that the disk does not give. The next sum builds on one that is unknown.
            sum = (0, 0);
            continue;
        }
        let stored = (word(&bytes, 16), word(&bytes, 20));
        // A sum is built on the one before it, as it is stored there: so each can be judged alone.
        let before = std::mem::replace(&mut sum, stored);
        // Frames of an earlier round through the log have another salt.
        // Page 0 is none: so begins what was written in advance.
        let ours = bytes[8..16] == salt && word(&bytes, 0) != 0;
        let whole = sums && ours && {
            let sum = add(before, &bytes[..8], big_endian);
            add(sum, &bytes[FRAME_HEAD..], big_endian) == stored
        };
        if ours {
            let head = &bytes[..FRAME_HEAD];
            visit(number, Frame { bytes: head, image: offset + FRAME_HEAD as u64, whole });
        }
    }
    Ok(())
}

/// What marks the frames of the last round. A whole head knows: frames that do not agree with it are
/// of the round before, and their successors were never written. Of a damaged one, two of the head,
/// the first and the second frame agree.
fn salt(file: &File, head: &[u8]) -> [u8; 8] {
    let frame = |number: u64| {
        let mut salt = [0; 8];
        let read = file.read_exact_at(&mut salt, HEAD + number * FRAME as u64 + 8);
        read.is_ok().then_some(salt)
    };
    let mut noted = [0; 8];
    noted.copy_from_slice(&head[16..24]);
    if is_whole(head) {
        return noted;
    }
    match (frame(0), frame(1)) {
        (Some(first), Some(second)) if first == second => first,
        _ => noted,
    }
}

/// Whether the sum over a head is right.
fn is_whole(head: &[u8]) -> bool {
    let magic = word(head, 0);
    let sum = add((0, 0), &head[..24], magic == MAGIC + 1);
    magic & !1 == MAGIC && sum == (word(head, 24), word(head, 28))
}

fn add((mut one, mut two): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let number = |bytes: &[u8]| {
        let word = word(bytes, 0);
        if big_endian { word } else { word.swap_bytes() }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(number(pair)).wrapping_add(two);
        two = two.wrapping_add(number(&pair[4..])).wrapping_add(one);
    }
    (one, two)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
