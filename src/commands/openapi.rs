//! `secretaria openapi` — the OpenAPI document of every route.

use super::say;

/// Prints the document.
///
/// # Errors
/// If it cannot be written as JSON, which would be our mistake, or nobody reads it.
pub fn print() -> anyhow::Result<()> {
    say(&crate::openapi::document()?)?;
    Ok(())
}
