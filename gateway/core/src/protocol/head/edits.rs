//! Changes to a legal head that let every server behind read it in one way.
//!
//! A head is passed on byte for byte where it can be. Some heads say things that are for the next
//! hop only, or say one thing twice: these parts are left out or replaced, and all else stays.

/// Parts of a head to replace, in the order of their places. Most heads need none, and then nothing
/// is allocated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadEdits {
    edits: Vec<HeadEdit>,
}

/// Bytes `start..end` of a head give way to `with`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeadEdit {
    start: usize,
    end: usize,
    with: Vec<u8>,
}

impl HeadEdits {
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Parts may come in any order. They must not overlap.
    pub(super) fn replace(&mut self, (start, end): (usize, usize), with: &[u8]) {
        let at = self.edits.partition_point(|edit| edit.start < start);
        debug_assert!(self.edits.get(at).is_none_or(|next| end <= next.start));
        self.edits.insert(at, HeadEdit { start, end, with: with.to_vec() });
    }

    pub(super) fn cut(&mut self, range: (usize, usize)) {
        self.replace(range, b"");
    }

    /// Whether the bytes of `range` are replaced already.
    pub(super) fn touches(&self, (start, end): (usize, usize)) -> bool {
        self.edits.iter().any(|edit| edit.start < end && start < edit.end)
    }

    /// The head as it is passed on. `head` is the one that was checked.
    pub fn apply(&self, head: &[u8]) -> Vec<u8> {
        let added: usize = self.edits.iter().map(|edit| edit.with.len()).sum();
        let mut edited = Vec::with_capacity(head.len() + added);
        let mut copied = 0;
        for edit in &self.edits {
            edited.extend_from_slice(&head[copied..edit.start]);
            edited.extend_from_slice(&edit.with);
            copied = edit.end;
        }
        edited.extend_from_slice(&head[copied..]);
        edited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_replaced_in_the_order_of_their_places() {
        let mut edits = HeadEdits::default();
        assert!(edits.is_empty());
        assert_eq!(edits.apply(b"abcdef"), b"abcdef");
        edits.cut((4, 6));
        edits.replace((0, 1), b"xyz");
        assert_eq!(edits.apply(b"abcdef"), b"xyzbcd");
        assert!(edits.touches((5, 9)) && edits.touches((0, 1)));
        assert!(!edits.touches((1, 4)) && !edits.touches((6, 7)));
    }
}
