//! What one call costs inside one query, in CPU of the backend: no protocol, no commit, keys at random.

use std::time::Duration;

use anyhow::Context;
use tokio_postgres::Client;

/// Calls of one query.
const CALLS_PER_QUERY: f64 = 400_000.0;
/// What a tick of `/proc/PID/stat` is; Linux shows the same on every machine.
const TICK: Duration = Duration::from_millis(10);

/// A call that is measured.
pub(crate) struct Call {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Whether it needs the extension.
    pub(crate) of_extension: bool,
    expression: &'static str,
}

const fn call(name: &'static str, of_extension: bool, expression: &'static str) -> Call {
    Call { name, of_extension, expression }
}

pub(crate) const CALLS: [Call; 6] = [
    call("check", true, "(secretaria.check_feature_access(k.company_id, k.feature)).allowed"),
    call("check_noop", true, "(secretaria._noop_check(k.company_id, k.feature)).allowed"),
    call("check_twin", false, "(secretaria_reference.check_feature_access(k.company_id, k.feature)).allowed"),
    call("has", true, "secretaria.has_feature(k.company_id, k.feature)"),
    call("has_noop", true, "secretaria._noop_has(k.company_id, k.feature)"),
    call("has_twin", false, "secretaria_reference.has_feature(k.company_id, k.feature)"),
];

/// CPU of the backend per call, in microseconds, the reading of the key included.
pub(crate) async fn per_call_us(client: &Client, call: &Call) -> anyhow::Result<f64> {
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await?.get(0);
    let query = format!("select count({}) from bench.keys k", call.expression);
    let before = cpu_of(pid)?;
    let counted: i64 = client.query_one(&query, &[]).await.with_context(|| query.clone())?.get(0);
    let spent = cpu_of(pid)? - before;
    anyhow::ensure!(counted as f64 == CALLS_PER_QUERY, "{} answered {counted} times", call.name);
    Ok(spent.as_secs_f64() * 1e6 / CALLS_PER_QUERY)
}

/// CPU that a process has used so far, in user and kernel.
fn cpu_of(pid: i32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the server is not on this machine")?;
    // The second field is the program's name in parentheses, and may hold anything.
    let fields = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}
