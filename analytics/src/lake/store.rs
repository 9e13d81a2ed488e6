//! The object store of the lake.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use platform::object_store::Config;
use sha2::{Digest, Sha256};

use super::Error;

/// An opened store.
#[derive(Debug, Clone)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
}

/// A file in the store, whether or not the manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub path: String,
    pub bytes: u64,
    pub modified_at: Timestamp,
}

impl Lake {
    /// Opens the store; a folder is made if it is missing.
    ///
    /// # Errors
    /// If the folder cannot be made or opened.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let folder = config.folder();
        std::fs::create_dir_all(folder).map_err(|it| Error::Folder(format!("{}: {it}", folder.display())))?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true);
        Ok(Lake { store: Arc::new(store), folder: folder.to_owned() })
    }

    /// The name under which queries find the store.
    pub fn object_store_url() -> Result<ObjectStoreUrl, Error> {
        Ok(ObjectStoreUrl::parse("lake://events")?)
    }

    /// The store itself, for the query engine.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Writes a file as a whole, to the disk; one of that name is replaced.
    ///
    /// # Errors
    /// If the store is away, full, or refuses.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), Error> {
        self.store.put(&Path::from(path), bytes.into()).await?;
        let file = self.folder.join(path);
        // The object store leaves the file to the page cache, and a row of Postgres will name it.
        let synced = tokio::task::spawn_blocking(move || sync(&file)).await;
        let failed = |source| object_store::Error::Generic { store: "LocalFileSystem", source };
        synced.map_err(|it| failed(Box::new(it)))?.map_err(|it| failed(Box::new(it)))?;
        Ok(())
    }

    /// Reads a file as a whole and compares it with its digest.
    ///
    /// # Errors
    /// If it is missing or damaged, or the store is away.
    pub async fn read(&self, path: &str, sha256: &[u8]) -> Result<Bytes, Error> {
        let bytes = match self.store.get(&Path::from(path)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::Missing { path: path.to_owned() }),
            Err(problem) => return Err(problem.into()),
        };
        if Sha256::digest(&bytes).as_slice() != sha256 {
            let problem = format!("its {} bytes are not those that were written", bytes.len());
            return Err(Error::Damaged { path: path.to_owned(), problem });
        }
        Ok(bytes)
    }

    /// Deletes a file; one that is gone already is no failure.
    ///
    /// # Errors
    /// If the store is away or refuses.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        match self.store.delete(&Path::from(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Every file of the store, in the order of their names.
    ///
    /// # Errors
    /// If the store is away or refuses.
    pub async fn list(&self) -> Result<Vec<Stored>, Error> {
        let found: Vec<_> = self.store.list(Some(&Path::from("events"))).try_collect().await?;
        let stored = found.into_iter().map(|it| Stored {
            path: it.location.to_string(),
            bytes: it.size,
            modified_at: Timestamp::from_millisecond(it.last_modified.timestamp_millis()).unwrap_or(Timestamp::MIN),
        });
        let mut stored: Vec<Stored> = stored.collect();
        stored.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(stored)
    }
}

/// Makes a file and its entries in the folders above it survive a crash of the machine.
fn sync(file: &FilePath) -> std::io::Result<()> {
    File::open(file)?.sync_all()?;
    // `events/day=…/`: the folders that may be new.
    file.ancestors().skip(1).take(3).try_for_each(|folder| File::open(folder)?.sync_all())
}
