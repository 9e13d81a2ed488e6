//! What the end-to-end tests need: a broker in the process, a database of their own, providers with a script.

pub(crate) mod mock_cluster;
pub(crate) mod database;
pub(crate) mod hook;
pub(crate) mod app;
pub(crate) mod recipe;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a condition may take before a test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A variable of the test run.
#[expect(clippy::disallowed_methods, reason = "`make test` passes the addresses of the servers")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}

/// Where a server is; `None`, with a line that says so, when this run has none. `make test` leaves nothing out.
pub(crate) fn server(variable_name: &str, what: &str) -> Option<String> {
    let found = variable(variable_name);
    if found.is_none() {
        assert!(variable("SECRETARIA_TEST").as_deref() != Some("all"), "{variable_name} is missing");
        eprintln!("left out: needs {what} (make test)");
    }
    found
}

/// A name that no other test of this machine uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a condition holds; fails with what was last seen.
pub(crate) async fn eventually<T, F>(claim: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let waiting = async {
        loop {
            let seen = match look().await {
                Ok(found) => return Ok::<T, String>(found),
                Err(seen) => seen,
            };
            LAST.with_borrow_mut(|last| *last = seen);
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    };
    match tokio::time::timeout(TIMEOUT, waiting).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => {
            panic!("not within {TIMEOUT:?}: {claim}; last seen: {}", LAST.with_borrow(Clone::clone))
        }
    }
}

thread_local! {
    static LAST: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}
