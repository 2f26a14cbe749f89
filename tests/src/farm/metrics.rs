//! Reading a Prometheus exposition, as far as tests need it.

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// # Panics
/// On a line that is none of comment, blank or sample.
#[track_caller]
pub fn parse(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| parse_sample(line).unwrap_or_else(|| panic!("bad sample line {line:?}")))
        .collect()
}

/// The sum over all series of `name` that have at least these labels; `None` when there is no such series.
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |sample: &Sample, &(key, value): &(&str, &str)| {
        sample.labels.iter().any(|label| label.0 == key && label.1 == value)
    };
    let matching = samples
        .iter()
        .filter(|sample| sample.name == name && labels.iter().all(|label| has(sample, label)));
    matching.map(|sample| sample.value).reduce(|sum, value| sum + value)
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A timestamp may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// After the opening brace, up to and without the closing one.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        loop {
            match chars.next()? {
                (at, '"') => {
                    rest = &after[at + 1..];
                    break;
                }
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        }
        labels.push((key.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_over_the_labels_not_asked_for() {
        let text = "# HELP x y\nx_total{backend=\"up01\",kind=\"a\"} 2\nx_total{backend=\"up01\",kind=\"b}\\\"\"} 3\n\
            x_total{backend=\"up02\",kind=\"a\"} 4\ny 1.5e3 1700000000\n";
        let samples = parse(text);
        assert_eq!(sum(&samples, "x_total", &[("backend", "up01")]), Some(5.0));
        assert_eq!(sum(&samples, "x_total", &[("kind", "b}\"")]), Some(3.0));
        assert_eq!(sum(&samples, "x_total", &[]), Some(9.0));
        assert_eq!(sum(&samples, "y", &[]), Some(1500.0));
        assert_eq!(sum(&samples, "z", &[]), None);
    }
}
