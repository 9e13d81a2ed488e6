//! `secretaria queue` — shows the job queues, pauses them, and cancels, retries and drops jobs.

use anyhow::{Context, bail};
use clap::{Args as ClapArgs, Subcommand};
use domain::CompanyId;
use platform::postgres::Db;
use platform::processor::{Entry, Removal};
use platform::queue::operate::{self, Dead, DeadFilter, Part, Run};
use platform::queue::overview::{self, Filter, JobView, Scope, State, Totals};
use platform::queue::{Change, Queue};
use uuid::Uuid;

use super::{company_named, operator, say};
use crate::{Settings, processors};

/// The subcommands of `queue`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How many jobs are in each state, how long the oldest has been due, and what is paused.
    List(ListArgs),
    /// One line per job: its state, lane, attempts, lease, and why it is dead.
    Show(ShowArgs),
    /// Claim no jobs of a queue, or of one company in it; running jobs continue, and deadlines run on.
    Pause(PauseArgs),
    /// Claim jobs again.
    Resume(PartArgs),
    /// Remove one live job, or request the end of one that runs.
    Cancel(CancelArgs),
    /// Enqueue dead jobs again.
    Retry(DeadArgs),
    /// Delete dead jobs for good.
    Drop(DeadArgs),
}

/// Whose jobs are counted.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Of one company, by domain or id.
    #[arg(long)]
    company: Option<String>,
    /// A line for each company that has jobs or is paused.
    #[arg(long, conflicts_with = "company")]
    each_company: bool,
}

/// Which jobs.
#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// Of one queue.
    #[arg(value_name = "QUEUE", value_parser = queue_named)]
    queue: Option<&'static Entry>,
    /// Of one company, by domain or id.
    #[arg(long)]
    company: Option<String>,
    /// One job, by its key.
    #[arg(long)]
    key: Option<Uuid>,
    /// In one state: scheduled, ready, waiting, running or dead.
    #[arg(long, value_parser = state_named)]
    state: Option<State>,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// A queue, or one company in it.
#[derive(Debug, ClapArgs)]
pub struct PartArgs {
    /// The queue.
    #[arg(value_name = "QUEUE", value_parser = queue_named)]
    queue: &'static Entry,
    /// Only this company, by domain or id.
    #[arg(long)]
    company: Option<String>,
}

/// What to pause, and who does.
#[derive(Debug, ClapArgs)]
pub struct PauseArgs {
    #[command(flatten)]
    part: PartArgs,
    /// Who pauses it; `secretaria queue list` shows the name.
    #[arg(long, env = "USER", default_value = "operator", value_name = "NAME")]
    by: String,
}

/// Which job.
#[derive(Debug, ClapArgs)]
pub struct CancelArgs {
    /// The queue.
    #[arg(value_name = "QUEUE", value_parser = queue_named)]
    queue: &'static Entry,
    /// Its company, by domain or id.
    #[arg(long)]
    company: String,
    /// Its key, as `secretaria queue show` prints it.
    #[arg(long)]
    key: Uuid,
}

/// Which dead jobs, and whether only to show what would be done.
#[derive(Debug, ClapArgs)]
pub struct DeadArgs {
    /// The queue.
    #[arg(value_name = "QUEUE", value_parser = queue_named)]
    queue: &'static Entry,
    /// Of one company, by domain or id.
    #[arg(long)]
    company: Option<String>,
    /// One job, by its key.
    #[arg(long)]
    key: Option<Uuid>,
    /// With this cause.
    #[arg(long)]
    cause: Option<String>,
    /// At most this many, the oldest first.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The processor whose queue has that name.
fn queue_named(name: &str) -> Result<&'static Entry, String> {
    let found = processors::ALL.iter().find(|it| it.queue.is_some_and(|queue| queue.name() == name));
    found.ok_or_else(|| {
        let names: Vec<&str> = processors::queues().into_iter().map(Queue::name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn state_named(name: &str) -> Result<State, String> {
    let found = State::ALL.into_iter().find(|it| it.as_str() == name);
    found.ok_or_else(|| format!("there are {}", State::ALL.map(State::as_str).join(", ")))
}

/// Runs the subcommand.
///
/// # Errors
/// If Postgres is away, a company or a job is unknown, or the queue's processor does not let its jobs be removed.
pub async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    let db = operator(settings).await?;
    match command {
        Command::List(args) => list(&db, args).await,
        Command::Show(args) => show(&db, args).await,
        Command::Pause(args) => pause(&db, args).await,
        Command::Resume(args) => resume(&db, args).await,
        Command::Cancel(args) => cancel(&db, args).await,
        Command::Retry(args) => retry(&db, args).await,
        Command::Drop(args) => drop_dead(&db, args).await,
    }
}

async fn list(db: &Db, args: ListArgs) -> anyhow::Result<()> {
    let scope = match args.company {
        Some(name) => Scope::Company(company_named(db, &name).await?),
        None if args.each_company => Scope::EachCompany,
        None => Scope::AllCompanies,
    };
    say(format_args!(
        "{:<10} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11}  paused",
        "queue", "company", "scheduled", "ready", "waiting", "running", "dead", "oldest due"
    ))?;
    for it in overview::overview(db, &processors::queues(), scope).await? {
        let company = it.company.map_or_else(|| "all".to_owned(), |it| it.to_string());
        let oldest = it.oldest_due.map_or_else(|| "-".to_owned(), |it| format!("{} s", it.as_secs()));
        say(format_args!(
            "{:<10} {company:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {oldest:>11}  {}",
            it.queue,
            it.scheduled,
            it.ready,
            it.waiting,
            it.running,
            it.dead,
            pauses(&it),
        ))?;
    }
    Ok(())
}

fn pauses(totals: &Totals) -> String {
    match (&totals.paused, totals.paused_companies) {
        (Some((since, by)), _) => format!("since {since:.0} by {by}"),
        (None, 0) => "-".to_owned(),
        (None, 1) => "1 company".to_owned(),
        (None, companies) => format!("{companies} companies"),
    }
}

async fn show(db: &Db, args: ShowArgs) -> anyhow::Result<()> {
    let company = company_of(db, args.company.as_deref()).await?;
    let queue = args.queue.and_then(|it| it.queue);
    let filter = Filter { queue, company, key: args.key, state: args.state, limit: args.limit };
    let jobs = overview::show(db, &filter).await?;
    for job in &jobs {
        say(line(job))?;
    }
    Ok(say(format_args!("{} jobs", jobs.len()))?)
}

fn line(job: &JobView) -> String {
    let JobView { state, queue, company, key, lane, attempts, due_at, lease, dead } = job;
    let mut line = format!("{state:<9}  {queue}  company {company}  {key}");
    if let Some(lane) = lane {
        line += &format!("  lane {lane}");
    }
    line += &format!("  {}", counted(*attempts));
    if let Some(due_at) = due_at {
        line += &format!("  due {due_at:.0}");
    }
    if let Some(lease) = lease {
        let (by, at, until) = (&lease.claimed_by, lease.claimed_at, lease.until);
        line += &format!("  claimed by {by} at {at:.0}, lease until {until:.0}");
        if let Some(permille) = lease.progress_permille {
            line += &format!(", {}.{} % done", permille / 10, permille % 10);
        }
        if lease.cancel_requested {
            line += ", cancellation requested";
        }
    }
    if let Some(death) = dead {
        line += &format!("  dead since {:.0}  {}  {}", death.died_at, death.cause, death.detail);
    }
    line.trim_end().to_owned()
}

fn counted(attempts: i32) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

async fn pause(db: &Db, args: PauseArgs) -> anyhow::Result<()> {
    let (queue, part) = part_of(db, &args.part).await?;
    if !operate::pause(db, queue, part, &args.by).await? {
        return Ok(say(format_args!("{} is paused already", described(queue, part)))?);
    }
    Ok(say(format_args!(
        "{} is paused: nothing of it is claimed; what runs goes on, and deadlines run on",
        described(queue, part)
    ))?)
}

async fn resume(db: &Db, args: PartArgs) -> anyhow::Result<()> {
    let (queue, part) = part_of(db, &args).await?;
    let resumed = operate::resume(db, queue, part).await?;
    let state = if resumed.was_paused { "is resumed" } else { "was not paused" };
    say(format_args!("{} {state}", described(queue, part)))?;
    match (part, resumed.paused_companies) {
        (Part::Company(_), _) if resumed.whole_is_paused => {
            say(format_args!("the queue as a whole is still paused: `secretaria queue resume {queue}`"))?;
        }
        (Part::Whole, 1..) => {
            let companies = resumed.paused_companies;
            say(format_args!(
                "companies still paused: {companies}; `secretaria queue list --each-company` shows them"
            ))?;
        }
        _ => {}
    }
    Ok(())
}

fn described(queue: Queue, part: Part) -> String {
    match part {
        Part::Whole => format!("queue {queue}"),
        Part::Company(company) => format!("queue {queue} of company {company}"),
    }
}

async fn cancel(db: &Db, args: CancelArgs) -> anyhow::Result<()> {
    let queue = removable(args.queue, "cancelled")?;
    let company = company_named(db, &args.company).await?;
    match operate::cancel_one(db, queue, company, args.key).await? {
        Change::Made => Ok(say("cancelled")?),
        Change::Running => {
            Ok(say("is running: cancellation is requested, and takes effect when its call checks for it")?)
        }
        Change::Missing => bail!(
            "no live job {} of company {company} in queue {queue}: `secretaria queue show {queue}` shows them, \
             `secretaria queue drop` deletes a dead one",
            args.key
        ),
    }
}

async fn retry(db: &Db, args: DeadArgs) -> anyhow::Result<()> {
    let queue = queue_of(args.queue)?;
    let dead = operate::retry(db, queue, &dead_filter(db, &args).await?, run_mode(&args)).await?;
    let (live, again): (Vec<Dead>, Vec<Dead>) = dead.into_iter().partition(|it| it.is_live);
    report(&again, &args, "enqueued again")?;
    for it in &live {
        say(format_args!("{}  skipped: a job with its key is live", dead_line(it)))?;
    }
    Ok(())
}

async fn drop_dead(db: &Db, args: DeadArgs) -> anyhow::Result<()> {
    let queue = removable(args.queue, "dropped").context("`secretaria queue retry` enqueues them again")?;
    let dead = operate::drop(db, queue, &dead_filter(db, &args).await?, run_mode(&args)).await?;
    Ok(report(&dead, &args, "dropped")?)
}

fn report(dead: &[Dead], args: &DeadArgs, done: &str) -> std::io::Result<()> {
    for it in dead {
        say(dead_line(it))?;
    }
    let would = if args.dry_run { "would be " } else { "" };
    say(format_args!("{} {would}{done}", dead.len()))
}

fn dead_line(dead: &Dead) -> String {
    format!("company {}  {}  {}  after {}", dead.company, dead.key, dead.cause, counted(dead.attempts))
}

fn run_mode(args: &DeadArgs) -> Run {
    if args.dry_run { Run::Dry } else { Run::Real }
}

async fn dead_filter(db: &Db, args: &DeadArgs) -> anyhow::Result<DeadFilter> {
    let company = company_of(db, args.company.as_deref()).await?;
    Ok(DeadFilter { company, key: args.key, cause: args.cause.clone(), limit: args.limit })
}

async fn company_of(db: &Db, name: Option<&str>) -> anyhow::Result<Option<CompanyId>> {
    match name {
        Some(name) => Ok(Some(company_named(db, name).await?)),
        None => Ok(None),
    }
}

async fn part_of(db: &Db, args: &PartArgs) -> anyhow::Result<(Queue, Part)> {
    let company = company_of(db, args.company.as_deref()).await?;
    Ok((queue_of(args.queue)?, company.map_or(Part::Whole, Part::Company)))
}

fn queue_of(entry: &Entry) -> anyhow::Result<Queue> {
    entry.queue.with_context(|| format!("processor {} has no queue", entry.name.as_str()))
}

/// The queue, if its jobs may be removed.
fn removable(entry: &Entry, removed: &str) -> anyhow::Result<Queue> {
    let queue = queue_of(entry)?;
    match entry.removal {
        Removal::Allowed => Ok(queue),
        Removal::Refused(why) => bail!("jobs of queue {queue} cannot be {removed}: {why}"),
    }
}
