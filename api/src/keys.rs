//! The two key files: `signing.key` (Ed25519, PKCS#8, signs tokens) and `kek.hex` (seals the companies' secrets).
//!
//! Writes a file only if it is missing, completely or not at all; safe to repeat, and safe to run twice at once.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use platform::seal;

/// The file of the key that signs tokens, in the keys' folder.
pub const SIGNING_KEY: &str = "signing.key";
/// The file of the key-encryption key, in the keys' folder.
pub const KEY_ENCRYPTION_KEY: &str = "kek.hex";

/// A key file could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("key file {path} cannot be made or read")]
    File {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("key file {path} must hold an Ed25519 key: PKCS#8 as PEM, base64 or hex")]
    Malformed { path: String },
    #[error("no randomness to make a key from")]
    NoRandomness,
}

/// Creates each of the two key files that is missing, mode 0600, in a folder of mode 0700; returns the paths created.
///
/// A folder that holds both is left exactly as it is: it may be mounted read-only.
///
/// # Errors
/// If the folder or a file cannot be written, or others may write to the folder. No partly written key is ever left under
/// its name.
pub fn create_missing(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut made = Vec::new();
    for (name, fresh) in [(SIGNING_KEY, fresh_signing_key as fn() -> _), (KEY_ENCRYPTION_KEY, fresh_key_encryption_key)]
    {
        let path = dir.join(name);
        let failed = |source| Error::File { path: path.display().to_string(), source };
        if path.try_exists().map_err(failed)? {
            continue;
        }
        create_folder(dir).map_err(failed)?;
        if put(dir, &path, &fresh()?).map_err(failed)? {
            made.push(path);
        }
    }
    Ok(made)
}

/// Reads an Ed25519 key: PKCS#8, version 1 or 2, as PEM, or its bytes in base64 or hex.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub(crate) fn read_signing_key(path: &Path) -> Result<Ed25519KeyPair, Error> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: shown.clone(), source })?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).flat_map(str::split_whitespace).collect();
    // Hex first: hex digits are also base64 digits, while base64 of a PKCS#8 key never consists of hex digits alone.
    let der = hex::decode(&body).ok().or_else(|| STANDARD.decode(&body).ok());
    der.and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok()).ok_or(Error::Malformed { path: shown })
}

fn fresh_signing_key() -> Result<String, Error> {
    let pair = Ed25519KeyPair::generate().map_err(|_| Error::NoRandomness)?;
    let der = pair.to_pkcs8v1().map_err(|_| Error::NoRandomness)?;
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref())))
}

fn fresh_key_encryption_key() -> Result<String, Error> {
    Ok(hex::encode(seal::random_bytes::<32>().map_err(|_| Error::NoRandomness)?) + "\n")
}

/// Creates the folder. An existing one keeps its mode, and is refused if others could replace a key in it.
fn create_folder(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if std::fs::metadata(dir)?.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write to the keys' folder"));
    }
    Ok(())
}

/// Writes a temporary file, then links it: the key appears completely or not at all, and never replaces another one.
/// False if another process was faster.
fn put(dir: &Path, path: &Path, text: &str) -> io::Result<bool> {
    let unique = hex::encode(seal::random_bytes::<8>().map_err(io::Error::other)?);
    let beside = dir.join(format!(".new-{unique}"));
    let written = write_synced(&beside, text).and_then(|()| match std::fs::hard_link(&beside, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false), // Another process was faster.
        Err(error) => Err(error),
    });
    let removed = std::fs::remove_file(&beside);
    let made = written?;
    removed?;
    File::open(dir)?.sync_all()?;
    Ok(made)
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_folder() -> PathBuf {
        let unique = hex::encode(seal::random_bytes::<8>().unwrap());
        std::env::temp_dir().join(format!("secretaria-keys-{unique}")).join("keys")
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_for_their_owner_alone_and_then_kept() {
        let dir = empty_folder();
        assert_eq!(create_missing(&dir).unwrap(), [dir.join(SIGNING_KEY), dir.join(KEY_ENCRYPTION_KEY)]);
        let files = || [SIGNING_KEY, KEY_ENCRYPTION_KEY].map(|name| std::fs::read_to_string(dir.join(name)).unwrap());
        let first = files();
        assert_eq!(
            (mode(&dir), mode(&dir.join(SIGNING_KEY)), mode(&dir.join(KEY_ENCRYPTION_KEY))),
            (0o700, 0o600, 0o600)
        );
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2, "nothing is left beside them");

        assert!(create_missing(&dir).unwrap().is_empty());
        assert_eq!(files(), first);

        std::fs::remove_file(dir.join(KEY_ENCRYPTION_KEY)).unwrap();
        assert_eq!(create_missing(&dir).unwrap(), [dir.join(KEY_ENCRYPTION_KEY)]);
        assert_eq!(files()[0], first[0], "the other one stays");
        assert!(seal::Sealer::from_file(&dir.join(KEY_ENCRYPTION_KEY)).is_ok());
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }

    #[test]
    fn no_key_is_made_where_others_may_replace_it() {
        let dir = empty_folder();
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(create_missing(&dir), Err(Error::File { .. })));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }

    #[test]
    fn many_at_once_agree_on_one_key() {
        let dir = empty_folder();
        let made: usize = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| create_missing(&dir).unwrap().len())).collect();
            runs.into_iter().map(|run| run.join().unwrap()).sum()
        });
        assert_eq!(made, 2);
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_signing_key_is_read_as_pem_base64_or_hex_and_nothing_else() {
        use aws_lc_rs::signature::KeyPair;
        let dir = empty_folder();
        create_missing(&dir).unwrap();
        let path = dir.join(SIGNING_KEY);
        let public = |path: &Path| read_signing_key(path).map(|it| it.public_key().as_ref().to_vec()).ok();
        let expected = public(&path);
        assert!(expected.is_some());

        let pem = std::fs::read_to_string(&path).unwrap();
        let base64 = pem.lines().nth(1).unwrap().to_owned();
        let other = dir.join("other");
        std::fs::write(&other, hex::encode(STANDARD.decode(&base64).unwrap())).unwrap();
        assert_eq!(public(&other), expected);
        std::fs::write(&other, base64).unwrap();
        assert_eq!(public(&other), expected);
        for wrong in ["", "not a key", "00ff"] {
            std::fs::write(&other, wrong).unwrap();
            assert!(matches!(read_signing_key(&other), Err(Error::Malformed { .. })), "{wrong}");
        }
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
}
