//! Tells a server application about a complete upload, MC-BUP 3.4 and protocol 5.1.

use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::fs::{self, File};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::options::NotifyMode;

/// Where the application listens: `http://host[:port]/path[?query]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port as the Host header wants them.
    authority: String,
    /// The same to connect to.
    address: String,
    path: String,
}

/// One upload to tell about.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// The destination URL of the job.
    pub original_url: &'a str,
    pub query: Option<&'a str>,
    pub request_file: &'a Path,
    pub response_file: &'a Path,
}

/// What the application said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// It left a reply in the response file.
    pub has_reply: bool,
    /// A reply somewhere else, never deleted by this server.
    pub static_reply_url: Option<String>,
    pub copy_to_destination: bool,
}

/// Why the application did not take the upload.
#[derive(Debug, Error)]
pub enum NotifyError {
    #[error("unreachable: {0}")]
    Unreachable(#[from] io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("malformed answer")]
    Malformed,
    #[error("answered {0}")]
    Status(u16),
}

const MAX_URL: usize = 2200;
const MAX_ANSWER_HEAD: usize = 64 * 1024;

impl Target {
    pub fn parse(url: &str) -> Option<Self> {
        if url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let rest = url
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
            .map(|_| &url[7..])?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'/' => (&rest[..at], &rest[at..]),
            Some(_) => return None,
            None => (rest, "/"),
        };
        let host = authority.split('@').next_back()?;
        if host.is_empty() || host != authority || host.starts_with(':') {
            return None;
        }
        let after_bracket = host.rfind(']').map_or(0, |at| at + 1);
        let address = match host[after_bracket..].split_once(':') {
            Some((_, port)) => {
                port.parse::<u16>().ok()?;
                host.to_owned()
            }
            None => format!("{host}:80"),
        };
        Some(Self {
            authority: authority.to_owned(),
            address,
            path: path.split('#').next()?.to_owned(),
        })
    }

    /// The path with the job's query string appended.
    fn with_query(&self, query: Option<&str>) -> String {
        match query {
            None => self.path.clone(),
            Some(query) => {
                let joint = if self.path.contains('?') { '&' } else { '?' };
                format!("{}{joint}{query}", self.path)
            }
        }
    }
}

/// Sends the notification and reads the answer. `limit` holds for connecting and sending, and again for the answer.
pub async fn tell(
    target: &Target,
    mode: NotifyMode,
    limit: Duration,
    upload: Upload<'_>,
) -> Result<Told, NotifyError> {
    let sent =
        timeout(limit, send(target, mode, upload)).await.map_err(|_| NotifyError::TimedOut)?;
    let stream = sent?;
    timeout(limit, receive(stream, mode, upload)).await.map_err(|_| NotifyError::TimedOut)?
}

async fn send(target: &Target, mode: NotifyMode, upload: Upload<'_>) -> io::Result<TcpStream> {
    let mut head = format!(
        "POST {} HTTP/1.1\r\nUser-Agent: BITSExts 1.5\r\nHost: {}\r\nBITS-Original-Request-URL: {}\r\n",
        target.with_query(upload.query),
        target.authority,
        upload.original_url
    );
    let mut body = None;
    match mode {
        NotifyMode::ByReference => head.push_str(&format!(
            "BITS-Request-DataFile-Name: {}\r\nBITS-Response-DataFile-Name: {}\r\nContent-Length: 0\r\n",
            upload.request_file.display(),
            upload.response_file.display()
        )),
        NotifyMode::ByValue => {
            let file = File::open(upload.request_file).await?;
            let length = file.metadata().await?.len();
            head.push_str(&format!("Content-Length: {length}\r\n"));
            body = Some(file.take(length));
        }
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut stream = TcpStream::connect(&target.address).await?;
    stream.write_all(head.as_bytes()).await?;
    if let Some(mut body) = body {
        let copied = tokio::io::copy(&mut body, &mut stream).await;
        // An application that has seen enough answers and closes early; its answer is what counts.
        match copied {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    Ok(stream)
}

async fn receive(
    stream: TcpStream,
    mode: NotifyMode,
    upload: Upload<'_>,
) -> Result<Told, NotifyError> {
    let mut stream = BufReader::new(stream);
    let answer = loop {
        let answer = read_answer_head(&mut stream).await?;
        if !(100..200).contains(&answer.status) {
            break answer;
        }
    };
    if !(200..300).contains(&answer.status) {
        return Err(NotifyError::Status(answer.status));
    }
    if mode == NotifyMode::ByValue {
        store_body(&mut stream, &answer, upload.response_file).await?;
    }
    let static_reply_url = answer.first("bits-static-response-url").map(str::to_owned);
    if static_reply_url.as_ref().is_some_and(|url| {
        url.is_empty() || url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic())
    }) {
        return Err(NotifyError::Malformed);
    }
    let length = fs::metadata(upload.response_file).await.map_or(0, |meta| meta.len());
    Ok(Told {
        has_reply: length > 0,
        static_reply_url,
        copy_to_destination: answer.first("bits-copy-file-to-destination").is_some(),
    })
}

struct AnswerHead {
    status: u16,
    headers: Vec<(String, String)>,
}

impl AnswerHead {
    fn first(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

async fn read_answer_head(stream: &mut BufReader<TcpStream>) -> Result<AnswerHead, NotifyError> {
    let mut raw = Vec::new();
    while !raw.ends_with(b"\r\n\r\n") && !raw.ends_with(b"\n\n") {
        let before = raw.len();
        let room = (MAX_ANSWER_HEAD - before) as u64;
        (&mut *stream).take(room).read_until(b'\n', &mut raw).await?;
        if raw.len() == before {
            return Err(NotifyError::Malformed);
        }
    }
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut slots);
    match response.parse(&raw) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(NotifyError::Malformed),
    }
    Ok(AnswerHead {
        status: response.code.ok_or(NotifyError::Malformed)?,
        headers: response
            .headers
            .iter()
            .map(|h| {
                let value = String::from_utf8_lossy(h.value);
                (h.name.to_owned(), value.trim().to_owned())
            })
            .collect(),
    })
}

async fn store_body(
    stream: &mut BufReader<TcpStream>,
    answer: &AnswerHead,
    path: &Path,
) -> Result<(), NotifyError> {
    let mut file = File::create(path).await?;
    let chunked = answer
        .first("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    if chunked {
        loop {
            let size = read_line(stream).await?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| NotifyError::Malformed)?;
            if size == 0 {
                break;
            }
            copy_exactly(stream, &mut file, size).await?;
            if !read_line(stream).await?.is_empty() {
                return Err(NotifyError::Malformed);
            }
        }
    } else if let Some(length) = answer.first("content-length") {
        let length = length.parse().map_err(|_| NotifyError::Malformed)?;
        copy_exactly(stream, &mut file, length).await?;
    } else if answer.status != 204 {
        tokio::io::copy(stream, &mut file).await?;
    }
    file.flush().await?;
    Ok(())
}

async fn copy_exactly(
    stream: &mut BufReader<TcpStream>,
    file: &mut File,
    length: u64,
) -> Result<(), NotifyError> {
    let copied = tokio::io::copy(&mut stream.take(length), file).await?;
    if copied == length { Ok(()) } else { Err(NotifyError::Malformed) }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Result<String, NotifyError> {
    let mut line = Vec::new();
    stream.take(4096).read_until(b'\n', &mut line).await?;
    let text = String::from_utf8(line).map_err(|_| NotifyError::Malformed)?;
    match text.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(NotifyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_plain_http_with_a_host() {
        let target = Target::parse("http://app:8080/hook?x=1").unwrap();
        assert_eq!(target.address, "app:8080");
        assert_eq!(target.path, "/hook?x=1");
        assert_eq!(Target::parse("http://app").unwrap().address, "app:80");
        assert_eq!(Target::parse("http://[::1]/x").unwrap().address, "[::1]:80");
        for bad in [
            "https://app/x",
            "http://",
            "http:///x",
            "http://u@app/x",
            "http://app:99999/x",
            "http://app/ x",
            "/x",
        ] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
        let long = format!("http://app/{}", "x".repeat(2200));
        assert_eq!(Target::parse(&long), None);
    }

    #[test]
    fn the_query_of_the_job_is_appended() {
        let query = |url| Target::parse(url).unwrap().with_query(Some("site=7"));
        assert_eq!(query("http://app/hook"), "/hook?site=7");
        assert_eq!(query("http://app/hook?a=b"), "/hook?a=b&site=7");
        let target = Target::parse("http://app/hook").unwrap();
        assert_eq!(target.with_query(None), "/hook");
    }
}
