//! Tests for rows of the threat model that no other module proves; `docs/threat-model.md` names them all.

mod bound;
mod ids;
mod logs;
mod memory;
mod panics;
mod paths;
mod placement;
mod separation;
mod series;
