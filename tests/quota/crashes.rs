//! A backend is killed and the server restarts all of them: the limit is still exact, and no answer that was given is
//! taken back.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_postgres::Client;

use crate::cluster::Cluster;
use crate::crowd::{Crowd, TURN};
use crate::increments::limited;
use crate::support::Database;

/// How often a backend is killed in one run.
const KILLS: i64 = 3;

/// Asks until there is an answer: every session falls with the one that is killed.
async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    database: &Database,
    client: &mut Client,
    query: &str,
) -> Option<T> {
    loop {
        match client.query_opt(query, &[]).await {
            Ok(row) => return row.map(|it| it.get(0)),
            Err(_) => *client = database.connect().await,
        }
    }
}

/// Kills a backend that is at work each time another quarter of the limit is spent.
async fn kill_backends(crowd: Crowd<'_>, cluster: &Cluster, limit: i64) -> i64 {
    let mut client = crowd.database.connect().await;
    let spent = format!("select count(*) from secretaria.usage_events where company_id = {}", crowd.company);
    let busy = "select pid from pg_stat_activity
        where usename = 'secretaria_service' and state <> 'idle' order by random() limit 1";
    let mut killed = 0;
    while killed < KILLS {
        let spent: i64 = ask(crowd.database, &mut client, &spent).await.unwrap();
        if spent >= limit {
            break;
        }
        if spent * (KILLS + 1) >= limit * (killed + 1)
            && let Some(process) = ask::<i32>(crowd.database, &mut client, busy).await
        {
            cluster.kill(process);
            // Fallen with it: this one too has to come back before the next is killed.
            while client.query("select", &[]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            killed += 1;
        }
    }
    killed
}

async fn a_hard_limit_outlives_crashes(level: &'static str, limit: i64) {
    let _turn = TURN.lock().await;
    let Some((database, cluster)) = Cluster::start().await else { return };
    for slots in ["off", "on"] {
        let company = limited(&database.connect().await, limit).await;
        let crowd = Crowd { database: &database, level, slots, company };
        let first = crowd.open(&database.connect().await).await;
        let spending = join_all((0..64).map(|who| crowd.spend(who, limit / 32)));
        let (mut told, killed) = tokio::join!(spending, kill_backends(crowd, &cluster, limit));
        told.push(first);
        assert_eq!(killed, KILLS, "the limit was spent before the server fell so often");
        crowd.assert_spent(&database.connect().await, told, limit).await;
    }
}

#[tokio::test]
async fn a_killed_backend_costs_no_unit_at_read_committed() {
    a_hard_limit_outlives_crashes("read committed", 480).await;
}

#[tokio::test]
async fn a_killed_backend_costs_no_unit_at_repeatable_read() {
    a_hard_limit_outlives_crashes("repeatable read", 416).await;
}
