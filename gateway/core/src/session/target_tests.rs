use super::*;

#[track_caller]
fn normal(target: &str, expected: &str) {
    let written = |target: &str| String::from_utf8(normal_form(target.as_bytes())).unwrap();
    assert_eq!(written(target), expected);
    assert_eq!(written(expected), expected, "once more");
    let (one, other) = (Target::of(target.as_bytes()), Target::of(expected.as_bytes()));
    assert_eq!(one.hash(), other.hash(), "{target}");
    assert_eq!(one.hash(), TargetHash::of(expected.as_bytes()), "{target}");
}

#[track_caller]
fn differ(one: &str, other: &str) {
    let of = |target: &str| Target::of(target.as_bytes());
    assert_ne!(normal_form(one.as_bytes()), normal_form(other.as_bytes()));
    assert!(!of(one).is(of(other).hash()), "{one} {other}");
}

#[test]
fn a_path_is_compared_after_decoding() {
    normal("/in/a.bin", "/in/a.bin");
    normal("/%69n/%61%2ebin", "/in/a.bin");
    normal("/in/a%20b.bin", "/in/a%20b.bin");
    normal("/%7Euser/%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A%40", "/~user/!$&'()*+,;=:@");
    // Characters that have to be escaped, and that some clients send all the same.
    normal("/{3F9C}|[1]", "/%7B3F9C%7D%7C%5B1%5D");
    normal("/%7b3F9C%7d%7c%5b1%5d", "/%7B3F9C%7D%7C%5B1%5D");
    normal("/", "/");
    normal("", "");
}

#[test]
fn what_a_server_may_read_in_two_ways_stays() {
    for (escape, upper) in [
        ("%2f", "%2F"),
        ("%5c", "%5C"),
        ("%25", "%25"),
        ("%3f", "%3F"),
        ("%23", "%23"),
        ("%00", "%00"),
        ("%0a", "%0A"),
        ("%1f", "%1F"),
        ("%7f", "%7F"),
        ("%80", "%80"),
        ("%c3%a9", "%C3%A9"),
        ("%ff", "%FF"),
    ] {
        normal(&format!("/a{escape}b"), &format!("/a{upper}b"));
    }
    differ("/a%2Fb", "/a/b");
    differ("/a%5Cb", "/a/b");
    differ("/a%3Fb", "/a?b");
    // An escape of an escape is none.
    differ("/a%2541", "/aA");
    differ("/a%2541", "/a%41");
    normal("/a%252f", "/a%252f");
    // Small letters and capitals are two files on many servers.
    differ("/a", "/A");
}

#[test]
fn dot_segments_and_empty_ones_stay() {
    for target in ["/a/../b", "/a/./b", "/a//b", "/a/", "/a/.."] {
        normal(target, target);
    }
    normal("/a/%2E%2e/b", "/a/../b");
    differ("/a/../b", "/b");
    differ("/a/", "/a");
    differ("/a//b", "/a/b");
}

#[test]
fn of_a_query_hardly_anything_is_evened() {
    normal("/a?", "/a");
    normal("/a?x=%41%7e%2d", "/a?x=A~-");
    normal("/a?x=%c3%a9%2f", "/a?x=%C3%A9%2F");
    // An ampersand in a value is not one between two.
    differ("/a?x=1%26y", "/a?x=1&y");
    differ("/a?x=%7B", "/a?x={");
    differ("/a?x=+", "/a?x=%20");
    differ("/a?%3D", "/a?=");
    normal("/a??", "/a??");
    differ("/a??", "/a?");
    normal("/%61?/b?c", "/a?/b?c");
}

/// The guard lets none pass.
#[test]
fn a_part_with_a_broken_escape_is_compared_byte_for_byte() {
    for part in ["%", "%4", "%zz", "%%41", "%41%", "%4%31", "%+1"] {
        normal(&format!("/{part}"), &format!("/{part}"));
        normal(&format!("/a?{part}"), &format!("/a?{part}"));
    }
    normal("/%41?%", "/A?%");
    normal("/%?%41", "/%?A");
    normal("/a b\\\u{e9}", "/a%20b\\\u{e9}");
}

#[test]
fn a_session_of_an_older_version_is_met_in_the_spelling_of_its_create() {
    let old = TargetHash::of(b"/in/%61.bin");
    assert!(Target::of(b"/in/%61.bin").is(old));
    assert!(!Target::of(b"/in/a.bin").is(old));
    let subject = Subject::new([7; 16]);
    for subject in [None, Some(&subject)] {
        let ended = old.known_to(subject);
        assert!(Target::of(b"/in/%61.bin").was(ended, subject));
        assert!(!Target::of(b"/in/a.bin").was(ended, subject));
        let ended = TargetHash::of(b"/in/a.bin").known_to(subject);
        assert!(Target::of(b"/in/%61.bin").was(ended, subject));
        assert!(!Target::of(b"/in/b.bin").was(ended, subject));
    }
    assert_eq!(on(&Binding::unspelled(old), "/in/%61.bin"), None);
}

fn bind(target: &str) -> Binding {
    Binding::to(Target::of(target.as_bytes()), target.as_bytes())
}

fn on(binding: &Binding, packet: &str) -> Option<String> {
    let onward = binding.onward(Target::of(packet.as_bytes()), packet.as_bytes());
    onward.map(|spelling| spelling.to_string())
}

#[track_caller]
fn onward(create: &str, packet: &str, expected: Option<&str>) {
    let binding = bind(create);
    assert!(Target::of(packet.as_bytes()).is(binding.target));
    assert_eq!(on(&binding, packet).as_deref(), expected);
}

#[test]
fn packets_go_on_in_the_spelling_of_the_create() {
    onward("/a.bin", "/a.bin", None);
    onward("/a.bin", "/%61.bin", Some("/a.bin"));
    onward("/a.bin", "/a.bin?", Some("/a.bin"));
    onward("/a%20b{", "/a%20b{", None);
    onward("/a%20b{", "/a%20b%7B", Some("/a%20b{"));
    onward("/%61.bin?", "/a.bin", Some("/%61.bin?"));
    onward("/%61.bin?", "/%61.bin", Some("/%61.bin?"));
}

#[test]
fn a_spelling_is_kept_where_it_is_not_the_normal_form_and_not_too_long() {
    assert_eq!(bind("/a%20b").spelling, None);
    let odd = bind("/%61");
    assert_eq!(odd.spelling.as_deref(), Some("/%61"));
    assert_eq!(odd.target, TargetHash::of(b"/a"));
    let bare = odd.without_spelling();
    assert_eq!((bare.target, &bare.spelling), (TargetHash::of(b"/%61"), &None));
    assert_eq!(on(&bare, "/%61"), None);
    let long = |length: usize| format!("/%61{}", "x".repeat(length - 4));
    assert!(bind(&long(SPELLING_LIMIT)).spelling.is_some());
    let longer = long(SPELLING_LIMIT + 1);
    let bound = bind(&longer);
    assert_eq!(bound, Binding::unspelled(TargetHash::of(longer.as_bytes())));
    assert!(!Target::of(longer.replace("%61", "a").as_bytes()).is(bound.target));
}
