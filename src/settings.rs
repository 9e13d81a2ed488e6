//! The settings of the whole program: a section for each crate or module that has settings.

use std::path::{Path, PathBuf};

use domain::ProcessorName;
use platform::settings::Error;
use platform::{http, kafka, object_store, postgres, relay, telemetry};
use serde::{Deserialize, Serialize};

use crate::processors::{self, with_processors};

macro_rules! define {
    ($($section:ident in $krate:ident),+ $(,)?) => {
        /// Everything that can be set, with defaults that fit the local stack.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Settings {
            /// The HTTP listener.
            pub http: http::Config,
            pub kafka: kafka::Config,
            pub postgres: postgres::Config,
            pub object_store: object_store::Config,
            pub keys: Keys,
            pub process: Process,
            /// Logs and metrics.
            pub telemetry: telemetry::Config,
            pub outbox: relay::Config,
            /// Inbound webhooks.
            pub ingest: ingest::Config,
            /// The HTTP API.
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

            /// Checks settings that are required only where that processor runs.
            ///
            /// # Errors
            /// Names the setting.
            pub fn validate_to_run(&self, name: ProcessorName) -> Result<(), Error> {
                match name.as_str() {
                    $(stringify!($section) => self.$section.validate_to_run(),)+
                    _ => Ok(()),
                }
            }

            /// How long running calls may continue after a stop, in milliseconds.
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
    /// This process's name, unique among those that run the same roles, and the same after a restart.
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
    /// Names the setting that is unknown, has the wrong type, or is invalid.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let settings: Settings = platform::settings::load(file, &lists(), &older_names())?;
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<(), Error> {
        self.http.validate()?;
        self.kafka.validate()?;
        self.postgres.validate()?;
        self.object_store.validate()?;
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

/// Settings that are lists: an environment variable holds one separated by commas.
fn lists() -> Vec<&'static str> {
    processors::ALL.iter().flat_map(|it| it.list_settings).copied().collect()
}

/// Environment variables from before there were settings, and the setting that each stands for.
fn older_names() -> Vec<(&'static str, &'static str)> {
    processors::ALL.iter().flat_map(|it| it.older_settings).copied().collect()
}
