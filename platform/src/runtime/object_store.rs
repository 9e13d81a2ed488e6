//! Where files are kept: settings `object_store.*`. The crates that use it open it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::settings;

/// An object store, by its URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A folder, absolute or relative to the working directory, also as `file:///…`.
    pub url: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { url: ".local/lake".into() }
    }
}

impl Config {
    /// Checks what can be checked without opening it.
    ///
    /// # Errors
    /// Says what is wrong with `object_store.url`.
    pub fn validate(&self) -> Result<(), settings::Error> {
        let problem = match self.url.split_once("://") {
            _ if self.url.trim().is_empty() => "must name a folder".to_owned(),
            Some(("file", path)) if path.starts_with('/') => return Ok(()),
            Some(("file", _)) => "must be an absolute path after file://".to_owned(),
            Some((scheme, _)) => format!("must be a folder: this build does not open {scheme}://"),
            None => return Ok(()),
        };
        Err(settings::Error::invalid("object_store.url", problem))
    }

    /// The folder that it names.
    pub fn folder(&self) -> &Path {
        Path::new(self.url.strip_prefix("file://").unwrap_or(&self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> Option<String> {
        Config { url: url.into() }.validate().err().map(|it| it.to_string())
    }

    #[test]
    fn a_folder_is_named_by_its_path_or_its_url() {
        assert_eq!(problem(".local/lake"), None);
        assert_eq!(problem("file:///var/lib/lake"), None);
        assert_eq!(Config { url: "file:///var/lib/lake".into() }.folder(), Path::new("/var/lib/lake"));
        assert_eq!(problem(" ").unwrap(), "setting `object_store.url`: must name a folder");
        assert!(problem("file://lake").unwrap().contains("absolute"));
        assert!(problem("s3://bucket/lake").unwrap().contains("does not open s3://"));
    }
}
