//! What a flood of one company costs another that is quiet: from due to committed, beside the same company alone.
//!
//! Due is when the message's turn was opened, by the clock of Postgres. Committed is when its end was first seen from
//! another connection, which looks every five milliseconds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use domain::CompanyId;
use jiff::Timestamp;
use platform::clock;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::load::Load;
use crate::model::Model;
use crate::site::Site;

/// Messages of a flood.
pub(crate) const FLOOD: usize = 20_000;

/// Messages of the flooding company before anything is measured.
const USED: usize = 2_000;

/// How long it may take until all is answered.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A site with two companies that share no partition, and their contacts.
pub(crate) struct Bench {
    site: Site,
    quiet: CompanyId,
    of_quiet: Arc<Load>,
    flooding: CompanyId,
    /// One contact per message of a flood: no two messages of a flood share a lane.
    of_flood: Load,
    window: usize,
}

/// A round: 99th percentiles in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) beside_ms: f64,
    pub(crate) alone_ms: f64,
}

impl Bench {
    /// Makes the companies; the flood is `flood` messages a round.
    pub(crate) async fn new(site: Site, window: usize, flood: usize) -> anyhow::Result<Self> {
        let companies = site.add_companies(20).await?;
        let quiet = companies[0];
        let all = Load::new(&site.settings.kafka, &companies, 1)?;
        let flooding =
            *companies.iter().find(|it| !all.meet(quiet, **it)).context("all companies share a partition")?;
        let of_quiet = Arc::new(Load::new(&site.settings.kafka, &[quiet], 1_000)?);
        let of_flood = Load::new(&site.settings.kafka, &[flooding], flood)?;
        let bench = Bench { site, quiet, of_quiet, flooding, of_flood, window };
        bench.use_it().await?;
        Ok(bench)
    }

    /// A database that has been in use has statistics of its tables.
    async fn use_it(&self) -> anyhow::Result<()> {
        let model = Model::start(Arc::clone(&self.of_quiet)).await?;
        let process = self.site.start("reply", self.window, &model.url())?;
        (0..USED.min(self.of_flood.contacts())).for_each(|it| self.of_flood.write(it));
        self.of_flood.flush()?;
        self.until(self.flooding, self.of_flood.sent()).await?;
        process.stop().await?;
        Ok(self.site.root.batch_execute("analyze").await?)
    }

    /// One round: for this long alone, then beside a flood until it is over.
    pub(crate) async fn round(&self, alone: Duration) -> anyhow::Result<Round> {
        let model = Model::start(Arc::clone(&self.of_quiet)).await?;
        let mut process = self.site.start("reply", self.window, &model.url())?;
        // The first message waits for the start.
        self.of_quiet.write(0);
        self.until(self.quiet, self.of_quiet.sent()).await?;
        let deadline = clock::instant() + alone;
        let mut watch = Watch::default();
        while clock::instant() < deadline {
            self.watch_a_second(&mut watch).await?;
        }
        let alone_ms = watch.p99_ms()?;
        (0..self.of_flood.contacts()).for_each(|it| self.of_flood.write(it));
        let (flooded, deadline) = (i64::try_from(self.of_flood.sent())?, clock::instant() + TIMEOUT);
        let mut watch = Watch::default();
        while self.turns_of(self.flooding).await? < flooded {
            process.must_run()?;
            ensure!(clock::instant() < deadline, "the flood does not end");
            self.watch_a_second(&mut watch).await?;
        }
        self.of_flood.flush()?;
        self.until(self.quiet, self.of_quiet.sent()).await?;
        let beside_ms = watch.p99_ms()?;
        process.stop().await?;
        self.check(flooded).await?;
        Ok(Round { beside_ms, alone_ms })
    }

    /// The quiet company gets one message, and its turns are watched for a second.
    async fn watch_a_second(&self, watch: &mut Watch) -> anyhow::Result<()> {
        let contact = usize::try_from(self.of_quiet.sent())? % self.of_quiet.contacts();
        self.of_quiet.write(contact);
        let mut looks = interval(Duration::from_millis(5));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let until = clock::instant() + Duration::from_secs(1);
        while clock::instant() < until {
            looks.tick().await;
            let sql = "select turn_id, opened_at, ended_at, clock_timestamp() from secretaria.turns
                       where company_id = $1 and (state <> 'ended' or ended_at > now() - interval '2 seconds')";
            for row in self.site.root.query(sql, &[&self.quiet.0]).await? {
                let ended: Option<Timestamp> = row.get(2);
                watch.saw(row.get(0), row.get(1), ended.is_some(), row.get(3));
            }
        }
        Ok(())
    }

    async fn turns_of(&self, company: CompanyId) -> anyhow::Result<i64> {
        let sql = format!("select count(*) from secretaria.turns where company_id = {company} and state = 'ended'");
        self.site.number(&sql).await
    }

    async fn until(&self, company: CompanyId, turns: u64) -> anyhow::Result<()> {
        let deadline = clock::instant() + TIMEOUT;
        while self.turns_of(company).await? < i64::try_from(turns)? {
            ensure!(clock::instant() < deadline, "a company's turns do not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn check(&self, flooded: i64) -> anyhow::Result<()> {
        let sent = flooded + i64::try_from(self.of_quiet.sent())?;
        for sql in [
            "select count(*) from secretaria.turns where state = 'ended' and outcome = 'replied'",
            "select count(*) from secretaria.messages where direction = 'out'",
        ] {
            let found = self.site.number(sql).await?;
            ensure!(found == sent, "{found} instead of {sent}: {sql}");
        }
        self.site.check_conservation().await
    }
}

/// When turns became due, and when they were first seen to have ended.
#[derive(Debug, Default)]
struct Watch {
    under_way: HashSet<Uuid>,
    took: HashMap<Uuid, Duration>,
}

impl Watch {
    fn saw(&mut self, turn: Uuid, due: Timestamp, has_ended: bool, now: Timestamp) {
        if !has_ended {
            self.under_way.insert(turn);
        } else if self.under_way.remove(&turn) {
            self.took.insert(turn, Duration::try_from(now.duration_since(due)).unwrap_or_default());
        }
    }

    fn p99_ms(&self) -> anyhow::Result<f64> {
        let mut took: Vec<Duration> = self.took.values().copied().collect();
        took.sort();
        ensure!(took.len() >= 3, "only {} turns of the quiet company were seen", took.len());
        Ok(took[(took.len() * 99).div_ceil(100) - 1].as_secs_f64() * 1e3)
    }
}
