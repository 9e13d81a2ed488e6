//! The fixture of this crate's tests: a database and a folder for each.

use std::sync::atomic::{AtomicI64, Ordering};

use platform::object_store;
use platform::postgres::{Config, Db};
use platform::secret::SecretText;
use testkit::{Session, Template};

use crate::lake::Lake;

pub(crate) struct Fixture {
    pub(crate) root: Session,
    /// A pool of `secretaria_service`.
    pub(crate) service: Db,
    pub(crate) lake: Lake,
    folder: std::path::PathBuf,
    offset: AtomicI64,
}

/// Runs a test with a new fixture, or reports that it was left out.
pub(crate) async fn with_fixture(test: impl AsyncFnOnce(&Fixture)) {
    let Some(template) = Template::of_files().await else { return };
    let copy = testkit::Database::copy(&template, "analytics").await;
    let config = Config { pool_size: 8, wait_ms: 20_000, ..Config::default() };
    let service = Db::new(&SecretText::from(copy.url("secretaria_service")), &config, "test").unwrap();
    let folder = std::env::temp_dir().join(testkit::unique("lake"));
    let lake = Lake::open(&object_store::Config { url: folder.display().to_string() }).unwrap();
    let root = copy.session().await;
    test(&Fixture { root, service, lake, folder, offset: AtomicI64::new(0) }).await;
}

impl Fixture {
    pub(crate) fn next_offset(&self) -> i64 {
        self.offset.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
