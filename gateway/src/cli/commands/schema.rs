//! `bits-gateway schema`.

use super::{print, to_text};
use crate::cli::SchemaFormat;
use crate::config::{example, markdown, schema};
use crate::process::exit::Exit;

/// Prints what a configuration may hold.
pub fn schema(format: SchemaFormat) -> Exit {
    print(&match format {
        SchemaFormat::Json => to_text(&schema::schema()),
        SchemaFormat::Markdown => markdown::markdown(&schema::schema()),
        SchemaFormat::Example => example::example(),
    })
}
