//! Who looks at the page, and by what we know.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::form::Fields;
use super::{Answer, shell};
use crate::admin::access::{Entrance, Peer, Role, credentials};
use crate::admin::api::Api;
use crate::admin::refusal::Refusal;
use crate::admin::signed_in::Known;
use crate::base::clock;
use crate::telemetry::metrics::AdminAction;

/// A browser that was let in.
pub struct Visitor {
    pub role: Role,
    /// In each form, and known to this page alone.
    pub number: String,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    Socket,
    Cookie(Known),
    /// A token in each request.
    Token,
}

/// Finds out who it is; `None` where nothing was said.
///
/// # Errors
/// What was said is wrong.
pub fn find(
    api: &Api,
    entrance: &Entrance,
    headers: &HeaderMap,
) -> Result<Option<Visitor>, Refusal> {
    if let Peer::Unix { .. } = entrance.peer {
        return Ok(Some(Visitor::new(api, Role::Operator, By::Socket)));
    }
    if entrance.tls
        && let Some((known, role)) = api.pages().signed_in.find(headers, clock::steady())
    {
        return Ok(Some(Visitor::new(api, role, By::Cookie(known))));
    }
    let basic = credentials(headers, b"Basic ").filter(|_| !entrance.tls).map(password);
    let bearer = || credentials(headers, b"Bearer ").map(<[u8]>::to_vec);
    let Some(secret) = basic.or_else(bearer) else { return Ok(None) };
    let wrong = || Refusal::unauthorized("token_wrong", "this is not the token");
    let role = api.access().role_of(&secret).ok_or_else(wrong)?;
    Ok(Some(Visitor::new(api, role, By::Token)))
}

/// Of `Basic`; any user name will do.
fn password(encoded: &[u8]) -> Vec<u8> {
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    let colon = decoded.iter().position(|&byte| byte == b':');
    colon.map(|at| decoded[at + 1..].trim_ascii().to_vec()).unwrap_or_default()
}

impl Visitor {
    fn new(api: &Api, role: Role, by: By) -> Self {
        let mut digest = Sha256::new_with_prefix(api.pages().secret);
        digest.update(role.word());
        if let By::Cookie(known) = &by {
            digest.update(known);
        }
        let number = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { role, number, by }
    }

    pub fn is_number(&self, number: &str) -> bool {
        self.number.as_bytes().ct_eq(number.as_bytes()).into()
    }

    pub fn can_sign_out(&self) -> bool {
        matches!(self.by, By::Cookie(_))
    }

    /// Whether it may still look, asked again and again.
    pub fn is_let_in(&self, api: &Api) -> impl Fn() -> bool + Send + 'static {
        let (api, by) = (api.clone(), self.by);
        move || match by {
            By::Socket | By::Token => true,
            By::Cookie(known) => api.pages().signed_in.role(&known, clock::steady()).is_some(),
        }
    }

    pub fn sign_out(&self, api: &Api) -> Answer {
        let forget = match &self.by {
            By::Cookie(known) => Some(api.pages().signed_in.end(known)),
            By::Socket | By::Token => None,
        };
        Answer::Onward("/sign-in", forget)
    }
}

/// Nobody is known when a form of this kind comes, so its page is checked before its first byte is read.
pub fn check_origin(api: &Api, entrance: Entrance, parts: &Parts) -> Result<(), Refusal> {
    if parts.headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let refusal = Refusal::foreign("foreign_origin", "a form says where it comes from");
    api.note(entrance.peer, AdminAction::Unknown, None, Err(&refusal));
    Err(refusal)
}

/// The form in which the token is typed. It has no number yet, so it must say where it comes from.
pub fn sign_in(api: &Api, entrance: Entrance, fields: Fields) -> Result<Answer, Refusal> {
    let token = fields.get("token").map(|token| token.trim()).unwrap_or_default();
    let Some(role) = api.access().role_of(token.as_bytes()) else {
        let refusal = Refusal::unauthorized("token_wrong", "this is not the token");
        api.note(entrance.peer, AdminAction::Unknown, None, Err(&refusal));
        let page = shell::sign_in(Some("This is not the token."));
        return Ok(Answer::Page(StatusCode::FORBIDDEN, page));
    };
    tracing::info!(role = role.word(), by = %entrance.peer, "signed in to the page");
    Ok(Answer::Onward("/", Some(api.pages().signed_in.begin(role, clock::steady()))))
}
