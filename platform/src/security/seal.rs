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

/// The place a secret lives: part of what is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Place {
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
    /// The value was not sealed here, under this key, for this place.
    #[error("sealed value of {table}.{column}, company {company}, does not open: was it sealed with another kek.hex? see `keys.dir`", table = .0.table, column = .0.column, company = .0.company)]
    WrongPlaceOrKey(Place),
    /// The cipher refused; it does so only for absurd lengths.
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

    /// Seals a secret for its place.
    ///
    /// # Errors
    /// If the system has no randomness, or the value is absurdly long.
    pub fn seal(&self, place: Place, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = random_bytes::<NONCE_LEN>()?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.aad(KEY_VERSION)),
                &mut sealed,
            )
            .map_err(|_| Error::Refused)?;
        Ok([&KEY_VERSION.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// If it was sealed elsewhere, under another key, or was changed.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<SecretSlice<u8>, Error> {
        let wrong = || Error::WrongPlaceOrKey(place);
        let (version, rest) = sealed.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut opened = ciphertext.to_vec();
        let aad = Aad::from(place.aad(u32::from_be_bytes(*version)));
        let plain = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut opened)
            .map_err(|_| Error::WrongPlaceOrKey(place))?;
        Ok(SecretSlice::from(plain.to_vec()))
    }

    /// Opens a secret that is text.
    ///
    /// # Errors
    /// As [`Sealer::open`], and if it is not UTF-8.
    pub fn open_text(&self, place: Place, sealed: &[u8]) -> Result<SecretString, Error> {
        let opened = self.open(place, sealed)?;
        let text = std::str::from_utf8(opened.expose_secret()).map_err(|_| Error::NotText)?;
        Ok(SecretString::from(text))
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Place {
    fn aad(&self, key_version: u32) -> Vec<u8> {
        format!("{}.{}/{}/{key_version}", self.table, self.column, self.company).into_bytes()
    }
}

/// Bytes nobody can guess: secrets, nonces.
///
/// # Errors
/// If the system has no randomness to give.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::Refused)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place { table: "companies", column: "webhook_secret_sealed", company: CompanyId(1) };

    fn sealer(fill: u8) -> Sealer {
        Sealer { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &[fill; 32]).unwrap()) }
    }

    #[test]
    fn a_secret_opens_where_it_was_sealed_and_nowhere_else() {
        let sealed = sealer(1).seal(HERE, b"segredo").unwrap();
        assert_eq!(sealer(1).open_text(HERE, &sealed).unwrap().expose_secret(), "segredo");
        assert!(sealer(2).open(HERE, &sealed).is_err(), "another key");
        assert!(sealer(1).open(Place { company: CompanyId(2), ..HERE }, &sealed).is_err(), "another company");
        assert!(sealer(1).open(Place { column: "other", ..HERE }, &sealed).is_err(), "another column");
        let mut older = sealed.clone();
        older[3] = 9;
        assert!(sealer(1).open(HERE, &older).is_err(), "another key version");
        assert!(sealer(1).open(HERE, b"short").is_err());
    }
}
