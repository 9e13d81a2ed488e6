//! The peers, each built by `dev/bench.sh` outside this workspace: processes that do the same work another way.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::jobs;
use crate::process::Process;
use crate::site::Site;

/// Paths that `dev/bench.sh` passes: where the peers are, and which Java it found.
#[expect(clippy::disallowed_methods, reason = "`dev/bench.sh` passes the paths of the peers")]
fn path_in(name: &str) -> anyhow::Result<PathBuf> {
    Ok(std::env::var_os(name).with_context(|| format!("{name} is missing: use dev/bench.sh"))?.into())
}

fn folder() -> anyhow::Result<PathBuf> {
    path_in("SECRETARIA_BENCH_PEERS")
}

/// Starts the parallel consumer on a site: it reads the topic from its group's committed offset.
pub(crate) fn start_parallel_consumer(site: &Site, window: usize, model: &str) -> anyhow::Result<Process> {
    let folder = folder()?.join("parallel-consumer");
    let jars = format!("{0}/peer.jar:{0}/dependency/*", folder.display());
    let java = path_in("SECRETARIA_BENCH_JAVA")?;
    let mut command = Process::command(java.to_str().context("the path of Java is no text")?);
    command
        .args(["-Xms256m", "-Xmx1g", "-XX:+UseParallelGC", "-XX:ParallelGCThreads=2", "-cp", &jars, "peer.Peer"])
        .env("BOOTSTRAP", &site.settings.kafka.bootstrap)
        .env("TOPIC", site.settings.kafka.topic(domain::Topic::InboundMessages))
        .env("DATABASE", site.settings.postgres.service_url.expose())
        .env("MODEL", format!("{model}/v1beta/models/gemini-2.5-flash:generateContent"))
        .env("WINDOW", window.to_string());
    Process::start(command, "parallel-consumer")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Graphile {
    /// Each job is fetched and completed by itself.
    Plain,
    /// Jobs are fetched into its local queue, and completed in batches.
    Batching,
}

/// Jobs a second through graphile_worker, from the first enqueue to the last completion.
pub(crate) async fn graphile_per_s(site: &Site, how: Graphile, jobs: usize) -> anyhow::Result<f64> {
    let program = folder()?.join("graphile/release/graphile-peer");
    let mut command = Process::command(program.to_str().context("the peers' folder is no text")?);
    command.args([
        site.settings.postgres.owner_url.expose(),
        &jobs.to_string(),
        &jobs::BATCH.to_string(),
        &jobs::CONCURRENCY.to_string(),
        if how == Graphile::Plain { "plain" } else { "batching" },
    ]);
    let mut process = Process::start(command, "graphile")?;
    let status = process.ended(Duration::from_secs(300)).await?;
    let log = process.log()?;
    ensure!(status.success(), "graphile: {log}");
    let line = log.lines().rev().find_map(|it| it.strip_prefix("jobs_per_s "));
    Ok(line.with_context(|| format!("graphile printed nothing: {log}"))?.parse()?)
}
