//! The runner, with work that is scripted and rows that are numbers: no Postgres, and no waiting for a clock that the
//! claim is not about.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_postgres::PoolError;
use domain::ProcessorName;
use platform::postgres::Failure;
use platform::runner::{self, Claimed, Config, Wake, Work};
use platform::task::{self, Stop};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// What the runner did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    TookBack,
    Claimed { most: usize },
    Began(u32),
    Ended(u32),
    Renewed(Vec<u32>),
}

/// Rows that are due, and a door that calls wait at.
struct Script {
    due: Mutex<VecDeque<u32>>,
    /// How many of the next questions Postgres does not answer.
    away: AtomicUsize,
    door: Semaphore,
    did: mpsc::Sender<Did>,
}

impl Script {
    fn note(&self, did: Did) {
        // Nobody listens any more when a test has seen enough.
        let _ = self.did.try_send(did);
    }

    fn ask(&self) -> Result<(), Failure> {
        let gone = self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1));
        if gone.is_ok() { Err(Failure::Pool(PoolError::Closed)) } else { Ok(()) }
    }

    fn add(&self, rows: impl IntoIterator<Item = u32>) {
        self.due.lock().unwrap().extend(rows);
    }
}

impl Work for Script {
    type Job = u32;
    type Claim = u32;

    const PROCESSOR: ProcessorName = ProcessorName::named("reply");

    async fn take_back(&self) -> Result<u64, Failure> {
        self.ask()?;
        self.note(Did::TookBack);
        Ok(0)
    }

    async fn claim(&self, most: usize) -> Result<Claimed<u32>, Failure> {
        self.ask()?;
        self.note(Did::Claimed { most });
        let mut due = self.due.lock().unwrap();
        let most = most.min(due.len());
        Ok(Claimed { jobs: due.drain(..most).collect(), next_due: None })
    }

    fn name(&self, job: &u32) -> u32 {
        *job
    }

    async fn renew(&self, claims: &[u32]) -> Result<(), Failure> {
        let mut claims = claims.to_vec();
        claims.sort();
        self.note(Did::Renewed(claims));
        Ok(())
    }

    async fn perform(&self, job: u32) {
        self.note(Did::Began(job));
        self.door.acquire().await.unwrap().forget();
        self.note(Did::Ended(job));
    }
}

/// A runner at work.
struct Scene {
    script: Arc<Script>,
    did: mpsc::Receiver<Did>,
    wake: Wake,
    stop: Stop,
    runner: JoinHandle<()>,
}

/// Nothing happens by itself within a test: sweeps and renewals are an hour away.
const STILL: Config = Config { window: 4, sweep_ms: 3_600_000, lease_ms: 3_600_000, drain_ms: 3_600_000 };

impl Scene {
    fn begin(config: Config, due: impl IntoIterator<Item = u32>, away: usize) -> Self {
        let (send, did) = mpsc::channel(10_000);
        let due = Mutex::new(due.into_iter().collect());
        let script = Arc::new(Script { due, away: away.into(), door: Semaphore::new(0), did: send });
        let (wake, stop) = (Wake::default(), Stop::new());
        let runner = task::spawn("runner", runner::run(Arc::clone(&script), config, wake.clone(), stop.clone()));
        Scene { script, did, wake, stop, runner }
    }

    async fn next(&mut self) -> Did {
        tokio::time::timeout(Duration::from_secs(20), self.did.recv()).await.expect("nothing happens").unwrap()
    }

    /// Reads on until something happens, though not for ever; says what happened before it.
    async fn until(&mut self, awaited: &Did) -> Vec<Did> {
        let mut before = Vec::new();
        while before.len() < 200 {
            match self.next().await {
                did if did == *awaited => return before,
                did => before.push(did),
            }
        }
        panic!("{awaited:?} does not happen: {before:?}");
    }

    async fn ends(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.runner).await.expect("the runner goes on").unwrap();
    }
}

#[tokio::test]
async fn what_an_earlier_life_claimed_is_taken_back_before_anything_is_claimed() {
    let mut scene = Scene::begin(STILL, [], 0);
    assert_eq!(scene.next().await, Did::TookBack);
    assert_eq!(scene.next().await, Did::Claimed { most: 4 });
    scene.ends().await;
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_the_window_holds() {
    let mut scene = Scene::begin(STILL, 0..100, 0);
    let (mut under_way, mut most, mut ended) = (0_usize, 0, 0);
    while ended < 100 {
        match scene.next().await {
            Did::Began(_) => {
                under_way += 1;
                most = most.max(under_way);
            }
            Did::Ended(_) => {
                under_way -= 1;
                ended += 1;
            }
            _ => {}
        }
        if under_way == 4 {
            scene.script.door.add_permits(1);
        } else if under_way > 0 && 100 - ended <= under_way {
            scene.script.door.add_permits(under_way);
        }
    }
    assert_eq!(most, 4);
    scene.ends().await;
}

#[tokio::test]
async fn a_wake_brings_new_work_in_before_the_sweep() {
    let mut scene = Scene::begin(STILL, [], 0);
    scene.until(&Did::Claimed { most: 4 }).await;
    scene.script.add([7]);
    scene.wake.wake();
    scene.until(&Did::Began(7)).await;
    scene.script.door.add_permits(1);
    scene.until(&Did::Ended(7)).await;
    scene.ends().await;
}

#[tokio::test]
async fn without_a_wake_the_sweep_finds_what_is_due() {
    let mut scene = Scene::begin(Config { sweep_ms: 20, ..STILL }, [], 0);
    scene.until(&Did::Claimed { most: 4 }).await;
    scene.script.add([7]);
    scene.until(&Did::Began(7)).await;
    scene.script.door.add_permits(1);
    scene.ends().await;
}

#[tokio::test]
async fn a_claim_is_renewed_for_as_long_as_its_call_is_under_way() {
    let mut scene = Scene::begin(Config { lease_ms: 150, ..STILL }, [1, 2], 0);
    scene.until(&Did::Renewed(vec![1, 2])).await;
    scene.until(&Did::Renewed(vec![1, 2])).await;
    scene.script.door.add_permits(1);
    let (ended, other) = loop {
        if let Did::Ended(it) = scene.next().await {
            break (it, 3 - it);
        }
    };
    scene.until(&Did::Renewed(vec![other])).await;
    let later = scene.until(&Did::Renewed(vec![other])).await;
    assert!(!later.iter().any(|it| matches!(it, Did::Renewed(claims) if claims.contains(&ended))), "{later:?}");
    scene.script.door.add_permits(1);
    scene.ends().await;
}

#[tokio::test]
async fn a_stop_lets_calls_under_way_end_and_begins_no_new_one() {
    let mut scene = Scene::begin(Config { lease_ms: 150, ..STILL }, [1], 0);
    scene.until(&Did::Began(1)).await;
    scene.stop.cancel();
    scene.script.add([2]);
    scene.wake.wake();
    // Its claim is held while it drains.
    scene.until(&Did::Renewed(vec![1])).await;
    scene.until(&Did::Renewed(vec![1])).await;
    assert!(!scene.runner.is_finished());
    scene.script.door.add_permits(2);
    let before = scene.until(&Did::Ended(1)).await;
    assert!(!before.contains(&Did::Began(2)));
    assert_eq!(*scene.script.due.lock().unwrap(), [2]);
    scene.ends().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_it_may() {
    let mut scene = Scene::begin(Config { drain_ms: 10, ..STILL }, [1], 0);
    scene.until(&Did::Began(1)).await;
    // The door stays closed.
    scene.ends().await;
}

#[tokio::test]
async fn while_postgres_is_away_the_runner_only_waits() {
    let mut scene = Scene::begin(STILL, [1], 1);
    assert_eq!(scene.next().await, Did::TookBack);
    scene.until(&Did::Began(1)).await;
    scene.script.away.store(1, Ordering::SeqCst);
    scene.script.add([2]);
    scene.wake.wake();
    scene.until(&Did::Began(2)).await;
    scene.script.door.add_permits(2);
    scene.ends().await;
}
