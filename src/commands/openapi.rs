//! `secretaria openapi` — the OpenAPI document of every route.

use super::say;

/// Prints the document.
///
/// # Errors
/// If it cannot be written as JSON, which would be a defect, or standard output is closed.
pub fn print() -> anyhow::Result<()> {
    say(&crate::openapi::document()?)?;
    Ok(())
}
