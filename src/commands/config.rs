//! `secretaria config` — the settings in force, as a file that could be used, secrets redacted.

use super::say;
use crate::Settings;

/// Prints the settings as TOML.
///
/// # Errors
/// If they cannot be written as TOML, which would be our mistake, or nobody reads them.
pub fn print(settings: &Settings) -> anyhow::Result<()> {
    say(toml::to_string_pretty(settings)?.trim_end())?;
    Ok(())
}
