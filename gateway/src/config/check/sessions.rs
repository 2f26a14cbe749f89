//! Sessions that several gateways serve.

use gateway_core::routing::UnknownSession;
use gateway_core::session::opening::IdPolicy;

use super::Checked;

use crate::config::draft::Draft;
use crate::config::report::{Finding, Report};

/// A gateway finds what another one opened by asking the backends, by the backend's own id.
pub fn shared_farm(draft: &Draft, report: &mut Report) -> Checked {
    let sessions = draft.once("sessions");
    if !sessions.get::<bool>("shared_farm")? {
        return Ok(());
    }
    let shared = sessions.place_of("shared_farm");
    if sessions.get::<IdPolicy>("id")? == IdPolicy::Minted {
        let message = "`sessions.id = \"minted\"` cannot be shared by several gateways";
        let label = "no backend and no other gateway knows such an id";
        let finding = Finding::error(message).at(sessions.place_of("id"), label);
        let finding = finding.at(shared.clone(), "several gateways serve the farm");
        report.add(finding.help("leave `id` at \"backend\", or `shared_farm` at false".to_owned()));
    }
    if sessions.get::<UnknownSession>("unknown")? != UnknownSession::Ask {
        let message = "a session that another gateway opened is not looked for";
        let label = "a packet finds it only by its host id";
        let finding = Finding::warning(message).at(sessions.place_of("unknown"), label);
        report.add(finding.help("write unknown = \"ask\"".to_owned()));
    }
    if sessions.get::<u32>("limit_per_client")? > 0 {
        let message = "`sessions.limit_per_client` counts sessions that have ended";
        let label = "this gateway is not told of ends at another one";
        let place = sessions.place_of("limit_per_client");
        report.add(Finding::warning(message).at(place, label).at(shared, "others serve the farm"));
    }
    Ok(())
}
