//! One session of the run: what it has open, and how a step of it ended.

use postgres::{Client, SimpleQueryMessage};

use crate::chance::Chance;
use crate::steps::{self, Step};
use crate::support::Database;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There was nothing to do it to.
    Idle,
    /// Another session was in the way, or had been.
    Conflict,
    /// The functions refused it, as they may.
    Refused,
}

pub(crate) struct Actor {
    pub(crate) session: Client,
    level: &'static str,
    /// How many savepoints are open; none without a transaction.
    savepoints: Option<u64>,
}

impl Actor {
    pub(crate) fn enter(database: &Database, level: &'static str) -> Self {
        let mut session = database.session();
        // One thread drives every session, so none may wait for another.
        // Nor does it wait for the disk, which is not what is tested.
        let settings = "set lock_timeout = '1 ms'; set client_min_messages = error; set synchronous_commit = off";
        session.batch_execute(settings).expect("set");
        Self { session, level, savepoints: None }
    }

    /// Whether a transaction is open.
    pub(crate) fn is_inside(&self) -> bool {
        self.savepoints.is_some()
    }

    /// Whether a step can be made here and now.
    pub(crate) fn can(&self, step: Step) -> bool {
        match step {
            Step::Begin | Step::Vacuum | Step::Rewrite => self.savepoints.is_none(),
            Step::Commit | Step::RollBack => self.savepoints.is_some(),
            Step::Savepoint => self.savepoints.is_some_and(|open| open < 4),
            Step::RollBackToSavepoint => self.savepoints.is_some_and(|open| open > 0),
            _ => true,
        }
    }

    /// Makes a step. Whatever it was refused with, the session can be asked afterwards.
    pub(crate) fn perform(&mut self, step: Step, chance: &mut Chance) -> Outcome {
        let (statement, savepoints) = match (step, self.savepoints) {
            (Step::Begin, _) => (format!("begin isolation level {}", self.level), Some(0)),
            (Step::Commit, _) => ("commit".to_owned(), None),
            (Step::RollBack, _) => ("rollback".to_owned(), None),
            (Step::Savepoint, Some(open)) => (format!("savepoint s{open}"), Some(open + 1)),
            (Step::RollBackToSavepoint, Some(open)) => {
                let to = chance.below(open);
                (format!("rollback to s{to}"), Some(to + 1))
            }
            _ => (steps::statement(step, chance), self.savepoints),
        };
        match self.session.simple_query(&statement) {
            Ok(answers) => {
                let is_about_transactions = savepoints != self.savepoints || step == Step::RollBackToSavepoint;
                self.savepoints = savepoints;
                let is_done = is_about_transactions
                    || matches!(step, Step::Vacuum | Step::Rewrite | Step::Cache)
                    || answers.iter().any(did_something);
                if is_done { Outcome::Done } else { Outcome::Idle }
            }
            Err(problem) => {
                let code =
                    problem.code().unwrap_or_else(|| panic!("{step:?}: {problem}: {statement}")).code().to_owned();
                // What fails to commit is no transaction any more.
                if step == Step::Commit {
                    self.savepoints = None;
                }
                self.recover(chance);
                if is_conflict(&code) {
                    return Outcome::Conflict;
                }
                assert!(steps::forgiven(step).contains(&code.as_str()), "{step:?}: {problem:?}\n{statement}");
                Outcome::Refused
            }
        }
    }

    /// Goes back to where the session can go on from, after an error.
    pub(crate) fn recover(&mut self, chance: &mut Chance) {
        match self.savepoints {
            Some(open) if open > 0 && chance.one_in(2) => {
                let back = format!("rollback to s{}", open - 1);
                self.session.batch_execute(&back).expect("back to the savepoint");
            }
            Some(_) => self.leave(),
            None => {}
        }
    }

    /// Ends what is open.
    pub(crate) fn leave(&mut self) {
        self.session.batch_execute("rollback").expect("rolled back");
        self.savepoints = None;
    }
}

/// A lost race, a deadlock, or a lock that somebody else has.
pub(crate) fn is_conflict(code: &str) -> bool {
    ["40001", "40P01", "55P03"].contains(&code)
}

fn did_something(answer: &SimpleQueryMessage) -> bool {
    match answer {
        SimpleQueryMessage::Row(_) => true,
        SimpleQueryMessage::CommandComplete(rows) => *rows > 0,
        _ => false,
    }
}
