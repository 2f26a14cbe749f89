//! Items 87, 88 and 91 to 100 of the conformance checklist: [`statuses`] 87 and 88, [`authentication`] 91 and 100,
//! [`downloads`] 92 to 94, [`privacy`] 95 and 97, [`overriding`] 96, [`connections`] 98 and 99.

mod authentication;
mod connections;
mod delivered;
mod downloads;
mod forwarded;
mod forwarded_host;
mod loops;
mod overriding;
mod privacy;
mod refusals;
mod reports;
mod request_ids;
mod statuses;
