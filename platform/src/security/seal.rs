//! Sealed columns: AES-256-GCM-SIV (RFC 8452) under a key-encryption key that never enters the database.
//!
//! The associated data names table, column, company and key version, so that a sealed value moved to another row, or
//! swapped for an older one of another key, does not open. Layout: key version (u32, big-endian), 12-byte nonce,
//! ciphertext with tag.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use domain::CompanyId;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

const KEY_VERSION: u32 = 1;
const NONCE_LEN: usize = 12;

/// Seals and opens the secrets of companies.
pub struct Sealer {
    key: LessSafeKey,
}

/// The column and company that a secret is stored for: part of what is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct SecretColumn {
    pub table: &'static str,
    pub column: &'static str,
    pub company: CompanyId,
}

/// A secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key file cannot be read.
    #[error("key file {path} cannot be read; `secretaria migrate` makes one")]
    NoKey {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The key file does not hold 64 hex digits.
    #[error("key file {path} must hold 64 hex digits")]
    MalformedKey { path: String },
    /// The value was not sealed with this key, or not for this column and company.
    #[error("sealed value of {table}.{column}, company {company}, does not open: was it sealed with another kek.hex? see `keys.dir`", table = .0.table, column = .0.column, company = .0.company)]
    WrongColumnOrKey(SecretColumn),
    /// The cipher refused the value, which it does only for extreme lengths, or there is no randomness.
    #[error("value cannot be sealed")]
    Refused,
    /// What was opened is not text.
    #[error("sealed value is not text")]
    NotText,
}

impl Sealer {
    /// Reads the key-encryption key, 64 hex digits, from a file.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Error::NoKey { path: shown.clone(), source })?;
        let bytes = hex::decode(text.trim()).map_err(|_| Error::MalformedKey { path: shown.clone() })?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, &bytes).map_err(|_| Error::MalformedKey { path: shown })?;
        Ok(Sealer { key: LessSafeKey::new(key) })
    }

    /// Seals a secret for its column.
    ///
    /// # Errors
    /// If the system has no randomness, or the value is extremely long.
    pub fn seal(&self, column: SecretColumn, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = random_bytes::<NONCE_LEN>()?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(column.aad(KEY_VERSION)),
                &mut sealed,
            )
            .map_err(|_| Error::Refused)?;
        Ok([&KEY_VERSION.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    /// Opens what was sealed for this column.
    ///
    /// # Errors
    /// If it was sealed for another column or company, under another key, or was changed.
    pub fn open(&self, column: SecretColumn, sealed: &[u8]) -> Result<SecretSlice<u8>, Error> {
        let wrong = || Error::WrongColumnOrKey(column);
        let (version, rest) = sealed.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut opened = ciphertext.to_vec();
        let aad = Aad::from(column.aad(u32::from_be_bytes(*version)));
        let plain = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut opened)
            .map_err(|_| Error::WrongColumnOrKey(column))?;
        Ok(SecretSlice::from(plain.to_vec()))
    }

    /// Opens a secret that is text.
    ///
    /// # Errors
    /// As [`Sealer::open`], and if it is not UTF-8.
    pub fn open_text(&self, column: SecretColumn, sealed: &[u8]) -> Result<SecretString, Error> {
        let opened = self.open(column, sealed)?;
        let text = std::str::from_utf8(opened.expose_secret()).map_err(|_| Error::NotText)?;
        Ok(SecretString::from(text))
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl SecretColumn {
    fn aad(&self, key_version: u32) -> Vec<u8> {
        format!("{}.{}/{}/{key_version}", self.table, self.column, self.company).into_bytes()
    }
}

/// Cryptographically random bytes, for secrets and nonces.
///
/// # Errors
/// If the system has no randomness.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::Refused)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SecretColumn =
        SecretColumn { table: "companies", column: "webhook_secret_sealed", company: CompanyId(1) };

    fn sealer(fill: u8) -> Sealer {
        Sealer { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &[fill; 32]).unwrap()) }
    }

    #[test]
    fn a_secret_opens_where_it_was_sealed_and_nowhere_else() {
        let sealed = sealer(1).seal(HERE, b"segredo").unwrap();
        assert_eq!(sealer(1).open_text(HERE, &sealed).unwrap().expose_secret(), "segredo");
        assert!(sealer(2).open(HERE, &sealed).is_err(), "another key");
        assert!(sealer(1).open(SecretColumn { company: CompanyId(2), ..HERE }, &sealed).is_err(), "another company");
        assert!(sealer(1).open(SecretColumn { column: "other", ..HERE }, &sealed).is_err(), "another column");
        let mut older = sealed.clone();
        older[3] = 9;
        assert!(sealer(1).open(HERE, &older).is_err(), "another key version");
        assert!(sealer(1).open(HERE, b"short").is_err());
    }
}
