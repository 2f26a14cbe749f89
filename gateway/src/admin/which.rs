//! Which sessions are meant by a call.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use gateway_core::session::live::State;

use super::refusal::Refusal;
use super::route::wrong;

/// Which sessions are meant, as [`crate::sessions::listing::Filter`] has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    pub state: Option<State>,
    pub backend: Option<String>,
    pub client: Option<IpAddr>,
    pub path: Option<String>,
    pub idle_for: Option<Duration>,
}

/// For the log: as it was asked for.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, backend, client, path, idle_for } = self;
        f.write_str("state=")?;
        f.write_str(state.map_or("all", State::word))?;
        let backend = backend.as_ref().map(|backend| format!(" backend={backend}"));
        let client = client.map(|client| format!(" client={client}"));
        let path = path.as_ref().map(|path| format!(" path={path}"));
        let idle_for =
            idle_for.map(|span| format!(" idle_for={}", humantime::format_duration(span)));
        [backend, client, path, idle_for]
            .into_iter()
            .flatten()
            .try_for_each(|part| f.write_str(&part))
    }
}

impl Which {
    /// Takes a parameter of a call.
    pub fn take(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        match name {
            "backend" => self.backend = Some(value),
            "path" => self.path = Some(value),
            "client" => match value.parse() {
                Ok(client) => self.client = Some(client),
                Err(_) => return Err(wrong("`client` is an address")),
            },
            "idle_for" => match humantime::parse_duration(&value) {
                Ok(span) => self.idle_for = Some(span),
                Err(_) => return Err(wrong("`idle_for` is a time such as 30d or 5m")),
            },
            "state" => match State::ALL.iter().find(|state| state.word() == value) {
                Some(&state) => self.state = Some(state),
                None if value == "all" => self.state = None,
                None => return Err(wrong("`state` is active, waiting, idle or all")),
            },
            _ => {
                let message = "there are `state`, `backend`, `client`, `path` and `idle_for`, and \
                               for a page `after` and `limit`";
                return Err(Refusal::invalid("unknown_parameter", message));
            }
        }
        Ok(())
    }
}
