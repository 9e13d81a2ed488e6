//! The Kafka that tests are given.

use crate::clock;
use crate::kafka::Config;

/// Settings for topics and groups of this test alone; missing is allowed unless everything is to be tested.
#[expect(clippy::disallowed_methods, reason = "how a test run is told where its servers are")]
pub(crate) fn kafka(partitions: u16) -> Option<Config> {
    let bootstrap = std::env::var("SECRETARIA_TEST_KAFKA").ok();
    if bootstrap.is_none() {
        assert_ne!(std::env::var("SECRETARIA_TEST").as_deref(), Ok("all"), "SECRETARIA_TEST_KAFKA is missing");
        println!("left out: needs Kafka (make test)");
    }
    let prefix = format!("consumer_test_{}_{}.", std::process::id(), clock::now().as_microsecond());
    // The shortest session that the broker allows.
    Some(Config { bootstrap: bootstrap?, prefix, partitions, session_timeout_ms: 6_000, ..Config::default() })
}
