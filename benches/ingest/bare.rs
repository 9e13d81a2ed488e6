//! The baseline: a handler that only reads the body and responds 202, behind the same listener as the real one.

use std::io::Write;

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use platform::http;
use platform::task::Stop;
use tokio::net::TcpListener;

/// As long as the real response.
const ANSWER: &str = r#"{"id":"00000000-0000-5000-8000-000000000000","queued":true}"#;

/// Prints its address in one line, then serves until it is killed.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let routes = Router::new().route("/webhook/whaticket", post(answer));
        http::serve(listener, routes, &http::Config::default(), Stop::new()).await;
        Ok(())
    })
}

async fn answer(body: Bytes) -> impl IntoResponse {
    std::hint::black_box(body);
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], ANSWER)
}
