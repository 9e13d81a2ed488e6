//! `demo` — two companies, a script of hooks, and whether every number is what the script says it must be.
//!
//! Needs a running stack: reads the same settings as `secretaria`, and where the sandbox listens. Every run writes from
//! numbers and with message ids of its own, so it counts its own work only and may be repeated. Exits 1 if a number is
//! off, and says which.

mod stage;
mod cast;
mod hook;
mod script;
mod dialogues;
mod sandbox;
mod alerts;
mod send;
mod play;
mod watch;
mod found;
mod people;
mod plan;
mod compare;
mod report;
mod paragraph;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

use stage::Stage;

/// Two companies are served, and everything is accounted for.
#[derive(Parser)]
struct Cli {
    /// Where the sandbox that plays the providers listens.
    #[arg(long, env = "SANDBOX_LISTEN", default_value = "127.0.0.1:8090")]
    sandbox: SocketAddr,
    /// By how much the stack's ports are shifted: where its file of URLs lies follows from it.
    #[arg(long, env = "SECRETARIA_PORT_SHIFT", default_value_t = 0)]
    shift: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("demo: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let stage = Stage::open(cli.sandbox, cli.shift)?;
    let cast = cast::register(&stage).await?;
    watch::until_ingest_knows(&stage, &cast).await?;
    watch::until_quiet(&stage, &cast).await?;
    let script = script::write(&stage.run)?;
    let before = found::counters(&stage, &cast).await?;
    let faults = sandbox::script(&stage, &script).await?;

    println!("\nRun {}: {} hooks to two companies, each contact waits for the answer.", stage.run, script.hooks());
    let crossing = alerts::provoke(&stage, &cast).await?;
    let played = play::all(&stage, &cast, &script).await?;
    let late = watch::until_settled(&stage, &cast, &script, &played).await?;

    let found = found::read(&stage, &cast, &script, &played, before).await?;
    let provider = sandbox::seen(&stage, &script, &faults).await?;
    let told = alerts::told(&stage, &cast, crossing).await?;
    let people = people::conversations(&stage, &cast, &found).await?;
    let mut compared = compare::all(&script, &played, &found, &provider, &people, late);
    alerts::compare(&told, &mut compared);
    report::print(&cast, &script, &played, &found, &people);
    alerts::print(&told);
    report::close(&stage, &cast, &compared);
    Ok(if compared.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
