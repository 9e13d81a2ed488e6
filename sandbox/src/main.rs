//! `secretaria-sandbox` — the stand-in providers as a program.
//!
//! Serves until SIGTERM or ctrl-c. Logs where it listens; the requests it receives are in `/_sandbox/log`.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use sandbox::{Sandbox, SettingsChange};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Gemini, Whaticket and receivers of webhooks on one port, for development. Controlled through /_sandbox.
#[derive(Debug, Parser)]
#[command(name = "secretaria-sandbox", version)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Milliseconds before a model answers.
    #[arg(long, default_value_t = 0)]
    model_latency_ms: u64,
    /// Milliseconds before a send answers.
    #[arg(long, default_value_t = 0)]
    send_latency_ms: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let mut terminated = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let sandbox =
        Sandbox::start(arguments.listen).await.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    sandbox.settings(SettingsChange {
        model_latency_ms: Some(arguments.model_latency_ms),
        send_latency_ms: Some(arguments.send_latency_ms),
        login_ttl_s: None,
    });
    tracing::info!(base_url = sandbox.base_url(), "sandbox is serving");

    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for ctrl-c")?,
    }
    tracing::info!("stopping");
    sandbox.stop().await.context("the listener failed")
}
