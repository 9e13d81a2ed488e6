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
    hook::check(&scenarios)?;
    let mut registered = Vec::new();
    for company in companies {
        let company = companies::register(&run, company).await?;
        wait::until_ingest_knows(&run, &company).await?;
        registered.push(company);
    }
    let companies = registered;
    wait::until_at_rest(&run, &companies).await?;
    let mut before = Vec::new();
    for company in &companies {
        companies::receive_alerts(&run, &company.company).await?;
        before.push(results::numbers(&run, company.id).await?);
    }
    let faults = providers::add_faults(&run, &scenarios).await?;

    let (number, hooks) = (run::digits(run.began), scenarios.iter().flat_map(Scenario::hooks).count());
    println!("\nRun {number}: {hooks} hooks to {} companies, each contact waits for the answer.", companies.len());
    let played = player::play(&run, &companies, &scenarios).await?;
    let late = wait::until_at_rest(&run, &companies).await.err().map(|it| format!("{it:#}"));

    let found = results::read(&run, &companies, &scenarios, &played, &before, &faults).await?;
    let compared = compare::all(&companies, &scenarios, &played, &found, late);
    report::print(&companies, &scenarios, &found)?;
    report::verdict(&compared);
    Ok(if compared.off.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
