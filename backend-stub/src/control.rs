//! The control listener: JSON over HTTP, for tests and demonstrations only.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};

use crate::body::Body;
use crate::conn::Conn;
use crate::faults::{Fault, Faults};
use crate::http::{Answer, Head, Segment};
use crate::server::Server;
use crate::transport::Transport;

/// Longest body of a control request, bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

const IDLE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refuse {
    on: bool,
}

/// Serves control requests until the task is aborted.
pub async fn serve(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, Arc::clone(&server)));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn converse(stream: TcpStream, server: Arc<Server>) {
    let _ = stream.set_nodelay(true);
    let mut conn = Conn::new(Transport::Plain(stream));
    while let Ok(raw) = conn.read_head(IDLE).await {
        let Ok(head) = Head::parse(raw) else { break };
        let mut body = Body::new(&mut conn, &head, false);
        let mut bytes = vec![0; MAX_BODY.min(64 * 1024)];
        let mut text = Vec::new();
        loop {
            match body.read(&mut bytes).await {
                Ok(0) => break,
                Ok(got) => text.extend_from_slice(&bytes[..got]),
                Err(_) => return,
            }
            if text.len() > MAX_BODY {
                return;
            }
        }
        let mut answer = answer(&server, &head, &text).await;
        answer.head_only = head.method == "HEAD";
        if conn.write_answer(&answer, None).await.is_err() || head.wants_close() {
            break;
        }
    }
}

async fn answer(server: &Server, head: &Head, body: &[u8]) -> Answer {
    let path = head.target.split('?').next().unwrap_or_default();
    match (head.method.as_str(), path) {
        ("GET" | "HEAD", "/stats") => {
            Answer::json(200, &server.stats.view(server.uploads.sessions.len()))
        }
        ("GET" | "HEAD", "/requests") => Answer::json(200, &server.requests.all()),
        ("DELETE", "/requests") => {
            server.requests.clear();
            Answer::new(204)
        }
        ("GET" | "HEAD", "/faults") => Answer::json(200, &server.faults.all()),
        ("POST", "/faults") => add_fault(&server.faults, body),
        ("DELETE", "/faults") => {
            server.faults.clear();
            Answer::new(204)
        }
        ("POST", "/refuse") => match serde_json::from_slice::<Refuse>(body) {
            Ok(Refuse { on }) => match server.refuse(on).await {
                Ok(()) => Answer::new(204),
                Err(error) => said(500, &error.to_string()),
            },
            Err(error) => said(400, &error.to_string()),
        },
        (_, "/stats" | "/requests" | "/faults" | "/refuse") => Answer::new(405),
        _ => Answer::new(404),
    }
}

fn add_fault(faults: &Faults, body: &[u8]) -> Answer {
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) if !Faults::PACKETS.contains(&fault.packet.as_str()) => {
            said(400, &format!("packet must be one of {:?}", Faults::PACKETS))
        }
        Ok(fault) if fault.times == 0 => said(400, "times must be at least 1"),
        Ok(fault) => {
            faults.add(fault);
            Answer::new(204)
        }
        Err(error) => said(400, &error.to_string()),
    }
}

fn said(status: u16, text: &str) -> Answer {
    let mut answer = Answer::new(status).header("Content-Type", "text/plain; charset=utf-8");
    answer.body.push(Segment::Bytes(format!("{text}\n").into_bytes()));
    answer
}
