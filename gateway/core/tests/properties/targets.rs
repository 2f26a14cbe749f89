//! Which targets are one, judged a second time: by the characters that they stand for.

use gateway_core::session::TargetHash;
use gateway_core::session::target::{Binding, Target, normal_form};
use proptest::prelude::*;

use super::cases;

/// What a piece of a target stands for. An escape that must not be decoded is no character.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Character(u8),
    Escape(u8),
}

/// The pieces of a path, and of its query if it has one that is not empty.
fn pieces(target: &str) -> (Vec<Piece>, Option<Vec<Piece>>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let stay = |byte: u8| b"/\\%?#".contains(&byte) || !(b' '..=b'~').contains(&byte);
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let query = (!query.is_empty()).then(|| read(query, |byte| !unreserved(byte)));
    (read(path, stay), query)
}

fn read(text: &str, stays: impl Fn(u8) -> bool) -> Vec<Piece> {
    let mut bytes = text.bytes();
    let mut pieces = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            pieces.push(Piece::Character(byte));
            continue;
        }
        let digits: String = bytes.by_ref().take(2).map(char::from).collect();
        let byte = u8::from_str_radix(&digits, 16).expect("a whole escape");
        pieces.push(if stays(byte) { Piece::Escape(byte) } else { Piece::Character(byte) });
    }
    pieces
}

/// Few characters, so that two targets are often equal or nearly so.
fn targets() -> impl Strategy<Value = String> {
    let piece =
        prop_oneof!["[aA./{ ?;]", "%(41|61|2[eEfF]|7[bB]|20|3[fFbB]|25|5[cC]|c3|C3|0a|0A)",];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn two_targets_are_one_if_they_stand_for_the_same(one in targets(), other in targets()) {
        let same = pieces(&one) == pieces(&other);
        prop_assert_eq!(normal_form(one.as_bytes()) == normal_form(other.as_bytes()), same);
        let (one, other) = (Target::of(one.as_bytes()), Target::of(other.as_bytes()));
        prop_assert_eq!(one.hash() == other.hash(), same);
    }

    #[test]
    fn the_normal_form_is_a_spelling_of_its_target(target in targets()) {
        let normal = normal_form(target.as_bytes());
        prop_assert_eq!(&normal_form(&normal), &normal);
        prop_assert_eq!(Target::of(target.as_bytes()).hash(), TargetHash::of(&normal));
        let normal = String::from_utf8(normal).expect("ASCII");
        prop_assert_eq!(pieces(&normal), pieces(&target));
        // Nothing in it that a request line must not have.
        prop_assert!(!normal.contains([' ', '{']) || target.contains('?'), "{}", normal);
    }

    #[test]
    fn a_packet_goes_on_in_the_spelling_of_its_create(
        create in targets(), packet in targets(), any in ".{0,12}",
    ) {
        let binding = Binding::to(Target::of(create.as_bytes()), create.as_bytes());
        let on = |text: &str| {
            let target = Target::of(text.as_bytes());
            target.is(binding.target).then(|| {
                let onward = binding.onward(target, text.as_bytes());
                onward.map_or_else(|| text.to_owned(), |spelling| spelling.to_string())
            })
        };
        prop_assert_eq!(on(&create), Some(create.clone()));
        let same = pieces(&create) == pieces(&packet);
        prop_assert_eq!(on(&packet), same.then_some(create));
        // Whatever it is, it does not panic and comes out once.
        let normal = normal_form(any.as_bytes());
        prop_assert_eq!(normal_form(&normal), normal);
    }
}
