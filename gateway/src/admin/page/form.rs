//! What a browser sends: forms, and the fields behind a question mark.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use tokio::time::timeout;

use crate::admin::refusal::Refusal;

/// A token has 4096 characters at most.
const MOST: usize = 16 * 1024;

pub type Fields = HashMap<String, String>;

/// A form is a packet or two, and whoever sends it holds a place of all pages.
const LONGEST: Duration = Duration::from_secs(5);

/// Reads the body of a form.
pub async fn read(body: Incoming) -> Result<Fields, Refusal> {
    let late = |_| Refusal::invalid("broken_form", "the form did not come in time");
    timeout(LONGEST, read_all(body)).await.map_err(late)?
}

async fn read_all(mut body: Incoming) -> Result<Fields, Refusal> {
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let broken = |_| Refusal::invalid("broken_form", "the form did not come in full");
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() > MOST {
            return Err(Refusal::invalid("form_too_long", "this is no form of this page"));
        }
    }
    Ok(fields(&text))
}

fn fields(text: &[u8]) -> Fields {
    let plain = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
        percent_decode(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split(|&byte| byte == b'&').filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        Some((plain(&pair[..at]), plain(&pair[at + 1..])))
    });
    pairs.collect()
}

/// A query as the API takes it: a form of a browser sends empty fields, and `+` for a space.
pub fn query(text: &str) -> String {
    let pairs = text.split('&').filter(|pair| !pair.ends_with('=') && !pair.is_empty());
    pairs.collect::<Vec<_>>().join("&").replace('+', "%20")
}

/// A value of a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A part of a path.
pub fn decode(segment: &str) -> Result<String, Refusal> {
    let text = percent_decode(segment.as_bytes()).decode_utf8();
    let wrong = |_| Refusal::invalid("invalid_path", "a part of the path is no UTF-8");
    text.map(Into::into).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let read = fields(b"token=a%2Bb+c&empty=&number=7");
        let pair = |name: &str| read.get(name).map(String::as_str);
        assert_eq!(pair("token"), Some("a+b c"));
        assert_eq!(pair("empty"), Some(""));
        assert_eq!(pair("number"), Some("7"));
        assert_eq!(fields(b"").len(), 0);
    }

    #[test]
    fn empty_fields_of_a_query_mean_nothing() {
        assert_eq!(query("client=&path=a+b&backend="), "path=a%20b");
        assert_eq!(query(""), "");
    }
}
