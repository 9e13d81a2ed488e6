//! A process with processors says at its start whose functions decide.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::postgres::Db;
use platform::task::Stop;
use secretaria::Settings;
use secretaria::quota::{QuotaFunctions, expire_reservations, functions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Database, asks_the_extension, has_extension};

/// What was said, a line each: `message field=value`.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        if name == "message" { write!(self.0, "{value:?} ") } else { write!(self.0, "{name}={value:?} ") }.unwrap();
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0.trim_end().to_owned());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn service(database: &Database) -> Db {
    Db::new(&database.url("secretaria_service").into(), &Settings::default().postgres, "test").unwrap()
}

/// Runs what a process does for the functions until it has logged which ones there are.
async fn start(database: &Database) -> Vec<String> {
    let said = Said::default();
    let listening = tracing::subscriber::set_default(said.clone());
    let stop = Stop::new();
    let lines = || -> Vec<String> {
        said.0.lock().unwrap().iter().filter(|it| it.contains("quota functions")).cloned().collect()
    };
    let heard = async {
        while lines().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(expire_reservations(service(database), stop.clone()), heard) };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("it says so at once");
    drop(listening);
    lines()
}

#[tokio::test]
async fn without_the_extension_the_reference_decides_and_that_is_said() {
    let Some(database) = Database::create_plain().await else { return };
    assert_eq!(functions(&service(&database)).await.unwrap(), QuotaFunctions::PlPgSql);
    assert_eq!(start(&database).await, ["quota functions are those in PL/pgSQL"]);
}

#[tokio::test]
async fn with_the_extension_its_version_is_said() {
    let Some(database) = Database::create_plain().await else { return };
    let client = database.connect().await;
    if !has_extension(&client).await {
        return;
    }
    client.batch_execute("create extension secretaria version '0.3.0'").await.unwrap();
    assert_eq!(start(&database).await, ["quota functions are those of the extension version=\"0.3.0\""]);
    // One that is installed and not found first decides nothing.
    let reversed = "alter role secretaria_service in database %I set search_path = secretaria_reference, secretaria";
    let name: String = client.query_one("select format($1, current_database())", &[&reversed]).await.unwrap().get(0);
    client.batch_execute(&name).await.unwrap();
    assert_eq!(functions(&service(&database)).await.unwrap(), QuotaFunctions::PlPgSql);
}

#[tokio::test]
async fn the_tests_ask_those_they_are_about() {
    let Some(database) = Database::create().await else { return };
    let found = functions(&service(&database)).await.unwrap();
    assert_eq!(found != QuotaFunctions::PlPgSql, asks_the_extension(), "{found:?}");
}
