//! A setting that is never printed.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// Text that prints as `[redacted]`, or as nothing when it is empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct SecretText(SecretString);

impl SecretText {
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// The secret, for callers that store it as a [`SecretString`].
    pub fn secret(&self) -> SecretString {
        self.0.clone()
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(if self.is_empty() { "" } else { "[redacted]" })
    }
}

impl<T: Into<String>> From<T> for SecretText {
    fn from(text: T) -> Self {
        SecretText(SecretString::from(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_setting_is_never_printed() {
        let secret = SecretText::from("segredo");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
        assert!(!format!("{secret:?}").contains("segredo"));
        assert_eq!(serde_json::to_string(&SecretText::default()).unwrap(), "\"\"");
    }
}
