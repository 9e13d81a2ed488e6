//! `secretaria config` — the settings in force, as a file that could be used, secrets redacted.

use crate::Settings;

/// Prints the settings as TOML.
///
/// # Errors
/// If they cannot be written as TOML, which would be our mistake.
pub fn print(settings: &Settings) -> anyhow::Result<()> {
    print!("{}", toml::to_string_pretty(settings)?);
    Ok(())
}
