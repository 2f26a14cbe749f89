//! What tells this process from every other one.

use std::sync::OnceLock;

use uuid::Uuid;

/// 32 hexadecimal digits, chosen at random when they are first asked for.
pub fn id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| Uuid::new_v4().simple().to_string())
}
