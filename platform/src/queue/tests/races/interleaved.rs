//! All orders of the statements of two transactions, except those in which one would wait for the other.

use super::*;
use crate::queue::{cancel, reschedule};

/// One transaction, as one or two statements.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Releases the lease of job 1, then settles it so.
    End(fn() -> Ending),
    Enqueue,
    Promote,
    Claim,
    Reclaim,
    Cancel(u128),
    Reschedule(u128),
}

impl Act {
    fn statements(self) -> usize {
        if matches!(self, Act::End(_)) { 2 } else { 1 }
    }

    async fn make(self, tx: &Transaction<'_>, statement: usize, job: &Claimed, counts: &mut bool) -> Result<(), Error> {
        match self {
            Act::End(_) if statement == 0 => *counts = !store::release(tx, QUEUE, &[job.lease]).await?.is_empty(),
            Act::End(_) if !*counts => {}
            Act::End(ending) => drop(store::settle(tx, QUEUE, &[EndedAttempt { job, ending: ending() }]).await?),
            Act::Enqueue => drop(store::enqueue(tx, QUEUE, &[in_lane(5, 7), in_lane(6, 8)]).await?),
            Act::Promote => drop(store::promote(tx, QUEUE, 1_000).await?),
            Act::Claim => drop(claim_in(tx, 9).await),
            Act::Reclaim => drop(reclaim_in(tx).await),
            Act::Cancel(number) => drop(cancel(tx, QUEUE, COMPANY, key(number)).await?),
            Act::Reschedule(number) => drop(reschedule(tx, QUEUE, COMPANY, key(number), after(60)).await?),
        }
        Ok(())
    }
}

/// Lane 7: job 1 runs, its lease has run out; 2 waits, 3 is due but not promoted. Lane 8: job 4 is ready.
async fn prepare(database: &Database) -> Claimed {
    let tables = ["jobs", "jobs_scheduled", "jobs_ready", "jobs_waiting", "jobs_running", "job_lanes", "jobs_dead"];
    database.run(&tables.map(|it| format!("delete from {it};")).concat()).await;
    enqueue(&database.service, &[in_lane(1, 7), in_lane(2, 7)]).await;
    let job = claim(&database.service, 1).await.remove(0);
    enqueue(&database.service, &[in_lane(4, 8)]).await;
    enqueue_overdue(database, &[in_lane(3, 7)]).await;
    expire(database).await;
    job
}

/// Runs the statements in an order; returns whether none had to wait.
async fn in_order(database: &Database, acts: [Act; 2], order: &[usize]) -> bool {
    let job = prepare(database).await;
    let (mut one, mut two) = (database.service.get().await.unwrap(), database.service.get().await.unwrap());
    let mut txs = [Some(one.transaction().await.unwrap()), Some(two.transaction().await.unwrap())];
    for tx in txs.iter().flatten() {
        store::prefer_indexes(tx).await.unwrap();
        tx.batch_execute("set local lock_timeout = 20").await.unwrap();
    }
    let (mut made, mut counts) = ([0, 0], [false, false]);
    for &who in order {
        if made[who] == acts[who].statements() {
            txs[who].take().unwrap().commit().await.unwrap();
            continue;
        }
        if let Err(problem) = acts[who].make(txs[who].as_ref().unwrap(), made[who], &job, &mut counts[who]).await {
            assert_eq!(problem.code().unwrap().code(), "55P03", "{acts:?} {order:?}");
            return false;
        }
        made[who] += 1;
    }
    is_consistent(database).await;
    true
}

/// All orders of so many steps of each.
fn orders(left: [usize; 2]) -> Vec<Vec<usize>> {
    if left == [0, 0] {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for who in (0..2).filter(|it| left[*it] > 0) {
        let mut rest = left;
        rest[who] -= 1;
        all.extend(orders(rest).into_iter().map(|it| [vec![who], it].concat()));
    }
    all
}

#[tokio::test]
async fn in_any_order_of_the_statements_of_two_transactions_the_tables_are_consistent() {
    let acts = [
        Act::End(|| Ending::Done),
        Act::End(|| Ending::Retry(Duration::ZERO)),
        Act::Enqueue,
        Act::Promote,
        Act::Claim,
        Act::Reclaim,
        Act::Cancel(1),
        Act::Cancel(2),
        Act::Reschedule(2),
        Act::Cancel(4),
    ];
    in_a_database(async |database| {
        database.run("set jit = off").await;
        let mut made = 0;
        for (index, one) in acts.into_iter().enumerate() {
            for two in &acts[index + 1..] {
                for order in orders([one.statements() + 1, two.statements() + 1]) {
                    made += usize::from(in_order(database, [one, *two], &order).await);
                }
            }
        }
        assert!(made > 150, "{made} orders");
    })
    .await;
}
