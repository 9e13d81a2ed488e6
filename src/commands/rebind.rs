//! `secretaria rebind` — makes policies and triggers call the extension's functions, or PL/pgSQL's again. Safe to repeat.
//!
//! Both are bound to functions by oid, not by name: those made before `create extension` keep calling PL/pgSQL's.
//! Each is altered in place, all in one transaction; names, roles and whether a trigger is enabled stay.

use anyhow::{Context, bail};
use clap::{Args as ClapArgs, ValueEnum};
use platform::task;
use tokio_postgres::{Client, NoTls, Transaction};

use super::say;
use crate::Settings;

/// Arguments of `rebind`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Whose functions are to be called.
    #[arg(long, value_enum, default_value_t = Side::Extension)]
    to: Side,
    /// Print the statements, and run none.
    #[arg(long)]
    dry_run: bool,
}

/// Whose functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Those of the extension, in the schema `secretaria`.
    Extension,
    /// Those in PL/pgSQL, in the schema `secretaria_reference`.
    Reference,
}

impl Side {
    fn schema(self) -> &'static str {
        match self {
            Side::Extension => "secretaria",
            Side::Reference => "secretaria_reference",
        }
    }

    fn other(self) -> Side {
        match self {
            Side::Extension => Side::Reference,
            Side::Reference => Side::Extension,
        }
    }
}

/// Whether to run the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// None is run.
    Dry,
    /// All are run in one transaction.
    Real,
}

/// What was found bound to the other side.
#[derive(Debug, Default)]
pub struct Bindings {
    /// What moves, with the statements that move it: `policy paid_for on table public.reports`.
    pub moves: Vec<(String, String)>,
    /// What stays, because it is neither a policy nor a trigger, or there is no function of that name on this side.
    pub stays: Vec<String>,
}

/// Moves what is bound to one side's functions that the other side has as well. `$1` from, `$2` to.
///
/// Read with only the one schema on the search path, so that its functions, and no others, are spelled without a schema;
/// understood again with the other schema before it, the same text means the other's functions. Nothing is replaced in it.
const MOVES: &str = "
with of_extension as (
  select d.objid as oid
  from pg_depend d
  join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
  where d.classid = 'pg_proc'::regclass and d.deptype = 'e' and e.extname = 'secretaria'
),
moving as (
  select f.oid
  from pg_proc f
  join pg_proc t on t.proname = f.proname and t.proargtypes = f.proargtypes
  where f.pronamespace = to_regnamespace($1) and t.pronamespace = to_regnamespace($2)
    and (f.oid in (select oid from of_extension) or t.oid in (select oid from of_extension))
),
tables as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
)
select 1 as turn, format('policy %s on table %s', p.polname, t.name) as what,
  concat(format('alter policy %I on %s', p.polname, t.name),
    ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
    ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') as statement
from pg_policy p
join tables t on t.oid = p.polrelid
where exists (
    select
    from pg_depend d
    where d.classid = 'pg_policy'::regclass and d.objid = p.oid
      and d.refclassid = 'pg_proc'::regclass and d.refobjid in (select oid from moving)
  )
union all
-- Those of partitions go with their parent's.
select 2, format('trigger %s on table %s', g.tgname, t.name),
  regexp_replace(pg_get_triggerdef(g.oid), '^CREATE TRIGGER', 'create or replace trigger')
from pg_trigger g
join tables t on t.oid = g.tgrelid
where g.tgfoid in (select oid from moving)
  and not g.tgisinternal
  and g.tgparentid = 0
union all
-- A trigger that is replaced is enabled; one that was not is to stay so.
select 3, format('trigger %s on table %s stays as it is: %s', g.tgname, t.name,
    case g.tgenabled when 'D' then 'disabled' when 'R' then 'for replicas' else 'always' end),
  format('alter table only %s %s trigger %I', t.name,
    case g.tgenabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end, g.tgname)
from pg_trigger g
join tables t on t.oid = g.tgrelid
where g.tgfoid in (select oid from moving)
  and g.tgenabled <> 'O'
order by 1, 2";

/// Whatever is bound to the public functions of a schema. `$1` the schema.
const BOUND: &str = "
select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as what
from pg_depend d
join pg_proc f on f.oid = d.refobjid and d.refclassid = 'pg_proc'::regclass
where f.pronamespace = to_regnamespace($1)
  and f.proname !~ '^_'
  and d.deptype = 'n'
  and not (d.classid = 'pg_trigger'::regclass
    and exists (select from pg_trigger g where g.oid = d.objid and (g.tgisinternal or g.tgparentid <> 0)))
  and (f.pronamespace <> 'secretaria'::regnamespace
    or exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = f.oid and e.deptype = 'e'))
order by 1";

/// How long to wait for a table in use: all later statements on that table wait behind this one.
const LOCK_WAIT: &str = "set local lock_timeout = '10s'";

/// Moves policies and triggers, and prints which.
///
/// # Errors
/// If Postgres is away or refuses, if a table stays in use, or if the extension is wanted and not there.
pub async fn run(settings: &Settings, args: &Args) -> anyhow::Result<()> {
    let (mut client, connection) = tokio_postgres::connect(settings.postgres.owner_url.expose(), NoTls)
        .await
        .context("setting `postgres.owner_url`; where the local stack is meant, `make up` starts it")?;
    let connection = task::spawn("rebind", connection);
    let mode = if args.dry_run { Mode::Dry } else { Mode::Real };
    let found = rebind(&mut client, args.to, mode).await?;
    drop(client);
    connection.abort();
    match mode {
        // As it would be run: the names mean what they mean on this path.
        Mode::Dry if !found.moves.is_empty() => {
            say(format_args!("begin;\n{LOCK_WAIT};\n{};", path(&[args.to, args.to.other()])))?;
            for (_, statement) in &found.moves {
                say(format_args!("{statement};"))?;
            }
            say("commit;")?;
        }
        Mode::Dry => {}
        Mode::Real => {
            for (what, _) in &found.moves {
                say(format_args!("moved            {what}"))?;
            }
        }
    }
    for what in &found.stays {
        say(format_args!("left alone       {what}"))?;
    }
    if found.moves.is_empty() {
        say(format_args!("nothing to move to {}", args.to.schema()))?;
    }
    Ok(())
}

/// Moves everything that can be moved to one side, or only returns what that would be.
///
/// # Errors
/// As [`run`]; nothing is moved then.
pub async fn rebind(client: &mut Client, to: Side, mode: Mode) -> anyhow::Result<Bindings> {
    let transaction = client.transaction().await?;
    if to == Side::Extension && !is_installed(&transaction).await? {
        bail!("the extension is not installed in this database: `create extension secretaria`");
    }
    transaction.batch_execute(LOCK_WAIT).await?;
    let from = to.other();
    let moves = moves(&transaction, from, to).await?;
    if mode == Mode::Real {
        read_as(&transaction, &[to, from]).await?;
        for (what, statement) in &moves {
            transaction.batch_execute(statement).await.with_context(|| what.clone())?;
        }
        if let Some((what, _)) = self::moves(&transaction, from, to).await?.first() {
            bail!("{what} is still bound to {}", from.schema());
        }
    }
    let mut stays = bound(&transaction, from).await?;
    if mode == Mode::Dry {
        stays.retain(|stays| !moves.iter().any(|(what, _)| what == stays));
    }
    transaction.commit().await?;
    Ok(Bindings { moves, stays })
}

async fn is_installed(transaction: &Transaction<'_>) -> anyhow::Result<bool> {
    let sql = "select exists (select from pg_extension where extname = 'secretaria')";
    Ok(transaction.query_one(sql, &[]).await?.get(0))
}

async fn moves(transaction: &Transaction<'_>, from: Side, to: Side) -> anyhow::Result<Vec<(String, String)>> {
    read_as(transaction, &[from]).await?;
    let rows = transaction.query(MOVES, &[&from.schema(), &to.schema()]).await?;
    Ok(rows.iter().map(|row| (row.get("what"), row.get("statement"))).collect())
}

/// Everything bound to a side, named as moves are.
async fn bound(transaction: &Transaction<'_>, side: Side) -> anyhow::Result<Vec<String>> {
    // Without a schema on the path, every name has its own.
    transaction.batch_execute("set local search_path = pg_catalog").await?;
    let rows = transaction.query(BOUND, &[&side.schema()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Which schemas a name without one is looked for in, until the transaction ends.
async fn read_as(transaction: &Transaction<'_>, sides: &[Side]) -> anyhow::Result<()> {
    transaction.batch_execute(&path(sides)).await?;
    Ok(())
}

fn path(sides: &[Side]) -> String {
    let schemas: Vec<_> = sides.iter().map(|side| side.schema()).collect();
    format!("set local search_path = {}, pg_temp", schemas.join(", "))
}
