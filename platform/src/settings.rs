//! Settings: a TOML file, then the environment (`SECRETARIA__ROOM__KEY`); an unknown key is an error, not a typo kept.

use std::path::Path;

use serde::de::DeserializeOwned;

/// The prefix of every variable; rooms and keys follow, joined by two underscores.
pub const ENV_PREFIX: &str = "SECRETARIA";

/// The settings could not be read; nothing has been started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or a variable says something that no setting accepts.
    #[error("settings: {0}")]
    Unreadable(#[from] config::ConfigError),
    /// A value is understood and makes no sense.
    #[error("setting `{key}`: {problem}")]
    Senseless {
        /// The setting, as `room.key`.
        key: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Error {
    /// A value that is understood and makes no sense.
    pub fn senseless(key: &'static str, problem: impl Into<String>) -> Self {
        Error::Senseless { key, problem: problem.into() }
    }
}

/// Reads the settings of the whole program.
///
/// # Errors
/// If the file is missing or malformed, a key is unknown, or a value has the wrong type; the message names the key.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, Error> {
    let mut sources = config::Config::builder();
    if let Some(file) = file {
        sources = sources.add_source(config::File::from(file).format(config::FileFormat::Toml));
    }
    let environment = config::Environment::with_prefix(ENV_PREFIX)
        .prefix_separator("__")
        .separator("__")
        .list_separator(",")
        .with_list_parse_key("delivery.retry_after_s")
        .try_parsing(true);
    Ok(sources.add_source(environment).build()?.try_deserialize()?)
}
