//! Health: `/livez` (the process runs), `/readyz` (it may be sent work), `/healthz` (everything it needs answers),
//! and `/metrics` for those who may see them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ProcessorName;
use jiff::Timestamp;
use metrics::counter;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::PeerInfo;
use crate::kafka::{self, Producer};
use crate::postgres::Db;
use crate::problem::{Problem, documented};
use crate::secret::SecretText;
use crate::{clock, heartbeat, metric, openapi, queue, task, topic_ends};

/// How long a dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// A processor without a heartbeat for so long is considered dead.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether this process may be sent work.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// To be called before stopping.
    pub fn close(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the routes check.
#[derive(Clone)]
pub struct Watched {
    /// The pool of the role `secretaria_service`.
    pub db: Db,
    pub kafka: kafka::Config,
    /// The producers of this process: the broker is checked through them instead of a new client.
    pub producers: Vec<Producer>,
    pub readiness: Readiness,
    pub metrics: Option<PrometheusHandle>,
    /// The bearer token of `/metrics` for callers on other machines.
    pub metrics_token: SecretText,
    /// Processors of which an instance must be alive.
    pub processors: Vec<ProcessorName>,
}

pub fn routes(watched: Watched) -> Router {
    documented_routes().with_state(Arc::new(Watch { watched, probes: Probes::default() })).into()
}

/// The OpenAPI document of the routes.
pub fn document() -> OpenApi {
    let mut document = documented_routes().into_openapi();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("`http.metrics_token`. Peers on the same machine need none."))
        .build();
    openapi::add_security(&mut document, "metrics_token", SecurityScheme::Http(token));
    document
}

fn documented_routes() -> OpenApiRouter<Arc<Watch>> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(healthz))
        .routes(routes!(metrics_page))
}

struct Watch {
    watched: Watched,
    probes: Probes,
}

/// How long a result is reused.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The result of checking everything, and when it was made.
#[derive(Debug, Clone)]
struct ProbeResult {
    at: Instant,
    status: StatusCode,
    body: Health,
}

/// One probe at a time, its result shared by all callers meanwhile and within a second after. A probe is a task of its own:
/// callers that disconnect neither end it nor cause another one each.
#[derive(Default)]
struct Probes(Mutex<Option<watch::Receiver<Option<ProbeResult>>>>);

impl Probes {
    /// The result; `None` if the probe panicked.
    async fn result<F>(&self, probe: impl FnOnce() -> F) -> Option<ProbeResult>
    where
        F: Future<Output = (StatusCode, Health)> + Send + 'static,
    {
        let mut latest = self.latest(probe);
        latest.wait_for(Option::is_some).await.ok().and_then(|result| result.clone())
    }

    fn latest<F>(&self, probe: impl FnOnce() -> F) -> watch::Receiver<Option<ProbeResult>>
    where
        F: Future<Output = (StatusCode, Health)> + Send + 'static,
    {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_usable = |result: &watch::Receiver<Option<ProbeResult>>| match &*result.borrow() {
            Some(probed) => probed.at.elapsed() < MAX_AGE,
            None => result.has_changed().is_ok(), // Under way, unless its task has ended.
        };
        if let Some(result) = latest.as_ref().filter(|it| is_usable(it)) {
            return result.clone();
        }
        let (sender, result) = watch::channel(None);
        let probe = probe();
        task::spawn("health", async move {
            let (status, body) = probe.await;
            sender.send_replace(Some(ProbeResult { at: clock::instant(), status, body }));
        });
        *latest = Some(result.clone());
        result
    }
}

/// Whether the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    responses((status = 200, description = "It runs.", body = String, content_type = "text/plain; charset=utf-8")),
)]
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether this process may be sent work.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "It may.", body = String, content_type = "text/plain; charset=utf-8"),
        NotReady,
    ),
)]
async fn readyz(State(watch): State<Arc<Watch>>) -> Result<&'static str, Problem> {
    if watch.watched.readiness.is_open() { Ok("ready\n") } else { Err(not_ready()) }
}

fn not_ready() -> Problem {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "this process takes no work now");
    problem.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// How [`not_ready`] is documented.
struct NotReady;

impl utoipa::IntoResponses for NotReady {
    fn responses() -> BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        documented([not_ready()])
    }
}

/// What this process needs, and whether it answers.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct Health {
    /// `ok`, or `failing` if any dependency is.
    #[schema(pattern = "^(ok|failing)$", example = "ok")]
    status: &'static str,
    /// When the dependencies were asked.
    at: Timestamp,
    /// Postgres, Kafka, and each processor that must be alive somewhere.
    dependencies: BTreeMap<&'static str, Dependency>,
    /// Circuit breakers of this process that hold jobs back, because a provider does not answer. Never a failure of its own.
    #[schema(minimum = 0)]
    open_circuits: usize,
}

impl Health {
    fn of(healthy: bool, dependencies: BTreeMap<&'static str, Dependency>) -> (StatusCode, Self) {
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let open_circuits = queue::open_circuits();
        (
            status,
            Health { status: if healthy { "ok" } else { "failing" }, at: clock::now(), dependencies, open_circuits },
        )
    }
}

#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct Dependency {
    ok: bool,
    /// How long it took to answer, in milliseconds.
    #[schema(minimum = 0)]
    latency_ms: f64,
    /// Why it is not ok; absent if it is.
    #[schema(example = "does not answer", nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// Whether everything this process needs answers, within three seconds.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses(
        (status = 200, description = "Everything answers.", body = Health),
        (status = 503, description = "Something does not; the body says what.", body = Health),
    ),
)]
async fn healthz(State(watch): State<Arc<Watch>>) -> Response {
    let watched = watch.watched.clone();
    match watch.probes.result(|| async move { check(&watched).await }).await {
        Some(ProbeResult { status, body, .. }) => (status, axum::Json(body)).into_response(),
        None => {
            let (status, body) = Health::of(false, BTreeMap::new());
            (status, axum::Json(body)).into_response()
        }
    }
}

/// Checks everything at once, each with the timeout.
async fn check(watched: &Watched) -> (StatusCode, Health) {
    let postgres = within_timeout(async { watched.db.ping().await.is_ok() }, "does not answer");
    let broker = within_timeout(broker_answers(watched), "does not answer");
    let workers = futures_util::future::join_all(watched.processors.iter().map(|&processor| {
        let db = watched.db.clone();
        within_timeout(
            async move { matches!(heartbeat::age(&db, processor).await, Ok(Some(age)) if age < HEARTBEAT_TIMEOUT) },
            "no heartbeat",
        )
    }));
    let (postgres, broker, workers) = tokio::join!(postgres, broker, workers);
    let mut dependencies = BTreeMap::new();
    let names = ["postgres", "kafka"].into_iter().chain(watched.processors.iter().map(|it| it.as_str()));
    let mut healthy = true;
    for (name, answer) in names.zip([postgres, broker].into_iter().chain(workers)) {
        if !answer.ok {
            healthy = false;
            counter!(metric::HEALTHCHECK_FAILURES, "component" => name).increment(1);
        }
        dependencies.insert(name, answer);
    }
    Health::of(healthy, dependencies)
}

/// Whether the broker answers every producer of this process, or a client of its own where there is none.
async fn broker_answers(watched: &Watched) -> bool {
    if watched.producers.is_empty() {
        return topic_ends::ping(&watched.kafka, CHECK_TIMEOUT).await.is_ok();
    }
    let answers = futures_util::future::join_all(watched.producers.iter().map(|it| it.ping(CHECK_TIMEOUT))).await;
    answers.iter().all(Result::is_ok)
}

async fn within_timeout(check: impl Future<Output = bool>, otherwise: &'static str) -> Dependency {
    let began = clock::instant();
    let ok = tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or(false);
    let latency_ms = (began.elapsed().as_micros() as f64) / 1_000.0;
    Dependency { ok, latency_ms, error: (!ok).then_some(otherwise) }
}

/// Metrics as Prometheus text, to peers on this machine that are not a proxy, or to who knows the token; to others the
/// path does not exist.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    security((), ("metrics_token" = [])),
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain; version=0.0.4"),
        Hidden,
    ),
)]
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
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metric::with_former_names(&handle.render()))
                .into_response()
        }
        _ => hidden().into_response(),
    }
}

fn hidden() -> Problem {
    Problem::of_status(StatusCode::NOT_FOUND)
}

/// How [`hidden`] is documented.
struct Hidden;

impl utoipa::IntoResponses for Hidden {
    fn responses() -> BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        documented([hidden()])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn many_callers_that_disconnect_share_one_probe_and_its_result() {
        let (probes, begun, go) = (Probes::default(), Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let probe = || {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                let _ = go.acquire().await;
                Health::of(true, BTreeMap::new())
            }
        };
        for _ in 0..100 {
            assert!(probes.result(probe).now_or_never().is_none(), "nothing is known yet, and the caller disconnects");
            tokio::task::yield_now().await;
        }
        go.add_permits(1_000);
        assert_eq!(probes.result(probe).await.map(|it| it.status), Some(StatusCode::OK));
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        assert!(probes.result(probe).now_or_never().is_some(), "the next one is answered from it");
    }

    #[tokio::test]
    async fn a_result_that_is_old_or_never_came_is_probed_again() {
        let probes = Probes::default();
        let old = ProbeResult {
            at: clock::instant() - MAX_AGE,
            status: StatusCode::OK,
            body: Health::of(true, BTreeMap::new()).1,
        };
        let (sender, result) = watch::channel(Some(old));
        *probes.0.lock().unwrap() = Some(result);
        let failing = || async { Health::of(false, BTreeMap::new()) };
        assert_eq!(probes.result(failing).await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(sender);
        let (sender, result) = watch::channel(None);
        drop(sender);
        *probes.0.lock().unwrap() = Some(result);
        assert!(probes.result(failing).await.is_some());
    }
}
