//! The Kafka that tests are given.

use crate::clock;
use crate::kafka::Config;

/// Settings for topics and groups of this test alone; missing is allowed unless everything is to be tested.
pub(crate) fn kafka(partitions: u16) -> Option<Config> {
    let bootstrap = testkit::kafka()?;
    let prefix = format!("consumer_test_{}_{}.", std::process::id(), clock::now().as_microsecond());
    // The shortest session that the broker allows.
    Some(Config { bootstrap, prefix, partitions, session_timeout_ms: 6_000, ..Config::default() })
}
