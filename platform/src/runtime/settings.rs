//! Settings: a TOML file, then the environment (`SECRETARIA__SECTION__KEY`); an unknown key is an error.

use std::path::Path;

use config::ConfigError;
use serde::de::DeserializeOwned;

/// The prefix of every variable; sections and keys follow, joined by two underscores.
pub const ENV_PREFIX: &str = "SECRETARIA";

/// The settings could not be read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or a variable cannot be read as settings.
    #[error("settings: {problem}")]
    Unreadable {
        /// What is wrong, in which setting, and where it was set.
        problem: String,
    },
    /// A value can be read but is not allowed.
    #[error("setting `{key}`: {problem}")]
    Invalid {
        /// The setting, as `section.key`.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Error {
    pub fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Invalid { key: key.into(), problem: problem.into() }
    }
}

/// Reads the settings of the whole program. `lists` are the settings that are lists, separated by commas in a variable;
/// `older` are variables of earlier versions, each with the setting that it gives a default.
///
/// # Errors
/// If the file is missing or malformed, a key is unknown, or a value has the wrong type; the message names the key.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    lists: &[&str],
    older: &[(&str, &'static str)],
) -> Result<T, Error> {
    let mut sources = config::Config::builder();
    if let Some(file) = file {
        sources = sources.add_source(config::File::from(file).format(config::FileFormat::Toml));
    }
    let mut environment = config::Environment::with_prefix(ENV_PREFIX)
        .prefix_separator("__")
        .separator("__")
        .list_separator(",")
        .try_parsing(true);
    for key in lists {
        environment = environment.with_list_parse_key(key);
    }
    for (key, value) in set_variables(older) {
        let value = sources.set_default(key, value).map_err(|it| Error::Unreadable { problem: describe(&it) });
        sources = value?;
    }
    let sources = sources.add_source(environment).build();
    sources.and_then(config::Config::try_deserialize).map_err(|it| Error::Unreadable { problem: describe(&it) })
}

#[expect(clippy::disallowed_methods, reason = "this is where settings are read")]
fn set_variables(older: &[(&str, &'static str)]) -> impl Iterator<Item = (&'static str, String)> {
    let value_of = |variable: &str| std::env::var(variable).ok().filter(|it| !it.is_empty());
    older.iter().filter_map(move |(variable, key)| Some((*key, value_of(variable)?)))
}

/// Settings that take one of a few values; the `config` crate does not list them in its error.
const CHOICES: [(&str, &str); 1] = [("telemetry.format", "`json` or `text`")];

/// The problem, with the name of the variable where a variable was at fault.
fn describe(problem: &ConfigError) -> String {
    let (ConfigError::At { key: Some(key), origin, .. } | ConfigError::Type { key: Some(key), origin, .. }) = problem
    else {
        return problem.to_string();
    };
    if let Some((_, choices)) = CHOICES.iter().find(|(it, _)| it == key) {
        return format!("`{key}` must be {choices}");
    }
    match origin.as_deref() {
        Some("the environment") => {
            format!("{problem}, variable {ENV_PREFIX}__{}", key.to_uppercase().replace('.', "__"))
        }
        _ => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(key: &str, origin: Option<&str>) -> String {
        describe(&ConfigError::At {
            error: Box::new(ConfigError::Message("not a number".into())),
            origin: origin.map(str::to_owned),
            key: Some(key.into()),
        })
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let message = wrong("kafka.partitions", Some("the environment"));
        let ending = "for key `kafka.partitions` in the environment, variable SECRETARIA__KAFKA__PARTITIONS";
        assert_eq!(message, format!("not a number {ending}"));
        assert!(!wrong("kafka.partitions", Some("settings.toml")).contains("SECRETARIA__"));
    }

    #[test]
    fn a_setting_with_few_values_names_them() {
        assert_eq!(wrong("telemetry.format", None), "`telemetry.format` must be `json` or `text`");
    }
}
