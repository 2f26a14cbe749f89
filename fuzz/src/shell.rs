//! Targets of the gateway itself.

use bits_gateway::config::{dump, parse};

/// A configuration that is accepted says the same when it is written out and read again; one that
/// is not is refused with a report that can be shown.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse("fuzz.toml", text, []) {
        Ok(loaded) => {
            let written = dump::to_toml(&loaded);
            let again = parse("again.toml", &written, []);
            let again =
                again.unwrap_or_else(|report| panic!("{}\n{written}", report.render(false)));
            assert_eq!(again.config, loaded.config, "{written}");
        }
        Err(report) => {
            assert!(report.has_errors());
            let _ = (report.render(false), report.to_json());
            assert_eq!(report.lines().len(), report.findings().len());
        }
    }
}
