//! Requests of the gateway's own to a backend, in the name of a client's request.

use std::time::Duration;

use bytes::Bytes;
use gateway_core::farm::BackendId;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::host::Host;
use gateway_core::protocol::{Field, Fields, cdn_loop, headers, login, read_ack};
use gateway_core::routing::recovery::{Question, elsewhere};
use gateway_core::session::fnv1a;
use http::{HeaderName, HeaderValue, StatusCode, response};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};
use uuid::Uuid;

use crate::base::build_info::VERSION;
use crate::base::deadline::within;
use crate::farm::Farm;
use crate::telemetry::metrics::OrphanResult;
use crate::tls::{self, is_backends_fault};

/// By these a server knows who sends a request, and by the last one that it is a packet.
static TAKEN_OVER: [&Field; 3] =
    [&headers::AUTHORIZATION, &headers::COOKIE, &headers::METHOD_OVERRIDE];

/// Interim answers before the real one: more than a server has reason to send.
const INTERIM: usize = 8;

/// What is taken over of the client's request.
#[derive(Debug, Clone)]
pub struct BackendRequest {
    method: http::Method,
    target: Vec<u8>,
    host: HeaderValue,
    session: HeaderValue,
    /// Who asks, and how a packet is told from another request.
    fields: Vec<(&'static Field, HeaderValue)>,
    /// What is said of the client.
    client: Vec<(HeaderName, HeaderValue)>,
}

/// What the backend is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Take one byte that it cannot take.
    Answer(Question),
    Cancel,
    /// Tell of the file at the destination.
    Look,
}

/// No answer came in time, or none that is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered {
    /// The backend could not be reached, for a reason that lies with it.
    pub by_backend: bool,
}

impl BackendRequest {
    /// The `client` fields say in whose name it is made. `None` if the request has no Host.
    pub fn of(
        request: &RequestHead,
        session: HeaderValue,
        client: Vec<(HeaderName, HeaderValue)>,
    ) -> Option<Self> {
        let fields = TAKEN_OVER.iter().flat_map(|field| {
            let values = request.values(field).filter(|value| !login::binds(value));
            let values = values.filter_map(|value| HeaderValue::from_bytes(value).ok());
            values.map(|value| (*field, value))
        });
        Some(Self {
            method: http::Method::from_bytes(request.method()).ok()?,
            target: request.target().to_vec(),
            host: request.value(&headers::HOST)?,
            session,
            fields: fields.collect(),
            client,
        })
    }

    /// The same for a session that its backend knows in another spelling of the target.
    pub fn spelled(self, spelling: Option<&str>) -> Self {
        match spelling {
            Some(spelling) => Self { target: spelling.into(), ..self },
            None => self,
        }
    }

    /// The same under a path that nobody uses.
    pub fn elsewhere(&self) -> Self {
        let name = Uuid::new_v4().simple().to_string();
        Self { target: elsewhere(&self.target, &name), ..self.clone() }
    }

    /// To cancel a session in nobody's name, under the target that it was opened for. `None` if the
    /// backend has no name.
    pub fn to_cancel(
        target: Vec<u8>,
        session: HeaderValue,
        farm: &Farm,
        backend: BackendId,
    ) -> Option<Self> {
        let method = http::Method::from_bytes(b"BITS_POST").ok()?;
        let host = farm.default_host(backend)?.clone();
        let (fields, client) = (Vec::new(), Vec::new());
        Some(Self { method, target, host, session, fields, client })
    }

    /// Tells logins apart: what one client may know is not for another.
    pub fn credentials(&self) -> u64 {
        let hashes = self.fields.iter().map(|(_, value)| fnv1a(value.as_bytes()));
        hashes.fold(0, |all, one| all.rotate_left(1) ^ one)
    }

    fn head(&self, task: Task, farm: &Farm, backend: BackendId) -> pingora::Result<RequestHeader> {
        let looks = task == Task::Look;
        let method = if looks { http::Method::HEAD } else { self.method.clone() };
        let mut request = RequestHeader::build(method, &self.target, Some(12))?;
        request.insert_header("Host", &self.host)?;
        let host = self.host.to_str().ok().and_then(Host::parse);
        let host = host.and_then(|host| farm.upstream_host(backend, &host)).cloned();
        if let Some(host) = host {
            request.insert_header("Host", host)?;
        }
        request.insert_header("User-Agent", agent())?;
        if let Some(entry) = farm.loop_entry(backend) {
            request.insert_header(cdn_loop::CDN_LOOP, entry)?;
        }
        for (field, value) in
            self.fields.iter().filter(|(field, _)| !looks || *field != &headers::METHOD_OVERRIDE)
        {
            request.append_header(&field.name, value)?;
        }
        for (name, value) in &self.client {
            request.insert_header(name, value)?;
        }
        request.insert_header("Connection", "close")?;
        let (kind, length) = match task {
            Task::Answer(_) => ("Fragment", "1"),
            Task::Cancel => ("Cancel-Session", "0"),
            Task::Look => {
                // The size and the age are to be those of the file itself, as they are now.
                request.insert_header("Accept-Encoding", "identity")?;
                request.insert_header("Cache-Control", "no-cache")?;
                return Ok(request);
            }
        };
        request.insert_header(headers::SESSION_ID.wire, &self.session)?;
        request.insert_header(headers::PACKET_TYPE.wire, kind)?;
        if let Task::Answer(question) = task {
            let range = question.range();
            let last = range.first() + range.len() - 1;
            let range = format!("bytes {}-{last}/{}", range.first(), range.total());
            request.insert_header(headers::CONTENT_RANGE.wire, range)?;
            if !question.sends_its_byte() {
                request.insert_header("Expect", "100-continue")?;
            }
        }
        request.insert_header(headers::CONTENT_LENGTH.wire, length)?;
        Ok(request)
    }
}

fn agent() -> String {
    format!("bits-gateway/{VERSION}")
}

/// Sends such requests. Each goes over a connection of its own, which is closed after it: an
/// answer that was given up must not be read as that to another request, and a login on it not
/// serve another client.
pub struct BackendClient {
    connector: Connector<tls::Connector>,
    timeout: Duration,
    #[cfg(test)]
    script: Option<Script>,
}

/// Answers in place of the servers.
#[cfg(test)]
type Script = Box<dyn Fn(BackendId, Task) -> Result<response::Parts, Unanswered> + Send + Sync>;

impl BackendClient {
    pub fn new(timeout: Duration) -> Self {
        Self {
            connector: Connector::new_custom(None, tls::Connector(None)),
            timeout,
            #[cfg(test)]
            script: None,
        }
    }

    /// One that asks nobody: this says what the servers answer.
    #[cfg(test)]
    pub fn scripted(
        script: impl Fn(BackendId, Task) -> Result<response::Parts, Unanswered> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Some(Box::new(script)), ..Self::new(Duration::ZERO) }
    }

    /// Cancels the session of a request; one that is not there counts as cancelled.
    pub async fn cancel(
        &self,
        request: &BackendRequest,
        farm: &Farm,
        backend: BackendId,
    ) -> OrphanResult {
        let Ok(answer) = self.send(request, Task::Cancel, farm, backend).await else {
            return OrphanResult::Failed;
        };
        let ack = read_ack(answer.status, &answer.headers);
        let gone = ack.is_success() || ack.is_session_not_found();
        if gone { OrphanResult::Cancelled } else { OrphanResult::Refused }
    }

    /// The head of the backend's answer; that of a `100 Continue` where a question waits for one.
    ///
    /// # Errors
    /// No answer in time, or none that is one.
    pub async fn send(
        &self,
        request: &BackendRequest,
        task: Task,
        farm: &Farm,
        backend: BackendId,
    ) -> Result<response::Parts, Unanswered> {
        #[cfg(test)]
        if let Some(script) = &self.script {
            return script(backend, task);
        }
        let sent = self.exchange(request, task, farm, backend);
        match within(self.timeout, sent).await {
            Ok(Ok(answer)) => Ok(answer.as_owned_parts()),
            Ok(Err(error)) => Err(Unanswered { by_backend: is_backends_fault(&error) }),
            Err(_) => Err(Unanswered { by_backend: false }),
        }
    }

    async fn exchange(
        &self,
        request: &BackendRequest,
        task: Task,
        farm: &Farm,
        backend: BackendId,
    ) -> pingora::Result<ResponseHeader> {
        let request = request.head(task, farm, backend)?;
        let peer = farm.peer(backend).ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let (mut connection, _) = self.connector.get_http_session(peer).await?;
        // All of it has that time, see `send`.
        connection.set_read_timeout(None);
        connection.set_write_timeout(Some(self.timeout));
        connection.write_request_header(Box::new(request)).await?;
        let unsent = matches!(task, Task::Answer(question) if !question.sends_its_byte());
        if !unsent {
            if matches!(task, Task::Answer(_)) {
                connection.write_request_body(Bytes::from_static(&[0]), true).await?;
            }
            connection.finish_request_body().await?;
        }
        for _ in 0..INTERIM {
            connection.read_response_header().await?;
            match connection.response_header() {
                Some(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => break,
                Some(answer) if unsent && answer.status == StatusCode::CONTINUE => {
                    return Ok(answer.clone());
                }
                Some(answer) if answer.status.is_informational() => {}
                Some(answer) => return Ok(answer.clone()),
                None => break,
            }
        }
        Err(Error::new(ErrorType::InvalidHTTPHeader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_head(fields: &[(&str, &str)]) -> RequestHead {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        RequestHead::of(b"BITS_POST", b"/in/a.bin?x=%20", fields).unwrap()
    }

    fn request(fields: &[(&'static str, &'static str)]) -> BackendRequest {
        let id = HeaderValue::from_static("{x}");
        BackendRequest::of(&client_head(fields), id, Vec::new()).unwrap()
    }

    #[test]
    fn logins_go_with_an_errand_unless_they_belong_to_a_connection() {
        let host = ("Host", "up.test");
        let basic = request(&[host, ("Authorization", "Basic eDp5"), ("Cookie", "a=b")]);
        assert_eq!(basic.fields.len(), 2);
        for bound in ["NTLM TlRMTVNTUAAB", "negotiate YII", "Negotiate"] {
            assert!(request(&[host, ("Authorization", bound)]).fields.is_empty(), "{bound}");
        }
        assert_ne!(basic.credentials(), request(&[host]).credentials());
        let other = request(&[host, ("Authorization", "Basic eDp6"), ("Cookie", "a=b")]);
        assert_ne!(basic.credentials(), other.credentials());
        assert_eq!(basic.credentials(), basic.clone().credentials());
        assert!(
            BackendRequest::of(&client_head(&[]), HeaderValue::from_static("{x}"), Vec::new())
                .is_none()
        );
    }
}
