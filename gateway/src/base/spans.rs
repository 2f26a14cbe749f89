//! Spans of time as people read them.

/// "12s", "5m", "3h 20m", "2d 4h": two units at most, and never more than is of use.
pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let at = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[at];
    let first = format!("{}{name}", seconds / unit);
    match UNITS.get(at + 1) {
        // Seconds beside minutes change before one has read them.
        Some((next, name)) if *next >= 60 && seconds % unit >= *next => {
            format!("{first} {}{name}", seconds % unit / next)
        }
        _ => first,
    }
}
