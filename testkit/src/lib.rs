//! For tests: the servers of this run, and databases of their own.
//!
//! Depends on no other crate of ours, so that all of them can use it in their unit tests. `make test` names the servers
//! in `SECRETARIA_TEST_POSTGRES` (a superuser's URL) and `SECRETARIA_TEST_KAFKA`; a test whose server is not named says
//! so and passes, unless `SECRETARIA_TEST=all`.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod database;
mod session;
mod sql;

use std::sync::atomic::{AtomicU64, Ordering};

pub use database::{Database, Template, as_role, connect};
pub use session::{OutboxRow, Session};
pub use sql::{files_of, sql_folder};

/// A variable of this run; an empty one counts as missing.
#[expect(clippy::disallowed_methods, reason = "how a test run is told where its servers are")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// The superuser's URL of the run's Postgres.
pub fn postgres() -> Option<String> {
    server("SECRETARIA_TEST_POSTGRES", "Postgres")
}

/// The bootstrap servers of the run's Kafka.
pub fn kafka() -> Option<String> {
    server("SECRETARIA_TEST_KAFKA", "Kafka")
}

/// Whether this run is about the extension: unqualified calls are then its, and it has to answer the same.
pub fn asks_the_extension() -> bool {
    variable("SECRETARIA_TEST_EXTENSION").is_some()
}

/// The server that a variable names; prints what is left out where it is missing.
///
/// # Panics
/// If it is missing although everything is to be tested.
pub fn server(name: &str, what: &str) -> Option<String> {
    let found = variable(name);
    if found.is_none() {
        assert_ne!(variable("SECRETARIA_TEST").as_deref(), Some("all"), "{name} is missing");
        eprintln!("left out: needs {what} (make test)");
    }
    found
}

/// A name that no other test of this machine has at this time: prefix, process, number.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a future to its end, for tests that have no runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
