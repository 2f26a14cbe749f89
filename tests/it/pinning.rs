//! Sessions and the backends they belong to.
//!
//! Items 44 to 51, 53, 54 and 57 to 59 of the conformance checklist: [`routing`] 44 and 48 to 51, [`ids`] 45 to 47,
//! [`ends`] 53, 54 and 57 to 59. [`twice`] is about packets that come again while they are under way,
//! [`spelling`] about targets that a proxy writes anew.

mod ends;
mod ids;
mod routing;
mod spelling;
mod twice;
