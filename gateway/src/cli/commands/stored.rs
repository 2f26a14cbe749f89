//! Sessions as they lie on the disk, read without a gateway.
//!
//! In the shapes of the gateway's own answers, so that scripts need not care.

use std::path::Path;

use gateway_core::protocol::SessionId;
use gateway_core::session::Timestamp;
use serde_json::{Value as Json, json};

use super::client::ClientError;
use super::print_error;
use super::sessions::ListArgs;
use crate::base::clock;
use crate::process::exit::Exit;
use crate::sessions::listing::ListCursor;
use crate::sessions::store::{StoredPin, is_missing, read_only};
use crate::sessions::view::{Mark, Pager};
use crate::telemetry::log::rfc3339;

/// What `sessions list` shows.
pub fn page(path: &Path, args: &ListArgs) -> Result<Json, ClientError> {
    let limit = if args.all { usize::MAX - 1 } else { args.limit as usize };
    let after = args.after.map(|after| match after {
        ListCursor::Behind(mark) => Ok(mark),
        ListCursor::Live { .. } | ListCursor::Rest { .. } => Err(ClientError::Failed {
            code: "invalid_parameter",
            message: "that page is one of a gateway that runs".to_owned(),
            exit: Exit::Usage,
        }),
    });
    let mut pager = Pager::new(after.transpose()?, limit);
    let now = clock::now();
    each(path, &mut |id, pin| {
        let wanted = args.which.backend.as_ref();
        if wanted.is_none_or(|name| name.eq_ignore_ascii_case(&pin.backend)) {
            pager.offer(id.key(), || Some(row(id, pin, now)));
        }
    })?;
    let (rows, next) = pager.finish();
    Ok(json!({ "sessions": rows, "next": next.map(|mark| mark.to_string()) }))
}

/// What `sessions show` shows, for an id or a mark.
pub fn one(path: &Path, wanted: &str) -> Result<Json, ClientError> {
    let (mark, now) = (Mark::parse(wanted), clock::now());
    let wanted = SessionId::parse(wanted);
    let mut found = None;
    each(path, &mut |id, pin| {
        let by_mark = mark.is_some_and(|mark| mark == Mark::of(id.key()));
        if by_mark || wanted.as_ref().is_some_and(|wanted| wanted.key() == id.key()) {
            found = Some(row(id, pin, now));
        }
    })?;
    found.ok_or_else(|| ClientError::Failed {
        code: "unknown_session",
        message: format!("no such session is stored in {}", path.display()),
        exit: Exit::Failure,
    })
}

/// The error of a directory without a store, which is mostly a directory that is not meant.
pub fn must_exist(directory: &Path) -> Result<(), ClientError> {
    if !is_missing(directory) {
        return Ok(());
    }
    let directory = directory.display();
    let message = format!("no session store in {directory} (sessions.db not found)");
    Err(ClientError::Failed { code: "store", message, exit: Exit::Io })
}

fn each(path: &Path, visit: &mut dyn FnMut(&SessionId, &StoredPin)) -> Result<(), ClientError> {
    must_exist(path)?;
    let failed = |message: String, exit| ClientError::Failed { code: "store", message, exit };
    let mut reader = read_only(path)
        .map_err(|error| failed(format!("{error}; {}", error.help()), error.exit()))?;
    for pin in &mut reader {
        let pin = pin.map_err(|error| failed(error.to_string(), Exit::Io))?;
        if let Some(id) = SessionId::parse(&pin.id) {
            visit(&id, &pin);
        }
    }
    match reader.damaged() {
        0 => {}
        rows => print_error(&format!("warning: {rows} damaged rows are left out\n")),
    }
    Ok(())
}

/// How far an upload has come is not stored, and when it was last heard of neither.
fn row(id: &SessionId, pin: &StoredPin, now: Timestamp) -> Json {
    let short = |id: &String| SessionId::parse(id).map(|id| id.key().short().to_string());
    json!({
        "ref": Mark::of(id.key()).to_string(),
        "id": id.key().short().to_string(),
        "backend": pin.backend,
        "backend_session": pin.backend_session.as_ref().and_then(short),
        "created": rfc3339(pin.created).to_string(),
        "age_seconds": now.since(pin.created).as_secs(),
        "state": null,
        "seen": null,
        "idle_seconds": null,
        "next_offset": null,
        "bytes_received": null,
        "total": null,
        "path": null,
        "client": null,
        "user_agent": null,
        "bytes_per_second": null,
        "under_way": null,
        "waits_for": null,
        "falls_back": null,
        "expires": null,
    })
}
