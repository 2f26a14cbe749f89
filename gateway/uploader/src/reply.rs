//! The reply of an upload-reply job: an ordinary download (MC-BUP 3.4.5).

use std::path::Path;

use http::StatusCode;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::engine::Trouble;
use crate::error::{UploadError, chain};
use crate::verdict;

const CHUNK: usize = 64 << 10;

/// Fetches the reply into `file`, which appears whole or not at all.
pub(super) async fn download(client: &mut Client, url: &str, file: &Path) -> Result<(), Trouble> {
    let refused = |words: String| {
        Trouble::Fatal(UploadError::Refused { host: format!("the reply at {url}"), words })
    };
    // Always at the name of the URL, never at the host id: so Windows does it.
    let from = client.target().join(url).map_err(|error| refused(error.to_string()))?;
    if from.tls != client.target().tls {
        return Err(refused("is not reached in the same way as the upload (http, https)".into()));
    }
    let transient = |why: String| Trouble::Transient { why, retry_after: None };
    let (head, mut body) = client.get(&from).await.map_err(|error| transient(chain(&error)))?;
    match head.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED if client.accept_challenge(&from.host) => {
            return Err(Trouble::Again);
        }
        status if status.is_server_error() => return Err(transient(verdict::words(&head))),
        _ => return Err(refused(verdict::words(&head))),
    }
    let mut partial = file.as_os_str().to_owned();
    partial.push(".part");
    let failed = |error| UploadError::Reply { file: file.to_owned(), error };
    let mut out = File::create(&partial).await.map_err(failed)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let got = body.read_body(&mut chunk).await;
        match got.map_err(|error| transient(format!("the reply broke off: {error}")))? {
            0 => break,
            got => out.write_all(&chunk[..got]).await.map_err(failed)?,
        }
    }
    out.sync_all().await.map_err(failed)?;
    tokio::fs::rename(&partial, file).await.map_err(failed)?;
    Ok(())
}
