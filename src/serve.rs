//! Serving: which roles a process has, how it starts, and the order in which it stops.
//!
//! Stopping: not ready → no new connections, requests end → consumers stop, running calls end → the relay stops → the
//! producers are flushed. What is unfinished then is a row or a record, and is processed again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use clap::Args;
use domain::ProcessorName;
use ingest::{Webhooks, WebhooksFirst};
use platform::health::{self, Readiness, Watched};
use platform::kafka::Producer;
use platform::postgres::{self, Db};
use platform::request::{self, RequestIds};
use platform::seal::{self, Sealer};
use platform::task::{self, Stop};
use platform::telemetry::chain;
use platform::{http, processor, relay, telemetry, topic_ends};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{Settings, openapi, processors, quota};

/// Arguments of `process`.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Only this processor; may be given more than once.
    #[arg(long, value_name = "NAME", value_parser = processor, help = only_help())]
    only: Vec<ProcessorName>,
}

fn only_help() -> String {
    let each = processors::ALL.iter().map(|it| format!("\n  {:<10} {}", it.name.as_str(), it.help));
    format!("Only this processor; may be given more than once:{}", each.collect::<String>())
}

fn processor(name: &str) -> Result<ProcessorName, String> {
    processors::named(name).map(|it| it.name).ok_or_else(|| format!("there are {}", processors::names()))
}

fn all_processors() -> Vec<ProcessorName> {
    processors::ALL.iter().map(|it| it.name).collect()
}

/// One thing a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Accepts webhooks.
    Ingest,
    /// Runs a processor.
    Process(ProcessorName),
    /// Serves the HTTP API.
    Api,
}

/// The roles of a process.
#[derive(Debug, Clone)]
pub struct Roles(Vec<Role>);

impl Roles {
    pub fn ingest() -> Self {
        Roles(vec![Role::Ingest])
    }

    /// All processors, or those given with `--only`.
    pub fn process(args: &ProcessArgs) -> Self {
        let names = if args.only.is_empty() { all_processors() } else { args.only.clone() };
        Roles(names.into_iter().map(Role::Process).collect())
    }

    pub fn api() -> Self {
        Roles(vec![Role::Api])
    }

    pub fn all() -> Self {
        let processors = all_processors().into_iter().map(Role::Process);
        Roles([Role::Ingest, Role::Api].into_iter().chain(processors).collect())
    }

    fn processors(&self) -> Vec<ProcessorName> {
        let name = |role: &Role| if let Role::Process(name) = role { Some(*name) } else { None };
        self.0.iter().filter_map(name).collect()
    }

    fn includes(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|role| match role {
            Role::Ingest => "ingest",
            Role::Process(name) => name.as_str(),
            Role::Api => "api",
        });
        f.write_str(&names.collect::<Vec<_>>().join(" "))
    }
}

/// Serves until the process is asked to end.
///
/// # Errors
/// If the port is taken, a key is missing, or a setting is refused; nothing has been served then.
pub async fn run(settings: Settings, roles: Roles) -> anyhow::Result<()> {
    let telemetry = telemetry::start(&settings.telemetry)?;
    let running = start(settings, roles, Some(telemetry.recorder.clone())).await?;
    let broken = tokio::select! {
        () = task::shutdown_signal() => {
            tracing::info!("shutdown requested");
            None
        }
        () = running.broke() => Some(anyhow::anyhow!("a processor could not go on; the log says why")),
    };
    running.stop().await?;
    broken.map_or(Ok(()), Err)
}

/// A started process; `stop` ends it in order.
pub struct Running {
    address: std::net::SocketAddr,
    readiness: Readiness,
    http_drain: Duration,
    work_drain: Duration,
    server: JoinHandle<()>,
    work: Vec<JoinHandle<()>>,
    relay: Option<JoinHandle<()>>,
    producers: Vec<Producer>,
    stops: Stops,
}

/// One stop signal for each stage of stopping.
#[derive(Clone, Default)]
struct Stops {
    http: Stop,
    work: Stop,
    relay: Stop,
    /// Raised by the process itself when a processor has failed.
    broken: Stop,
}

/// Starts serving.
///
/// # Errors
/// As [`run`].
pub async fn start(
    settings: Settings,
    roles: Roles,
    metrics: Option<metrics_exporter_prometheus::PrometheusHandle>,
) -> anyhow::Result<Running> {
    for name in roles.processors() {
        settings.validate_to_run(name)?;
    }
    let listener = TcpListener::bind(settings.http.listen)
        .await
        .with_context(|| format!("setting `http.listen`: {} cannot be bound", settings.http.listen))?;
    let address = listener.local_addr()?;
    let sealer = Arc::new(Sealer::from_file(&settings.keys.key_encryption_key())?);
    let db = Db::new(&settings.postgres.service_url, &settings.postgres, "service")?;
    let mut builder =
        Builder { settings, db, sealer, stops: Stops::default(), work: Vec::new(), producers: Vec::new() };

    if let Some(recorder) = metrics.clone() {
        task::spawn("metrics", telemetry::run_upkeep(recorder, builder.stops.work.clone()));
    }
    let readiness = Readiness::default();
    let mut routes = Router::new();
    let webhooks = if roles.includes(Role::Ingest) { Some(builder.ingest(readiness.clone())?) } else { None };
    if roles.includes(Role::Api) {
        routes = routes.merge(builder.api()?);
    }
    let processors = roles.processors();
    let relay = if processors.is_empty() { None } else { Some(builder.processors(&processors)?) };
    // Last, because it reports on the producers of the others.
    routes = routes.merge(builder.health(&roles, readiness.clone(), metrics));
    let routes = WebhooksFirst::new(webhooks, routes);
    let routes = request::with_ids_and_problems(routes, RequestIds::of_process(seal::random_bytes()?));
    let drain_ms = builder.settings.http.drain_ms;
    let work_drain_ms = builder.settings.work_drain_ms();
    let (http_config, http_stop) = (builder.settings.http.clone(), builder.stops.http.clone());
    let server = task::spawn("http", async move { http::serve(listener, routes, &http_config, http_stop).await });
    readiness.open();
    tracing::info!(%address, %roles, "serving");
    Ok(Running {
        address,
        readiness,
        http_drain: Duration::from_millis(drain_ms + 500),
        work_drain: Duration::from_millis(work_drain_ms) + Duration::from_secs(5),
        server,
        work: builder.work,
        relay,
        producers: builder.producers,
        stops: builder.stops,
    })
}

/// Builds the roles, and collects what they started.
struct Builder {
    settings: Settings,
    db: Db,
    sealer: Arc<Sealer>,
    stops: Stops,
    work: Vec<JoinHandle<()>>,
    producers: Vec<Producer>,
}

impl Builder {
    fn health(
        &self,
        roles: &Roles,
        readiness: Readiness,
        metrics: Option<metrics_exporter_prometheus::PrometheusHandle>,
    ) -> Router {
        health::routes(Watched {
            db: self.db.clone(),
            kafka: self.settings.kafka.clone(),
            producers: self.producers.clone(),
            readiness,
            metrics,
            metrics_token: self.settings.http.metrics_token.clone(),
            // A process without processors reports on those of other processes.
            processors: Some(roles.processors()).filter(|names| !names.is_empty()).unwrap_or_else(all_processors),
        })
    }

    fn ingest(&mut self, readiness: Readiness) -> anyhow::Result<Webhooks> {
        let producer = Producer::with_short_timeout(&self.settings.kafka, "ingest")?;
        self.producers.push(producer.clone());
        let companies = ingest::Companies::default();
        let changed =
            postgres::notifications(&self.settings.postgres.service_url, "companies_changed", self.stops.work.clone());
        let source = ingest::Source {
            db: self.db.clone(),
            sealer: Arc::clone(&self.sealer),
            partitions: self.settings.kafka.partitions,
        };
        let current =
            companies.clone().keep_current(source, changed, self.settings.ingest.refresh_s, self.stops.work.clone());
        self.work.push(task::spawn("company directory", current));
        Ok(ingest::Ingest { companies, producer, config: self.settings.ingest.clone(), readiness }.into())
    }

    fn api(&self) -> anyhow::Result<Router> {
        let keys = Arc::new(api::auth::Keys::from_pkcs8_file(&self.settings.keys.signing_key())?);
        let db = Db::new(&self.settings.postgres.api_url, &self.settings.postgres, "api")?;
        Ok(api::routes(api::Api::new(db, keys, openapi::document()?.into())))
    }

    fn processors(&mut self, names: &[ProcessorName]) -> anyhow::Result<JoinHandle<()>> {
        let producer = Producer::with_retries(&self.settings.kafka, "outbox")?;
        self.producers.push(producer.clone());
        let context = processor::Context {
            db: self.db.clone(),
            kafka: self.settings.kafka.clone(),
            sealer: Arc::clone(&self.sealer),
            object_store: self.settings.object_store.clone(),
            instance: self.settings.process.instance.clone(),
        };
        let settings = self.settings.clone();
        let (names, stop, broken) = (names.to_vec(), self.stops.work.clone(), self.stops.broken.clone());
        self.work.push(task::spawn("processors", async move {
            if let Err(problem) = processors::run(&names, context, settings, stop.clone()).await {
                tracing::error!(error = chain(&problem), "a processor failed; this process ends");
                broken.cancel();
            }
        }));
        let quota = quota::expire_reservations(self.db.clone(), self.stops.work.clone());
        self.work.push(task::spawn("quota", quota));
        let watch = topic_ends::run(self.db.clone(), self.settings.kafka.clone(), self.stops.work.clone());
        self.work.push(task::spawn("topic ends", watch));
        let (partitions, config) = (self.settings.kafka.partitions, self.settings.outbox.clone());
        let relay = relay::run(self.db.clone(), producer, partitions, config, self.stops.relay.clone());
        Ok(task::spawn("outbox relay", relay))
    }
}

impl Running {
    /// Resolves when a processor has failed and this process must end.
    pub async fn broke(&self) {
        self.stops.broken.cancelled().await;
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Stops in order; see the head of this file.
    ///
    /// # Errors
    /// If the server had panicked.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.readiness.close();
        self.stops.http.cancel();
        let served = tokio::time::timeout(self.http_drain, self.server).await;
        self.stops.work.cancel();
        // A Postgres that hangs must not keep the relay and the producers from being stopped.
        let ended = tokio::time::timeout(self.work_drain, futures_util::future::join_all(self.work)).await;
        if !matches!(ended, Ok(results) if results.iter().all(Result::is_ok)) {
            tracing::warn!("stopped with unfinished work; it will be processed again");
        }
        self.stops.relay.cancel();
        if let Some(relay) = self.relay {
            // What it has not published stays in the outbox.
            let _ = tokio::time::timeout(Duration::from_secs(5), relay).await;
        }
        for producer in self.producers {
            let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(5))).await;
            if !matches!(flushed, Ok(Ok(()))) {
                tracing::warn!("producer stopped with unacknowledged records");
            }
        }
        tracing::info!("stopped");
        match served {
            Ok(Err(panicked)) => Err(panicked.into()),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}
