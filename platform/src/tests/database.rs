//! A database of a test's own, as a processor sees it.

use std::ops::Deref;

use domain::{EventId, Topic};
use platform::dead_letter::headers_from_json;
use platform::kafka::Record;
use platform::postgres::{Config, Db};
use platform::secret::SecretText;
use testkit::{Session, Template};

/// A copy of the migrated database.
pub(crate) struct Database {
    pub(crate) root: Session,
    /// A pool of `secretaria_service`, whose rights the processors have.
    pub(crate) service: Db,
}

impl Deref for Database {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.root
    }
}

/// Runs a test in a database of its own, or says that it was left out.
pub(crate) async fn in_a_database(test: impl AsyncFnOnce(&Database)) {
    let Some(template) = Template::of_files().await else { return };
    let copy = testkit::Database::copy(&template, "platform").await;
    let config = Config { pool_size: 24, wait_ms: 20_000, ..Config::default() };
    let service = Db::new(&SecretText::from(copy.url("secretaria_service")), &config, "test").unwrap();
    test(&Database { root: copy.session().await, service }).await;
}

impl Database {
    /// Takes a topic's records out of the outbox, as if a relay had published them on partition 0.
    pub(crate) async fn publish(&self, topic: Topic) -> Vec<Record> {
        let rows = self.take_outbox(topic.as_str()).await.into_iter();
        rows.map(|it| Record::kept(topic, 0, it.outbox_id, it.key, it.payload, headers_from_json(&it.headers)))
            .collect()
    }

    /// The events of a topic in the outbox, in the order of publishing.
    pub(crate) async fn waiting(&self, topic: Topic) -> Vec<EventId> {
        self.outbox_events(topic.as_str()).await.into_iter().map(EventId).collect()
    }
}
