//! Reads rows out of a database file that SQLite will not read any more.
//!
//! The page is all that has to be whole: neither the header of the file, nor the schema, nor the
//! inner nodes of a tree are asked. What comes out is believed for its seal alone. Nothing is
//! written, so it also reads what lies in a folder where SQLite may not put its lock file.
//!
//! # Source
//! <https://www.sqlite.org/fileformat2.html>, sections 1.6 (b-tree pages) and 2.1 (records).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::wal;

/// Bytes of a page; the store makes no others.
pub const PAGE: usize = 4096;
const LEAF: u8 = 0x0d;
/// Bytes of a leaf page before its list of cells.
const LEAF_HEAD: usize = 8;
/// No table has more columns.
const COLUMNS: usize = 8;

/// A column of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Column<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
}

/// What was met on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    pub pages: u64,
    /// Pages that the disk would not give.
    pub unreadable: u64,
}

/// Hands every row of every leaf page to `row`, with its row number.
///
/// The newest image of a page counts: that in the write-ahead log, if there is one.
///
/// # Errors
/// Those of opening the database; what cannot be read later is skipped and counted.
pub fn scan(
    database: &Path,
    log: Option<&Path>,
    row: &mut dyn FnMut(i64, &[Column<'_>]),
) -> io::Result<Scan> {
    let file = File::open(database)?;
    let log_file = log.and_then(|log| File::open(log).ok());
    let log = log_file.as_ref().map(wal::read).transpose().unwrap_or_default().unwrap_or_default();
    let in_file = file.metadata()?.len().div_ceil(PAGE as u64);
    // Every page once, in order: first come, first kept.
    let mut places: BTreeMap<u64, (&File, u64)> =
        (1..=in_file).map(|number| (number, (&file, (number - 1) * PAGE as u64))).collect();
    let mut loose = Vec::new();
    if let Some(log_file) = &log_file {
        places.extend(log.pages.iter().map(|(page, at)| (u64::from(*page), (log_file, *at))));
        loose.extend(log.loose.iter().map(|(_, at)| (log_file, *at)));
    }
    // Page 1 holds the schema and none of our rows.
    places.remove(&1);
    let mut scan = Scan::default();
    let mut page = vec![0; PAGE];
    for (file, offset) in places.into_values().chain(loose) {
        scan.pages += 1;
        match read_page(file, offset, &mut page) {
            Ok(()) => leaf(&page, row),
            Err(_) => scan.unreadable += 1,
        }
    }
    Ok(scan)
}

/// A page that the file cuts off is filled up with zeros.
fn read_page(file: &File, offset: u64, page: &mut [u8]) -> io::Result<()> {
    page.fill(0);
    let mut filled = 0;
    while filled < page.len() {
        match file.read_at(&mut page[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Every row of a page that looks like one.
fn leaf(page: &[u8], row: &mut dyn FnMut(i64, &[Column<'_>])) {
    let half = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    let (cells, content) = (half(3), half(5));
    // With a damaged head, the list of cells is followed up to the first cell. Otherwise not a step
    // further than it says: beyond are cells that were deleted.
    let sane = page[0] == LEAF && LEAF_HEAD + 2 * cells <= content && content <= PAGE;
    if !sane && page[..LEAF_HEAD] == [0; LEAF_HEAD] {
        return;
    }
    let mut first = PAGE;
    let mut at = LEAF_HEAD;
    let mut index = 0;
    while at + 2 <= first && (!sane || index < cells) {
        let cell = half(at);
        at += 2;
        index += 1;
        if cell < at || cell >= PAGE {
            continue;
        }
        let mut columns = [Column::Null; COLUMNS];
        if let Some((number, count)) = parse(&page[cell..], &mut columns) {
            first = first.min(cell);
            row(number, &columns[..count]);
        }
    }
}

/// A cell: row number, and how many columns were filled.
fn parse<'a>(cell: &'a [u8], columns: &mut [Column<'a>; COLUMNS]) -> Option<(i64, usize)> {
    let (size, rest) = varint(cell)?;
    let (number, rest) = varint(rest)?;
    let payload = rest.get(..usize::try_from(size).ok()?)?;
    let (head_size, _) = varint(payload)?;
    let head = payload.get(..usize::try_from(head_size).ok()?)?;
    let mut body = &payload[head.len()..];
    let (_, mut head) = varint(head)?;
    let mut count = 0;
    while !head.is_empty() {
        let (kind, more) = varint(head)?;
        head = more;
        let slot = columns.get_mut(count)?;
        let (column, more) = column(kind, body)?;
        (*slot, body) = (column, more);
        count += 1;
    }
    body.is_empty().then_some((number as i64, count))
}

fn column(kind: u64, body: &[u8]) -> Option<(Column<'_>, &[u8])> {
    let width = match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind as usize,
        5 => 6,
        6 => 8,
        text if text >= 13 && text % 2 == 1 => usize::try_from((text - 13) / 2).ok()?,
        // Floats and blobs are in none of our tables.
        _ => return None,
    };
    let (value, rest) = body.split_at_checked(width)?;
    let column = match kind {
        0 => Column::Null,
        1..=6 => {
            let sign = if value[0] & 0x80 != 0 { -1 } else { 0 };
            Column::Integer(value.iter().fold(sign, |n: i64, byte| (n << 8) | i64::from(*byte)))
        }
        8 | 9 => Column::Integer(kind as i64 - 8),
        _ => Column::Text(std::str::from_utf8(value).ok()?),
    };
    Some((column, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some(((value << 8) | u64::from(byte), &bytes[9..]));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_as_sqlite_writes_them() {
        assert_eq!(varint(&[0x7f]), Some((127, &[][..])));
        assert_eq!(varint(&[0x81, 0x00, 5]), Some((128, &[5][..])));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, &[][..])));
        assert_eq!(varint(&[0x80; 8]), None);
        assert_eq!(varint(&[]), None);
    }

    #[test]
    fn integers_have_a_sign() {
        assert_eq!(column(1, &[0xff]), Some((Column::Integer(-1), &[][..])));
        assert_eq!(column(2, &[0x01, 0x00]), Some((Column::Integer(256), &[][..])));
        assert_eq!(column(6, &[0x80, 0, 0, 0, 0, 0, 0, 0]).unwrap().0, Column::Integer(i64::MIN));
        assert_eq!(column(9, &[]), Some((Column::Integer(1), &[][..])));
        assert_eq!(column(7, &[0; 8]), None);
    }

    #[test]
    fn no_page_makes_the_reader_panic() {
        // A cheap generator: every bit of a page takes part.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut page = vec![0u8; PAGE];
        for round in 0..2_000 {
            for byte in &mut page {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
                *byte = (state >> 56) as u8;
            }
            if round % 2 == 0 {
                page[0] = LEAF;
                page[3] = 0;
            }
            leaf(&page, &mut |_, _| {});
        }
        leaf(&[0xff; PAGE], &mut |_, _| {});
        leaf(&[0x00; PAGE], &mut |_, _| panic!("an empty page has no rows"));
    }
}
