//! The settings of the whole program: each room's own, nested under the room's name.

use std::path::{Path, PathBuf};

use domain::ProcessorName;
use platform::settings::Error;
use platform::{http, kafka, postgres, relay, telemetry};
use serde::{Deserialize, Serialize};

use crate::processors::{self, with_processors};

macro_rules! define {
    ($($section:ident in $krate:ident),+ $(,)?) => {
        /// Everything that can be set, with defaults that fit the local stack.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Settings {
            /// The listener.
            pub http: http::Config,
            /// The broker.
            pub kafka: kafka::Config,
            /// The database.
            pub postgres: postgres::Config,
            /// Key files.
            pub keys: Keys,
            /// This process.
            pub process: Process,
            /// Logs and metrics.
            pub telemetry: telemetry::Config,
            /// The outbox relay.
            pub outbox: relay::Config,
            /// Webhooks in.
            pub ingest: ingest::Config,
            /// People.
            pub api: api::Config,
            $(
                #[doc = concat!("The processor `", stringify!($section), "`.")]
                pub $section: ::$krate::$section::Config,
            )+
        }

        impl Settings {
            fn validate_processors(&self) -> Result<(), Error> {
                $(self.$section.validate()?;)+
                Ok(())
            }

            /// Checks what is asked for where a processor runs, and nowhere else.
            ///
            /// # Errors
            /// Names the setting.
            pub fn validate_to_run(&self, name: ProcessorName) -> Result<(), Error> {
                match name.as_str() {
                    $(stringify!($section) => self.$section.validate_to_run(),)+
                    _ => Ok(()),
                }
            }

            /// How long calls under way may go on after a stop, in milliseconds.
            pub fn work_drain_ms(&self) -> u64 {
                [$(self.$section.drain_ms()),+].into_iter().max().unwrap_or(0)
            }
        }
    };
}
with_processors!(define);

/// Settings `keys.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The folder of `kek.hex` (opens the companies' secrets) and `signing.key` (signs API tokens).
    pub dir: PathBuf,
}

impl Default for Keys {
    fn default() -> Self {
        Keys { dir: ".local/keys".into() }
    }
}

impl Keys {
    /// The key-encryption key's file.
    pub fn key_encryption_key(&self) -> PathBuf {
        self.dir.join(api::keys::KEY_ENCRYPTION_KEY)
    }

    /// The signing key's file.
    pub fn signing_key(&self) -> PathBuf {
        self.dir.join(api::keys::SIGNING_KEY)
    }
}

/// Settings `process.*`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// This process's name among those that run the same roles: stable over restarts, unlike any other's.
    pub instance: String,
}

impl Default for Process {
    fn default() -> Self {
        Process { instance: "one".into() }
    }
}

impl Settings {
    /// Reads and checks everything, before any port is bound.
    ///
    /// # Errors
    /// Names the setting that is unknown, has the wrong type, or makes no sense.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let settings: Settings = platform::settings::load(file, &lists(), &older_names())?;
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<(), Error> {
        self.http.validate()?;
        self.kafka.validate()?;
        self.postgres.validate()?;
        self.outbox.validate()?;
        self.ingest.validate()?;
        self.validate_processors()?;
        self.api.validate()?;
        let instance = &self.process.instance;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if instance.is_empty() || instance.len() > 100 || !instance.chars().all(plain) {
            let problem = "1 to 100 letters, digits, dots, dashes and underscores";
            return Err(Error::invalid("process.instance", problem));
        }
        Ok(())
    }
}

/// Settings that are lists, so that a variable holds one with commas.
fn lists() -> Vec<&'static str> {
    processors::ALL.iter().flat_map(|it| it.list_settings).copied().collect()
}

/// Variables that people have set since before there were settings, and the setting each of them stands for.
fn older_names() -> Vec<(&'static str, &'static str)> {
    processors::ALL.iter().flat_map(|it| it.older_settings).copied().collect()
}
