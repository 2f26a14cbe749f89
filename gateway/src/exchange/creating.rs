//! A Create-Session on its way from backend to backend.

use gateway_core::farm::Create;
use gateway_core::routing::Refusers;

use crate::farm::health::Asking;

/// How the backends have answered a Create so far.
#[derive(Default)]
pub struct Creating {
    /// What it is; `None` for all other requests.
    pub create: Option<Create>,
    /// How it ends at its backend is to be told.
    pub asking: Option<Asking>,
    pub refusers: Refusers,
    /// A session id has come: no other backend may have it any more.
    pub id_came: bool,
    /// The backend of the next try has been chosen.
    pub chosen: bool,
}

impl Creating {
    pub fn is_chosen(&mut self) -> bool {
        std::mem::take(&mut self.chosen)
    }
}
