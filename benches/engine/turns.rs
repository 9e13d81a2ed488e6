//! Turns a second through one engine: the real binary, or the peer with the same result transaction.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use domain::{CompanyId, Topic};
use platform::clock;
use tokio::time::sleep;

use crate::load::Load;
use crate::model::Model;
use crate::peers;
use crate::process::{Cpu, Process, Servers};
use crate::site::Site;

/// How long an engine may take to answer everything that is left.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// `secretaria process --only reply`.
    Ours,
    /// Confluent's parallel consumer, with our relay beside it.
    ParallelConsumer,
}

/// One engine on a site of its own; rounds follow one another on the same rows.
pub(crate) struct Bench {
    site: Site,
    load: Arc<Load>,
    engine: Engine,
    kafka: Option<u32>,
}

/// What is measured, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Calls in flight at once.
    pub(crate) window: usize,
    /// From the first reply until measuring begins.
    pub(crate) warm_up: Duration,
    /// How long is measured.
    pub(crate) measured: Duration,
}

/// The result of a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Turns whose reply was committed, per second.
    pub(crate) per_s: f64,
    pub(crate) cpu: Cpu,
    /// Turns of the measured span.
    pub(crate) turns: f64,
    /// How long it was.
    pub(crate) seconds: f64,
    /// The most memory the engine had.
    pub(crate) rss_mb: f64,
}

impl Round {
    /// How much of all cores was in use, in percent.
    pub(crate) fn machine_pct(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        100.0 * self.cpu.machine.as_secs_f64() / self.seconds / cores as f64
    }

    /// CPU of engine and Postgres per turn, in microseconds.
    pub(crate) fn cpu_us_per_turn(&self) -> f64 {
        (self.cpu.engine + self.cpu.postgres).as_secs_f64() * 1e6 / self.turns
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |of: Duration| of.as_secs_f64() * 1e6 / self.turns;
        write!(
            f,
            "{:>6.0} turns/s, machine {:>3.0} %; CPU µs a turn: engine {:.0}, postgres {:.0}, kafka {:.0}, model and \
             load {:.0}; peak memory {:.0} MB",
            self.per_s,
            self.machine_pct(),
            us(self.cpu.engine),
            us(self.cpu.postgres),
            us(self.cpu.kafka),
            us(self.cpu.bench),
            self.rss_mb
        )
    }
}

impl Bench {
    /// An engine, and this many contacts of this many companies that write to it.
    pub(crate) async fn new(
        site: Site,
        engine: Engine,
        (companies, contacts): (usize, usize),
        kafka: Option<u32>,
    ) -> anyhow::Result<Self> {
        let companies: Vec<CompanyId> = site.add_companies(companies).await?;
        let load = Load::new(&site.settings.kafka, &companies, contacts / companies.len())?;
        Ok(Bench { site, load: Arc::new(load), engine, kafka })
    }

    /// One round: everything that was written in it is answered and checked.
    pub(crate) async fn round(&self, span: Span) -> anyhow::Result<Round> {
        let model = Model::start(Arc::clone(&self.load)).await?;
        let servers = Servers::find(&self.site.root, self.kafka).await?;
        let before = self.ended().await?;
        self.load.open(true);
        (0..self.load.contacts()).for_each(|it| self.load.write(it));
        let mut processes = self.start(span.window, &model)?;
        let engine = processes.iter().map(Process::pid).collect::<Vec<_>>();
        self.until_ended(before + 1, &mut processes).await.context("the first turn")?;
        sleep(span.warm_up).await;
        // Statistics that autovacuum collects in its first minutes, and that any database in use has.
        self.site.root.batch_execute("analyze").await?;
        let (cpu, began, first) = (Cpu::read(&engine, &servers)?, clock::instant(), self.ended().await?);
        sleep(span.measured).await;
        let (last, took, cpu) = (self.ended().await?, began.elapsed(), Cpu::read(&engine, &servers)?.since(cpu));
        self.load.open(false);
        self.load.flush()?;
        self.until_ended(i64::try_from(self.load.sent())?, &mut processes).await.context("the last turns")?;
        self.until_published(&mut processes).await?;
        let rss_mb = processes[0].peak_memory_mb()?;
        for process in processes {
            process.stop().await?;
        }
        self.check().await?;
        let turns = (last - first) as f64;
        Ok(Round { per_s: turns / took.as_secs_f64(), cpu, turns, seconds: took.as_secs_f64(), rss_mb })
    }

    fn start(&self, window: usize, model: &Model) -> anyhow::Result<Vec<Process>> {
        match self.engine {
            Engine::Ours => Ok(vec![self.site.start("reply", window, &model.url())?]),
            Engine::ParallelConsumer => Ok(vec![
                peers::start_parallel_consumer(&self.site, window, &model.url())?,
                // Relays the outbox; alerts itself has nothing to do.
                self.site.start("alerts", 1, &model.url())?,
            ]),
        }
    }

    async fn ended(&self) -> anyhow::Result<i64> {
        self.site.number("select count(*) from secretaria.turns where state = 'ended'").await
    }

    async fn until_ended(&self, turns: i64, processes: &mut [Process]) -> anyhow::Result<()> {
        let deadline = clock::instant() + TIMEOUT;
        while self.ended().await? < turns {
            processes.iter_mut().try_for_each(Process::must_run)?;
            ensure!(clock::instant() < deadline, "{} of {turns} turns have ended", self.ended().await?);
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What the relay has published and not yet deleted would be published again by the next one.
    async fn until_published(&self, processes: &mut [Process]) -> anyhow::Result<()> {
        let deadline = clock::instant() + TIMEOUT;
        while self.site.number("select count(*) from secretaria.outbox").await? > 0 {
            processes.iter_mut().try_for_each(Process::must_run)?;
            ensure!(clock::instant() < deadline, "the outbox is not published");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Nothing lost, doubled or out of order since the site was made.
    async fn check(&self) -> anyhow::Result<()> {
        let sent = i64::try_from(self.load.sent())?;
        for (what, sql) in CHECKS {
            let found = self.site.number(sql).await?;
            let wanted = if what.starts_with("no ") { 0 } else { sent };
            ensure!(found == wanted, "{what}: {found}, and {sent} messages were written");
        }
        let published = self.site.records(Topic::OutboundMessages).await?;
        ensure!(published == sent, "{published} replies were published, of {sent}");
        if self.engine == Engine::Ours {
            self.site.check_conservation().await?;
        }
        Ok(())
    }
}

/// The n-th message of a conversation, in and out, must be the n-th that was written; each reply answers its own turn.
const CHECKS: [(&str, &str); 6] = [
    ("messages in", "select count(*) from secretaria.messages where direction = 'in'"),
    ("replies", "select count(*) from secretaria.messages where direction = 'out'"),
    ("turns that replied", "select count(*) from secretaria.turns where state = 'ended' and outcome = 'replied'"),
    (
        "events marked as done",
        "select count(*) from secretaria.event_outcomes where processor = 'reply' and state = 'done'",
    ),
    (
        "no messages out of order",
        "select count(*)
         from (
           select substring(body from '#:\\d+-(\\d+);#')::bigint as number,
             row_number() over (partition by company_id, conversation_id, direction order by position) as place
           from secretaria.messages
         ) m
         where number is distinct from place",
    ),
    (
        "no turns answered with another's reply",
        "select count(*)
         from secretaria.messages i
         join secretaria.messages o using (company_id, turn_id)
         where i.direction = 'in' and o.direction = 'out'
           and (substring(i.body from '#:[^;]+') <> substring(o.body from '#:[^;]+') or i.position >= o.position)",
    ),
];
