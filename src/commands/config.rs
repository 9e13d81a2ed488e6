//! `secretaria config` — the settings in force, in the form of a settings file, secrets redacted.

use super::say;
use crate::Settings;

/// Prints the settings as TOML.
///
/// # Errors
/// If they cannot be written as TOML, which would be a defect, or standard output is closed.
pub fn print(settings: &Settings) -> anyhow::Result<()> {
    say(toml::to_string_pretty(settings)?.trim_end())?;
    Ok(())
}
