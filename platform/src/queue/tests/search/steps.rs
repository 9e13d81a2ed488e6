//! The steps of the search: functions of the queue, each called in the transaction of the search.

use super::*;
use crate::queue::{Change, cancel, reschedule};

/// Jobs 1, 2 and 3 are in lane 7, 3 being due later; job 4 is alone in lane 8.
const JOBS: [u128; 4] = [1, 2, 3, 4];
const FOR_LATER: u128 = 3;
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn lane_of(job: u128) -> u128 {
    if job == 4 { 8 } else { 7 }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Enqueue(u128),
    Elapse,
    Promote,
    /// A worker claims at most so many jobs.
    Claim(usize),
    /// The result of a claim, whose lease may have been lost since.
    End(usize, End),
    Renew(usize),
    /// All leases expire.
    Expire,
    Reclaim,
    RescheduleNow(u128),
    RescheduleLater(u128),
    Cancel(u128),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    Done,
    Retry,
    HeldBack,
    Dead,
}

impl End {
    pub(super) fn ending(self) -> Ending {
        match self {
            End::Done => Ending::Done,
            End::Retry => Ending::Retry(Duration::ZERO),
            End::HeldBack => Ending::HeldBack(HOUR),
            End::Dead => Ending::DeadLetter { cause: "scripted", detail: String::new() },
        }
    }
}

impl Step {
    /// The steps that are possible in a state.
    pub(super) fn all(state: &State) -> Vec<Step> {
        let mut steps = vec![Step::Promote];
        steps.extend(JOBS.iter().filter(|it| !state.enqueued.contains(*it)).map(|it| Step::Enqueue(*it)));
        if !state.rows("jobs_ready").is_empty() {
            steps.extend([Step::Claim(1), Step::Claim(2)]);
        }
        if !state.rows("jobs_scheduled").is_empty() {
            steps.push(Step::Elapse);
        }
        if !state.rows("jobs_running").is_empty() {
            steps.extend([Step::Expire, Step::Reclaim]);
        }
        for held in 0..state.held.len() {
            let ends = [End::Done, End::Retry, End::HeldBack, End::Dead];
            steps.extend(ends.map(|end| Step::End(held, end)));
            steps.push(Step::Renew(held));
        }
        for job in &state.live {
            steps.extend([Step::RescheduleNow(*job), Step::RescheduleLater(*job), Step::Cancel(*job)]);
        }
        steps
    }

    pub(super) async fn make(self, tx: &Transaction<'_>, state: &mut State) {
        match self {
            Step::Enqueue(job) => {
                let due = if job == FOR_LATER { Due::After(HOUR) } else { Due::Now };
                let new = NewJob { due, ..in_lane(job, lane_of(job)) };
                assert_eq!(store::enqueue(tx, QUEUE, &[new.clone(), new.clone()]).await.unwrap().added, 1);
                assert_eq!(store::enqueue(tx, QUEUE, &[new]).await.unwrap().added, 0);
                state.live.insert(job);
                state.enqueued.insert(job);
                if due == Due::Now {
                    state.append(job);
                }
            }
            Step::Elapse => elapse(tx).await,
            Step::Promote => {
                // A job that does not hold its lane comes after the others; there is at most one such job.
                let due = state.rows("jobs_scheduled").iter().filter(|row| is_due(row) && row["keeps_lane"] == false);
                let due: Vec<u128> = due.map(number).collect();
                assert!(due.len() <= 1, "{:?}", state.path);
                store::promote(tx, QUEUE, 1_000).await.unwrap();
                due.into_iter().for_each(|job| state.append(job));
            }
            Step::Claim(max) => {
                let offers = [Offer { company: COMPANY, max, before: None }];
                let claimed = store::claim(tx, QUEUE, &offers, max, LEASE, "one", usize::MAX).await.unwrap();
                assert!(claimed.len() <= max, "{:?}", state.path);
                for job in &claimed {
                    let number = job.lease.key.as_u128();
                    let first = state.lanes[&lane_of(number)].first();
                    assert_eq!(first, Some(&number), "order within the lane, after {:?}", state.path);
                }
                state.held.extend(claimed);
            }
            Step::End(held, end) => {
                let job = state.held.remove(held);
                let counts = end_in(tx, &job, end.ending()).await.unwrap();
                assert_eq!(counts, state.holds(job.lease), "{:?}", state.path);
                if counts && matches!(end, End::Done | End::Dead) {
                    state.ended(job.lease.key.as_u128());
                }
            }
            Step::Renew(held) => {
                let lease = state.held[held].lease;
                let renewed = store::renew(tx, QUEUE, &[(lease, None)], LEASE).await.unwrap();
                assert_eq!(renewed.len() == 1, state.holds(lease), "{:?}", state.path);
            }
            Step::Expire => {
                let sql = "update secretaria.jobs_running set lease_until = now() - interval '1 second'";
                tx.batch_execute(sql).await.unwrap();
            }
            Step::Reclaim => {
                reclaim_in(tx).await;
            }
            Step::RescheduleNow(job) => reschedule_to(tx, state, job, Due::Now).await,
            Step::RescheduleLater(job) => reschedule_to(tx, state, job, Due::After(HOUR)).await,
            Step::Cancel(job) => {
                if cancel(tx, QUEUE, COMPANY, key(job)).await.unwrap() == Change::Made {
                    state.ended(job);
                } else {
                    assert!(is_running(state, job), "{:?}", state.path);
                }
            }
        }
    }

    /// Checks the states before and after a step.
    pub(super) fn check(self, before: &State, after: &State) {
        if let Step::End(held, _) = self
            && !before.holds(before.held[held].lease)
        {
            assert_eq!(before.tables, after.tables, "a stale result changes nothing: {:?}", after.path);
        }
    }
}

async fn reschedule_to(tx: &Transaction<'_>, state: &State, job: u128, due: Due) {
    let change = reschedule(tx, QUEUE, COMPANY, key(job), due).await.unwrap();
    assert_eq!(change == Change::Running, is_running(state, job), "{:?}", state.path);
}

pub(super) fn number(row: &Value) -> u128 {
    row["job_key"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128()
}

fn is_due(row: &Value) -> bool {
    row["is_due"] == true
}

fn is_running(state: &State, job: u128) -> bool {
    state.rows("jobs_running").iter().any(|row| row["job_key"] == key(job).to_string())
}

/// Makes all scheduled and waiting jobs due, in the same order.
async fn elapse(tx: &Transaction<'_>) {
    let sql = "update secretaria.jobs set due_at = least(due_at, now());
               update secretaria.jobs_scheduled set due_at = least(due_at, now());
               update secretaria.jobs_waiting set due_at = least(due_at, now())";
    tx.batch_execute(sql).await.unwrap();
}
