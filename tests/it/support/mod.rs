//! What the end-to-end tests need: a broker in the process, a database of their own, providers with a script.

pub(crate) mod mock_cluster;
pub(crate) mod database;
pub(crate) mod hook;
pub(crate) mod app;
pub(crate) mod recipe;

use std::time::Duration;

/// How long a condition may take before a test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

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
