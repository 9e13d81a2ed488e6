//! Health: `/livez` (the process runs), `/readyz` (it may be sent work), `/healthz` (everything it needs answers),
//! and `/metrics` for those who may see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::ProcessorName;
use metrics::counter;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::http::PeerInfo;
use crate::kafka;
use crate::postgres::Db;
use crate::secret::SecretText;
use crate::{clock, heartbeat, metric, watermarks};

/// The window in which a dependency must answer.
const WINDOW: Duration = Duration::from_secs(3);
/// A processor not heard of for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);

/// Whether this process may be sent work.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// It may.
    pub fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// It may no longer: it is about to stop.
    pub fn close(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it may.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the routes look at.
#[derive(Clone)]
pub struct Watched {
    /// Postgres, as the services see it.
    pub db: Db,
    /// The broker.
    pub kafka: kafka::Config,
    /// This process.
    pub readiness: Readiness,
    /// The metrics.
    pub metrics: Option<PrometheusHandle>,
    /// Opens `/metrics` from afar.
    pub metrics_token: SecretText,
    /// Processors that must be alive somewhere.
    pub processors: Vec<ProcessorName>,
}

/// The routes.
pub fn routes(watched: Watched) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_page))
        .with_state(Arc::new(Watch { watched, latest: Mutex::default() }))
}

/// What is watched, and the latest deep verdict: however many ask, dependencies are asked once a second.
struct Watch {
    watched: Watched,
    latest: Mutex<Option<(Instant, StatusCode, Value)>>,
}

/// How long a deep verdict is good for.
const FRESH: Duration = Duration::from_secs(1);

async fn readyz(State(watch): State<Arc<Watch>>) -> Response {
    if watch.watched.readiness.is_open() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "not ready\n").into_response()
}

#[derive(Serialize)]
struct Answer {
    ok: bool,
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

async fn healthz(State(watch): State<Arc<Watch>>) -> Response {
    let mut latest = watch.latest.lock().await;
    let fresh = latest.take().filter(|(at, ..)| at.elapsed() < FRESH);
    let (at, status, body) = match fresh {
        Some(verdict) => verdict,
        None => {
            let (status, body) = examine(&watch.watched).await;
            (clock::instant(), status, body)
        }
    };
    *latest = Some((at, status, body.clone()));
    (status, axum::Json(body)).into_response()
}

/// Asks everything at once, each within the window.
async fn examine(watched: &Watched) -> (StatusCode, Value) {
    let postgres = within(async { watched.db.ping().await.is_ok() }, "does not answer");
    let broker = within(async { watermarks::ping(&watched.kafka, WINDOW).await.is_ok() }, "does not answer");
    let workers = futures_util::future::join_all(watched.processors.iter().map(|&processor| {
        let db = watched.db.clone();
        within(
            async move { matches!(heartbeat::age(&db, processor).await, Ok(Some(age)) if age < SILENCE) },
            "no heartbeat",
        )
    }));
    let (postgres, broker, workers) = tokio::join!(postgres, broker, workers);
    let mut components = Map::new();
    let names = ["postgres", "kafka"].into_iter().chain(watched.processors.iter().map(|it| it.as_str()));
    let mut healthy = true;
    for (name, answer) in names.zip([postgres, broker].into_iter().chain(workers)) {
        if !answer.ok {
            healthy = false;
            counter!(metric::HEALTHCHECK_FAILURES, "component" => name).increment(1);
        }
        components.insert(name.to_owned(), json!(answer));
    }
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body: Value = json!({
        "status": if healthy { "ok" } else { "failing" },
        "at": clock::now().to_string(),
        "dependencies": components,
    });
    (status, body)
}

async fn within(check: impl Future<Output = bool>, otherwise: &'static str) -> Answer {
    let began = clock::instant();
    let ok = tokio::time::timeout(WINDOW, check).await.unwrap_or(false);
    let latency_ms = (began.elapsed().as_micros() as f64) / 1_000.0;
    Answer { ok, latency_ms, error: (!ok).then_some(otherwise) }
}

/// To peers on this machine that are not a proxy, or to who knows the token; to others the path does not exist.
async fn metrics_page(State(watch): State<Arc<Watch>>, peer: PeerInfo, headers: HeaderMap) -> Response {
    let watched = &watch.watched;
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name));
    let local = peer.0.0.ip().is_loopback() && !forwarded;
    let token = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
    let known = !watched.metrics_token.is_empty()
        && token.is_some_and(|it| {
            aws_lc_rs::constant_time::verify_slices_are_equal(it.as_bytes(), watched.metrics_token.expose().as_bytes())
                .is_ok()
        });
    match &watched.metrics {
        Some(handle) if local || known => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
