//! Where the fields of a head stand in its bytes.

use std::ops::Range;

use super::super::headers::{Field, Id};
use super::OneField;

/// Where the fields of a head stand, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    places: Vec<Place>,
    /// A bit for each number of a field that is there: most look-ups are for one that is not.
    present: u64,
}

/// Where a field stands: its name at `start`, its value without the white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    id: Id,
    /// No name is longer than [`NAME_LIMIT`](super::super::headers::NAME_LIMIT).
    name_length: u16,
    start: u32,
    value: u32,
    value_end: u32,
    /// Behind the end of its line.
    end: u32,
}

/// What most heads have fewer fields than.
const USUAL: usize = 16;

impl Places {
    pub(in super::super) fn new() -> Self {
        Self { places: Vec::with_capacity(USUAL), present: 0 }
    }

    pub(in super::super) fn push(&mut self, field: &OneField<'_>) {
        self.present |= field.id.bit();
        self.places.push(Place {
            id: field.id,
            name_length: field.name.len() as u16,
            start: place(field.start),
            value: place(field.value_start),
            value_end: place(field.value_start + field.value.len()),
            end: place(field.end),
        });
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Every field of the head with these bytes: its number, its name, and its value.
    pub fn all<'h>(&'h self, bytes: &'h [u8]) -> impl Iterator<Item = (Id, &'h [u8], &'h [u8])> {
        self.places.iter().map(|place| (place.id, place.name(bytes), place.value(bytes)))
    }

    /// The values of one field, in the order in which they stand.
    pub fn values<'h>(
        &'h self,
        bytes: &'h [u8],
        field: &'static Field,
    ) -> impl DoubleEndedIterator<Item = &'h [u8]> {
        let absent = self.present & field.id.bit() == 0;
        let places = if absent { &[] } else { &self.places[..] };
        places.iter().filter(move |place| place.id == field.id).map(|place| place.value(bytes))
    }

    /// Where the value of a field stands, if the field stands once.
    pub(super) fn only(&self, field: &'static Field) -> Option<Range<usize>> {
        let mut places = self.places.iter().filter(|place| place.id == field.id);
        let place = places.next()?;
        let value = place.value as usize..place.value_end as usize;
        places.next().is_none().then_some(value)
    }

    /// Whether `new` are the bytes of the head again, but for digits that stand for other digits in the
    /// values of fields whose bits are `numbered`.
    pub(in super::super) fn is_repeated(&self, bytes: &[u8], new: &[u8], numbered: u64) -> bool {
        if new.len() != bytes.len() {
            return false;
        }
        let mut at = 0;
        for place in self.places.iter().filter(|place| numbered & place.id.bit() != 0) {
            let (value, end) = (place.value as usize, place.value_end as usize);
            let digits = |(old, new): (&u8, &u8)| {
                old == new || (old.is_ascii_digit() && new.is_ascii_digit())
            };
            if bytes[at..value] != new[at..value]
                || !bytes[value..end].iter().zip(&new[value..end]).all(digits)
            {
                return false;
            }
            at = end;
        }
        bytes[at..] == new[at..]
    }

    /// Every field with its whole line: its number, its name, and the line with its end.
    pub fn lines<'h>(&'h self, bytes: &'h [u8]) -> impl Iterator<Item = (Id, &'h [u8], &'h [u8])> {
        self.places.iter().map(|place| {
            let line = &bytes[place.start as usize..place.end as usize];
            (place.id, place.name(bytes), line)
        })
    }
}

impl Place {
    fn name<'h>(&self, bytes: &'h [u8]) -> &'h [u8] {
        let start = self.start as usize;
        &bytes[start..start + usize::from(self.name_length)]
    }

    fn value<'h>(&self, bytes: &'h [u8]) -> &'h [u8] {
        &bytes[self.value as usize..self.value_end as usize]
    }
}

/// A head is far smaller than 4 GiB.
pub(super) fn place(at: usize) -> u32 {
    at as u32
}
