//! Asks the gateway once a second, and tells it what somebody wants changed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::base::clock;
use crate::cli::commands::client::{Client, ClientError, segment};

/// Uploads that are looked at, those that move first.
pub const LIMIT: usize = 500;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// For each answer to a look. What hangs is said soon; a change is waited for longer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Which uploads, as parameters of a call.
    pub which: Vec<(&'static str, String)>,
    /// An upload that is shown by itself.
    pub upload: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Look(Wish),
    /// Set a backend to `ready` or `drain`.
    Set {
        backend: String,
        state: &'static str,
    },
}

/// What the gateway says of itself at one time.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub status: Json,
    pub backends: Vec<Json>,
    pub uploads: Vec<Json>,
    /// Uploads that are meant, shown or not.
    pub matching: u64,
    /// The upload that was asked for by itself, if it is still there.
    pub upload: Option<Json>,
}

#[derive(Debug)]
pub enum News {
    Seen(Result<Box<Seen>, ClientError>),
    /// What came of [`Order::Set`].
    Set(Result<Json, ClientError>),
}

pub fn look(client: &Client, wish: &Wish) -> Result<Seen, ClientError> {
    let mut status = client.get("status")?;
    let mut backends = client.get("backends")?;
    let which = wish.which.iter().map(|(name, value)| format!("&{name}={}", segment(value)));
    let mut page =
        client.get(&format!("sessions?limit={LIMIT}&more=no{}", which.collect::<String>()))?;
    let upload = match &wish.upload {
        None => None,
        Some(name) => match client.get(&format!("sessions/{}", segment(name))) {
            Ok(upload) => Some(upload),
            Err(ClientError::Refused { status: 404, .. }) => None,
            Err(error) => return Err(error),
        },
    };
    Ok(Seen {
        status: status.take(),
        backends: rows(backends["backends"].take()),
        matching: page["matching"].as_u64().unwrap_or_default(),
        uploads: rows(page["sessions"].take()),
        upload,
    })
}

impl Seen {
    pub fn to_json(&self) -> Json {
        let Self { status, backends, uploads, matching, .. } = self;
        json!({
            "status": status, "backends": backends, "sessions": uploads, "matching": matching,
        })
    }
}

fn rows(rows: Json) -> Vec<Json> {
    match rows {
        Json::Array(rows) => rows,
        _ => Vec::new(),
    }
}

/// Goes on until nobody gives orders any more.
pub fn watch(client: &Client, orders: &Receiver<Order>, mut tell: impl FnMut(News)) {
    let mut wish = Wish::default();
    let mut due = clock::steady();
    loop {
        match orders.recv_timeout(due.saturating_sub(clock::steady())) {
            Ok(Order::Look(other)) => {
                wish = other;
                due = clock::steady();
            }
            Ok(Order::Set { backend, state }) => {
                let path = format!("backends/{}/{state}", segment(&backend));
                tell(News::Set(client.post(&path)));
                due = clock::steady();
            }
            Err(RecvTimeoutError::Timeout) => {
                tell(News::Seen(look(client, &wish).map(Box::new)));
                due = clock::steady() + EVERY;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
