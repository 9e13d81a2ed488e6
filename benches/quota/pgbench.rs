//! One check per transaction from eight connections, as `pgbench` drives it.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::Args;

pub(crate) const THREADS: u32 = 2;

/// A statement that is measured.
pub(crate) struct Variant {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Whether it needs the extension.
    pub(crate) of_extension: bool,
    statement: &'static str,
}

/// Asks for every key in the connection's own process: a parallel query would warm its workers.
const EVERY_KEY: &str = "set max_parallel_workers_per_gather = 0;
select count(secretaria.has_feature(company_id, feature)) from secretaria.feature_usage";

const fn reads(name: &'static str, of_extension: bool, statement: &'static str) -> Variant {
    Variant { name, of_extension, statement }
}

/// The checks, each with the same target list as the ones it is compared with.
pub(crate) const CHECKS: [Variant; 7] = [
    reads(
        "check",
        true,
        "select allowed, reason, limit_value, used from secretaria.check_feature_access(:c, 'f' || :f)",
    ),
    reads("check_noop", true, "select allowed, reason, limit_value, used from secretaria._noop_check(:c, 'f' || :f)"),
    reads(
        "check_twin",
        false,
        "select allowed, reason, limit_value, used from secretaria_reference.check_feature_access(:c, 'f' || :f)",
    ),
    reads(
        "check_waterfall",
        false,
        "select allowed, reason, limit_value, used from bench.check_waterfall(:c, 'f' || :f)",
    ),
    reads("has", true, "select secretaria.has_feature(:c, 'f' || :f)"),
    reads("has_noop", true, "select secretaria._noop_has(:c, 'f' || :f)"),
    reads("has_twin", false, "select secretaria_reference.has_feature(:c, 'f' || :f)"),
];

/// Seconds before a check is measured, for every ten thousand companies. The same for every variant: a machine that is
/// shared may give less to a process that has used it for longer.
const WARMING: u32 = 5;

/// Transactions per second of a statement on companies chosen by a Zipf law.
pub(crate) fn run(url: &str, variant: &Variant, args: &Args) -> anyhow::Result<f64> {
    // The first transaction of each connection asks for every key once, so that places are known as they are in a pool.
    let warm = match variant.name {
        "check" | "has" => EVERY_KEY,
        _ => "select 1",
    };
    let script =
        format!("\\if :cold\n{warm};\n\\set cold 0\n\\endif\n{}{};\n", keys(args.companies), variant.statement);
    tps(url, &script, args.clients, WARMING * args.companies.div_ceil(10_000), args)
}

/// Keys by which companies are asked for: by a Zipf law, and any of their features.
pub(crate) fn keys(companies: u32) -> String {
    format!("\\set c random_zipfian(1, {companies}, 1.07)\n\\set f random(1, 20)\n")
}

/// Transactions per second of a script, by connections that have run it for `warming` seconds.
pub(crate) fn tps(url: &str, script: &str, clients: u32, warming: u32, args: &Args) -> anyhow::Result<f64> {
    let mut process = Command::new(&args.pgbench)
        .args(["-M", "prepared", "-n", "-f", "/dev/stdin", "-D", "cold=1"])
        .args(["-c", &clients.to_string(), "-j", &THREADS.min(clients).to_string()])
        // A second more: the last one is not always reported.
        .args(["-T", &(warming + args.seconds + 1).to_string(), "-P", "1"])
        .args([&format!("--random-seed={}", args.seed), url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("pgbench cannot be started")?;
    process.stdin.take().context("pgbench has no standard input")?.write_all(script.as_bytes())?;
    let output = process.wait_with_output()?;
    let (printed, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "pgbench failed on\n{script}{complained}");
    // "progress: 1.0 s, 41067.1 tps, lat …", a line each second.
    let seconds: Vec<f64> = complained
        .lines()
        .filter_map(|line| line.strip_prefix("progress: ")?.split(", ").nth(1)?.strip_suffix(" tps")?.parse().ok())
        .skip(warming as usize)
        .take(args.seconds as usize)
        .collect();
    ensure!(!seconds.is_empty(), "pgbench did not print its rate: {printed}{complained}");
    Ok(seconds.iter().sum::<f64>() / seconds.len() as f64)
}
