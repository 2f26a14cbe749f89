//! One packet and what its answer means for the upload.

use std::time::Duration;

use gateway_core::protocol::{ContentRange, PacketType};
use http::response::Parts;

use super::{Event, SMALLEST_FRAGMENT, Trouble, Upload};
use crate::client::{Packet, SendError};
use crate::connect::is_distrust;
use crate::error::{UploadError, chain};
use crate::exchange::{ExchangeError, Nothing};
use crate::pace::FileSupply;
use crate::verdict::{self, Verdict, judge};

impl Upload {
    /// Sends one packet and lets only an acceptable answer pass.
    pub(super) async fn packet(
        &mut self,
        kind: PacketType,
        range: Option<ContentRange>,
    ) -> Result<Parts, Trouble> {
        let host = self.host();
        let named = matches!(kind, PacketType::Fragment | PacketType::CloseSession);
        let session = self.session.clone();
        let packet = Packet {
            kind,
            // As on the wire, against MC-BUP 2.2.1.2: a Ping carries no session id.
            session: session.as_deref().filter(|_| kind != PacketType::Ping),
            content_name: self.content_name.as_deref().filter(|_| named),
            range,
        };
        self.tell(&Event::Packet);
        let sent = match range {
            Some(range) => {
                self.source.seek(range.first()).await?;
                let mut supply = FileSupply::new(
                    &mut self.source,
                    &mut self.pacer,
                    range.first(),
                    &self.listener,
                );
                self.client.send(&host, &packet, &mut supply).await
            }
            None => self.client.send(&host, &packet, &mut Nothing).await,
        };
        let head = match sent {
            Ok(head) => head,
            Err(error) => return Err(self.send_trouble(error)),
        };
        self.judged(kind, range, head)
    }

    fn send_trouble(&self, error: SendError) -> Trouble {
        match error {
            SendError::Exchange {
                error: ExchangeError::Closed | ExchangeError::Broken(_),
                reused: true,
                ..
            } => Trouble::Again,
            SendError::Exchange { error: ExchangeError::Source(error), .. } => {
                UploadError::from_body(self.source.path(), error).into()
            }
            SendError::Connect { authority, error } if is_distrust(&error) => {
                let words = format!("cannot be trusted: {error}");
                UploadError::Refused { host: authority, words }.into()
            }
            other => Trouble::Transient { why: chain(&other), retry_after: None },
        }
    }

    fn judged(
        &mut self,
        kind: PacketType,
        range: Option<ContentRange>,
        head: Parts,
    ) -> Result<Parts, Trouble> {
        let host = self.host();
        match judge(kind, &head) {
            Verdict::Accepted { .. } | Verdict::Resync { .. } => Ok(head),
            Verdict::Restart => {
                let why = format!("{host} does not know the upload session any more");
                Err(Trouble::Restart { why })
            }
            Verdict::Shrink => {
                let sent = range.map_or(0, |range| range.len()).min(self.fragment_bytes);
                if sent <= SMALLEST_FRAGMENT {
                    return Err(self
                        .fatal("calls even the smallest fragment too large (413)")
                        .into());
                }
                self.fragment_bytes = (sent / 2).max(SMALLEST_FRAGMENT);
                self.tell(&Event::SmallerFragments { bytes: self.fragment_bytes });
                Err(Trouble::Again)
            }
            Verdict::Challenge => {
                if self.client.accept_challenge(&host) {
                    return Err(Trouble::Again);
                }
                let why = if self.client.has_credentials() {
                    "refused the user name or the password (401)"
                } else {
                    "wants a user name and a password; give them with --user (401)"
                };
                Err(self.fatal(why).into())
            }
            Verdict::Transient(words) => {
                let retry_after = verdict::retry_after_s(&head).map(Duration::from_secs);
                Err(Trouble::Transient { why: format!("{host} {words}"), retry_after })
            }
            Verdict::Fatal(words) if head.status == http::StatusCode::UNAUTHORIZED => {
                let offered = verdict::schemes(&head).join(", ");
                let words = format!("{words}; it offers {offered:?}, only Basic is supported here");
                Err(self.fatal(&words).into())
            }
            Verdict::Fatal(words) => Err(self.fatal(&words).into()),
        }
    }

    pub(super) fn fatal(&self, words: &str) -> UploadError {
        UploadError::Refused { host: self.host(), words: words.to_owned() }
    }
}
