//! A job: as it is enqueued, as it is claimed, and how an attempt at it ends.

use std::time::Duration;

use domain::CompanyId;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub company: CompanyId,
    /// Identifies it among the live jobs of its queue and company; enqueueing a live key again changes nothing.
    pub key: Uuid,
    /// Jobs of one lane run one at a time, in the order in which they became due.
    pub lane: Option<Uuid>,
    /// Lower runs first among the ready jobs of its company.
    pub priority: i16,
    pub due: Due,
    /// Whatever the processor needs beyond the key.
    pub body: Value,
    pub traceparent: Option<String>,
}

impl NewJob {
    /// A job that may run at once, outside any lane.
    pub fn new(company: CompanyId, key: Uuid) -> Self {
        let body = Value::Object(serde_json::Map::new());
        NewJob { company, key, lane: None, priority: 0, due: Due::Now, body, traceparent: None }
    }
}

/// When a job may run, by Postgres's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Now,
    After(Duration),
    At(Timestamp),
}

/// A lease: which job, and which claim of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub company: CompanyId,
    pub key: Uuid,
    /// The number of the claim: a result is valid only while this is the latest.
    pub fence: i64,
}

/// A job under a lease.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub lease: Lease,
    pub lane: Option<Uuid>,
    pub priority: i16,
    /// The instant at which this attempt became due.
    pub due_at: Timestamp,
    /// Claims so far, this one included; those that were held back are not counted.
    pub attempts: i32,
    /// As enqueued.
    pub body: Value,
    pub traceparent: Option<String>,
    /// How long it has been due.
    pub overdue: Duration,
}

impl Claimed {
    pub fn company(&self) -> CompanyId {
        self.lease.company
    }

    /// How much of the jitter the next wait gets, from 0 to 1. It differs between attempts and is stable within one.
    pub fn jitter_factor(&self) -> f64 {
        let mixed =
            (self.lease.key.as_u64_pair().1 ^ self.lease.fence.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The `correlation_id` of log lines: the trace id, or an empty string.
    pub fn correlation_id(&self) -> &str {
        self.traceparent.as_deref().and_then(|it| it.get(3..35)).unwrap_or("")
    }
}

/// How an attempt at a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It is done and deleted. Anything to be kept is in the processor's own rows.
    Done,
    /// Its next attempt is due after this long; its lane waits for it.
    Retry(Duration),
    /// It was not attempted: its next attempt is due after this long, and this claim is not counted.
    HeldBack(Duration),
    /// It is not attempted again, and waits in `jobs_dead` for an operator.
    DeadLetter {
        /// A stable name to filter by.
        cause: &'static str,
        /// A sentence for the operator. Holds no body, number or token.
        detail: String,
    },
}

impl Ending {
    /// The name in log lines and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Retry(_) => "retry",
            Ending::HeldBack(_) => "held_back",
            Ending::DeadLetter { .. } => "dead_lettered",
        }
    }
}
