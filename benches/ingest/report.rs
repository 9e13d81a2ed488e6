//! Rounds to medians, and medians to the one line that scripts read.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::client::Round;

/// The same webhooks, sent to both servers one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// To the bare one.
    pub(crate) bare: Round,
    /// To the real one.
    pub(crate) real: Round,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.real.rps / self.bare.rps
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pair { bare, real } = self;
        write!(
            f,
            "{:>6.0}/s of {:>6.0}/s bare, ratio {:.2}; {:.1} of {:.1} CPU µs; p50 {:.1} ms, p99 {:.1} ms",
            real.rps,
            bare.rps,
            self.ratio(),
            real.cpu_us,
            bare.cpu_us,
            real.p50_ms,
            real.p99_ms
        )
    }
}

/// Every round by its number of connections.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<usize, Vec<Pair>>);

impl Report {
    pub(crate) fn add(&mut self, connections: usize, pair: Pair) {
        self.0.entry(connections).or_default().push(pair);
    }

    /// The line: medians by number of connections, the real server's peak memory, and the machine.
    pub(crate) fn line(&self, rss_mb: f64) -> anyhow::Result<String> {
        let mut line = Map::new();
        for (connections, pairs) in &self.0 {
            let of = |figure: fn(&Pair) -> f64| median(pairs.iter().map(figure).collect());
            let figures = json!({
                "rps": of(|it| it.real.rps).round() as u64,
                "bare_rps": of(|it| it.bare.rps).round() as u64,
                // Of the pairs and not of the two medians: other load on the machine is the same within a pair.
                "ratio": rounded(of(Pair::ratio), 1e3),
                "p50_ms": rounded(of(|it| it.real.p50_ms), 1e2),
                "p99_ms": rounded(of(|it| it.real.p99_ms), 1e2),
                "cpu_us": rounded(of(|it| it.real.cpu_us), 1e2),
                "bare_cpu_us": rounded(of(|it| it.bare.cpu_us), 1e2),
            });
            line.insert(format!("c{connections}"), figures);
        }
        line.insert("rss_mb".into(), json!(rounded(rss_mb, 10.0)));
        line.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
        line.insert("ram_gb".into(), json!(rounded(memory_gb()?, 10.0)));
        Ok(Value::Object(line).to_string())
    }
}

/// The middle one; of an even number, the upper of the two.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(figure: f64, parts: f64) -> f64 {
    (figure * parts).round() / parts
}

fn memory_gb() -> anyhow::Result<f64> {
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    Ok(total.context("/proc/meminfo has no MemTotal")?.parse::<f64>()? / f64::from(1 << 20))
}
