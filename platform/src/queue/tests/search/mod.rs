//! An exhaustive search: every order of a few steps on a few jobs, with the invariants checked after each step.

mod steps;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use serde_json::Value;
use steps::Step;

use super::invariants::BROKEN;
use super::*;
use crate::tests::database::in_a_database;

/// The length of the paths: from empty tables, and from a lane that has several jobs.
const DEPTHS: [usize; 2] = [5, 3];

/// All queue tables as one value. A search is one transaction, so that `now()` does not change in it.
const DUMP: &str = "
select jsonb_build_object(
  'jobs', (select jsonb_agg(to_jsonb(t) order by job_key) from secretaria.jobs t),
  'jobs_scheduled', (select jsonb_agg(to_jsonb(t) || jsonb_build_object('is_due', due_at <= now()) order by job_key)
    from secretaria.jobs_scheduled t),
  'jobs_ready', (select jsonb_agg(to_jsonb(t) order by job_key) from secretaria.jobs_ready t),
  'jobs_waiting', (select jsonb_agg(to_jsonb(t) order by job_key) from secretaria.jobs_waiting t),
  'jobs_running', (select jsonb_agg(to_jsonb(t) order by job_key) from secretaria.jobs_running t),
  'jobs_dead', (select jsonb_agg(to_jsonb(t) order by job_key) from secretaria.jobs_dead t),
  'job_lanes', (select jsonb_agg(to_jsonb(t) order by lane) from secretaria.job_lanes t))";

const EMPTY: &str = "
delete from secretaria.jobs;
delete from secretaria.jobs_scheduled;
delete from secretaria.jobs_ready;
delete from secretaria.jobs_waiting;
delete from secretaria.jobs_running;
delete from secretaria.job_lanes";

const TABLES: [&str; 7] =
    ["jobs", "jobs_scheduled", "jobs_ready", "jobs_waiting", "jobs_running", "jobs_dead", "job_lanes"];

/// The contents of the tables, and what the search expects of them.
#[derive(Debug, Clone)]
struct State {
    tables: Value,
    /// Leases that were claimed and have no result yet, stale ones included.
    held: Vec<Claimed>,
    /// The jobs of each lane in the order in which they became due.
    lanes: BTreeMap<u128, Vec<u128>>,
    /// Jobs that were enqueued and have not ended.
    live: BTreeSet<u128>,
    /// Jobs that have been enqueued, each once.
    enqueued: BTreeSet<u128>,
    path: Vec<Step>,
}

impl State {
    fn empty(tables: Value) -> Self {
        let (held, lanes) = (Vec::new(), BTreeMap::new());
        State { tables, held, lanes, live: BTreeSet::new(), enqueued: BTreeSet::new(), path: Vec::new() }
    }

    fn rows(&self, table: &str) -> &[Value] {
        self.tables[table].as_array().map_or(&[], Vec::as_slice)
    }

    /// A key that is the same for states that differ only in the numbers of their fences.
    fn canonical(&self) -> String {
        let fences = self.rows("jobs_running").iter().filter_map(|row| row["fence"].as_i64());
        let fences: BTreeSet<i64> = fences.chain(self.held.iter().map(|it| it.lease.fence)).collect();
        let rank = |fence: i64| fences.range(..fence).count();
        let mut tables = self.tables.clone();
        for row in tables["jobs_running"].as_array_mut().into_iter().flatten() {
            row["fence"] = rank(row["fence"].as_i64().unwrap()).into();
        }
        let held: BTreeSet<_> = self.held.iter().map(|it| (it.lease.key, rank(it.lease.fence))).collect();
        format!("{tables} {held:?} {:?} {:?}", self.lanes, self.enqueued)
    }

    /// Whether a lease is the latest of its job.
    fn holds(&self, lease: Lease) -> bool {
        self.rows("jobs_running").iter().any(|row| row["fence"].as_i64() == Some(lease.fence))
    }

    fn append(&mut self, job: u128) {
        self.lanes.entry(steps::lane_of(job)).or_default().push(job);
    }

    fn ended(&mut self, job: u128) {
        self.live.remove(&job);
        self.lanes.values_mut().for_each(|jobs| jobs.retain(|it| *it != job));
    }
}

/// Fills the tables, which are empty before.
async fn restore(tx: &Transaction<'_>, tables: &Value) {
    for table in TABLES.iter().filter(|it| tables[**it].is_array()) {
        let sql = format!(
            "insert into secretaria.{table} select * from jsonb_populate_recordset(null::secretaria.{table}, $1)"
        );
        crate::postgres::execute(tx, &sql, &[&tables[*table]]).await.unwrap();
    }
}

/// Reads the tables and checks the invariants.
async fn read_tables(tx: &Transaction<'_>, state: &State) -> Value {
    let rows = crate::postgres::query(tx, &format!("select ({DUMP}), array({BROKEN})"), &[]).await.unwrap();
    let (tables, broken): (Value, Vec<String>) = (rows[0].get(0), rows[0].get(1));
    assert_eq!(broken, [""; 0], "after {:?}", state.path);
    let live = tables["jobs"].as_array().into_iter().flatten();
    let live: BTreeSet<u128> = live.map(steps::number).collect();
    assert_eq!(live, state.live, "no job is lost, after {:?}", state.path);
    tables
}

/// Visits all states that are at most `steps` steps away, the shortest paths first; returns how many there are.
async fn search(tx: &Transaction<'_>, first: State, steps: usize) -> usize {
    let longest = first.path.len() + steps;
    let mut seen = HashSet::from([first.canonical()]);
    let mut next = VecDeque::from([first]);
    while let Some(state) = next.pop_front() {
        if state.path.len() == longest {
            continue;
        }
        tx.batch_execute("savepoint empty").await.unwrap();
        restore(tx, &state.tables).await;
        for step in Step::all(&state) {
            tx.batch_execute("savepoint before").await.unwrap();
            let mut after = state.clone();
            after.path.push(step);
            step.make(tx, &mut after).await;
            after.tables = read_tables(tx, &after).await;
            step.check(&state, &after);
            if seen.insert(after.canonical()) {
                next.push_back(after);
            }
            tx.batch_execute("rollback to before; release before").await.unwrap();
        }
        tx.batch_execute("rollback to empty; release empty").await.unwrap();
    }
    seen.len()
}

#[tokio::test]
async fn in_any_order_of_steps_the_tables_are_consistent_and_lanes_keep_their_order() {
    in_a_database(async |database| {
        in_tx(&database.service, async |tx| {
            store::prefer_indexes(tx).await.unwrap();
            // The planner's estimates are high enough to compile each statement, which is not worth it here.
            tx.batch_execute("set local jit = off").await.unwrap();
            let mut state = State::empty(Value::Null);
            state.tables = read_tables(tx, &state).await;
            assert!(search(tx, state.clone(), DEPTHS[0]).await > 500);
            for step in [Step::Enqueue(1), Step::Enqueue(2), Step::Enqueue(3), Step::Claim(1), Step::Elapse] {
                state.path.push(step);
                step.make(tx, &mut state).await;
                state.tables = read_tables(tx, &state).await;
            }
            tx.batch_execute(EMPTY).await.unwrap();
            assert!(search(tx, state, DEPTHS[1]).await > 200);
        })
        .await;
    })
    .await;
}
