//! `demo` — plays the scenarios of this folder against a running stack, and compares every number with what they say.
//!
//! Reads the same settings as `secretaria`, and where the sandbox listens. Every run writes from numbers and with
//! message ids of its own, so it counts its own work only and may be repeated. Exits 1 if a number is off, and says
//! which.

mod run;
mod scenario;
mod companies;
mod hook;
mod providers;
mod player;
mod wait;
mod expectation;
mod results;
mod compare;
mod report;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

use run::Run;
use scenario::{Scenario, Script};

/// Companies are served, and everything is accounted for.
#[derive(Parser)]
struct Cli {
    /// Where the sandbox that plays the providers listens.
    #[arg(long, env = "SANDBOX_LISTEN", default_value = "127.0.0.1:8090")]
    sandbox: SocketAddr,
    /// By how much the stack's ports are shifted: where its file of URLs is follows from it.
    #[arg(long, env = "SECRETARIA_PORT_SHIFT", default_value_t = 0)]
    shift: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo(Cli::parse()).await {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("demo: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(cli: Cli) -> anyhow::Result<ExitCode> {
    let run = Run::begin(cli.sandbox)?;
    let Script { companies, scenarios } = scenario::load(run.began)?;
    let companies = companies::register(&run, companies).await?;
    for company in &companies {
        wait::until_ingest_knows(&run, company).await?;
    }
    wait::until_at_rest(&run, &companies).await?;
    companies::receive_alerts(&run, &companies).await?;
    let before = results::numbers(&run, &companies).await?;
    let faults = providers::add_faults(&run, &scenarios).await?;

    let hooks = scenarios.iter().flat_map(Scenario::hooks).count();
    let digits = run::digits(run.began);
    println!("\nRun {digits}: {hooks} hooks to {} companies, each contact waits for the answer.", companies.len());
    let played = player::play(&run, &companies, &scenarios).await?;
    let late = wait::until_at_rest(&run, &companies).await.err().map(|it| format!("{it:#}"));

    let results = results::read(&run, &companies, &scenarios, &played, &before, &faults).await?;
    let compared = compare::all(&companies, &scenarios, &played, &results, late);
    report::print(&companies, &scenarios, &played, &results);
    let env = if cli.shift == 0 { ".local/env".to_owned() } else { format!(".local/shift-{}/env", cli.shift) };
    report::close(&run, &env, companies.first(), &compared);
    Ok(if compared.off.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
