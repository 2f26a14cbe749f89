//! "Did you mean ...?"

/// The candidate that was probably meant.
///
/// A third of the letters may be wrong, as in rustc: more, and the guess is worse than none.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = plain(word);
    let allowed = word.chars().count().max(3) / 3;
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` or `c`, for messages.
pub fn one_of<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn distance(word: &str, candidate: &str) -> usize {
    // What is split in another place is the same word.
    if word.replace('_', "") == candidate.replace('_', "") {
        return 0;
    }
    // A word cut short or put together another way is near in meaning, though not in letters.
    let part = word.len() >= 4
        && candidate.len() >= 4
        && (candidate.starts_with(word) || word.starts_with(candidate));
    if part { 1 } else { strsim::damerau_levenshtein(word, candidate) }
}

fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace(['-', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Option<&str>) {
        let known = ["fallback_timeout", "host_id", "host_id_domain", "id", "weight"];
        assert_eq!(closest(word, known), expected, "{word}");
    }

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        check("host_iddomain", Some("host_id_domain"));
        check("hostid", Some("host_id"));
        check("fallback_timout", Some("fallback_timeout"));
        check("Fallback-Timeout", Some("fallback_timeout"));
        check("fallback", Some("fallback_timeout"));
        check("host-id", Some("host_id"));
        check("hostid_domain", Some("host_id_domain"));
        check("wieght", Some("weight"));
        check("banana", None);
        check("", None);
    }

    #[test]
    fn words_are_listed_as_in_a_sentence() {
        assert_eq!(one_of(["a"]), "\"a\"");
        assert_eq!(one_of(["a", "b"]), "\"a\" or \"b\"");
        assert_eq!(one_of(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
