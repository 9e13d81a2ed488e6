//! The model call, between two transactions.

use std::time::Duration;

use domain::{CompanyId, ProcessorName, TurnId};
use metrics::{counter, gauge, histogram};
use platform::postgres::{Db, Failure};
use platform::runner::{Claimed, Work};
use platform::telemetry::chain;
use platform::{clock, metric};

use super::allowance::{self, Allowance};
use super::claims::{self, Claim, Context};
use super::decide::{self, Ending, Outcome};
use super::perform::{self, Finish};
use super::prompt::{self, Scene};
use super::{Config, gemini};
use crate::{Error, Ground, patiently};

/// A turn claimed more often than this is one that nobody survives: it ends without another model call.
const MOST_CLAIMS: i32 = 10;

/// Answers turns.
pub(super) struct Answering {
    db: Db,
    instance: String,
    model: gemini::Client,
    memory: u16,
    deadline: Duration,
    lease: Duration,
    fallback: String,
    limit_text: String,
    most_output: u32,
}

impl Answering {
    pub(super) fn new(ground: &Ground, config: &Config) -> Result<Self, Error> {
        Ok(Answering {
            db: ground.db.clone(),
            instance: ground.instance.clone(),
            model: gemini::Client::new(&config.model)?,
            memory: config.memory_messages,
            deadline: Duration::from_millis(config.deadline_ms),
            lease: Duration::from_millis(config.runner.lease_ms),
            fallback: config.fallback_text.clone(),
            limit_text: config.limit_text.clone(),
            most_output: config.model.max_output_tokens,
        })
    }

    async fn answer(&self, claim: &Claim, context: &Context) -> Ending {
        if !context.active {
            return decide::on_suspension();
        }
        if claim.claim > MOST_CLAIMS {
            return decide::on_exhaustion(self.fallback_of(context));
        }
        let prompt = prompt::build(&Scene {
            company: &context.company_name,
            instructions: &context.assistant_prompt,
            contact: context.contact_name.as_deref(),
            now: clock::now(),
            time_zone: &context.time_zone,
            memory: context.memory.iter().map(|(ours, text)| (*ours, text.as_str())).collect(),
        });
        let most = prompt.estimated_tokens() + i64::from(self.most_output);
        let allowed = patiently("reply", || allowance::reserve(&self.db, claim, most, self.deadline)).await;
        match allowed {
            Ok(Allowance::Granted) => {}
            Ok(Allowance::Refused(reason)) => {
                return decide::on_denial(&reason, &self.limit_text, self.fallback_of(context));
            }
            Err(problem) => {
                tracing::error!(turn = %claim.turn, error = chain(&problem), "tokens cannot be reserved");
                return decide::on_denial("", &self.limit_text, self.fallback_of(context));
            }
        }
        let (answer, calls) = self.model.generate(&prompt, self.deadline, claim.traceparent.as_deref()).await;
        count(&calls);
        decide::on_answer(answer, &calls, self.fallback_of(context))
    }

    /// What is said when no answer could be had.
    fn fallback_of<'a>(&'a self, context: &'a Context) -> &'a str {
        context.fallback_text.as_deref().unwrap_or(&self.fallback)
    }
}

impl Work for Answering {
    type Job = Claim;
    type Claim = (CompanyId, TurnId, i32);

    const PROCESSOR: ProcessorName = ProcessorName::Reply;

    async fn take_back(&self) -> Result<u64, Failure> {
        claims::take_back(&self.db, &self.instance).await
    }

    async fn claim(&self, most: usize) -> Result<Claimed<Claim>, Failure> {
        claims::claim(&self.db, most, &self.instance, self.lease).await
    }

    fn name(&self, job: &Claim) -> Self::Claim {
        (job.company, job.turn, job.claim)
    }

    async fn renew(&self, claims: &[Self::Claim]) -> Result<(), Failure> {
        claims::renew(&self.db, claims, self.lease).await
    }

    async fn perform(&self, claim: Claim) {
        let began = clock::instant();
        let context = match patiently("reply", || claims::context(&self.db, &claim, self.memory)).await {
            Ok(Some(context)) => context,
            // A turn without a conversation cannot be: foreign keys hold.
            Ok(None) => return tracing::error!(turn = %claim.turn, "turn has no conversation"),
            Err(problem) => return tracing::error!(turn = %claim.turn, error = chain(&problem), "turn cannot be read"),
        };
        let mut ending = self.answer(&claim, &context).await;
        let mut finish = patiently("reply", || perform::finish(&self.db, &claim, &context, &ending)).await;
        if let Err(problem) = &finish {
            tracing::error!(turn = %claim.turn, error = chain(problem), "answer cannot be stored: the fallback text is sent");
            ending = decide::on_refusal(ending, self.fallback_of(&context));
            finish = patiently("reply", || perform::finish(&self.db, &claim, &context, &ending)).await;
        }
        report(&claim, &ending, &finish, began.elapsed());
    }
}

fn report(claim: &Claim, ending: &Ending, finish: &Result<Finish, Failure>, took: Duration) {
    let (company_id, turn, outcome) = (claim.company.0, claim.turn, ending.outcome.as_str());
    let correlation_id = claim.traceparent.as_deref().and_then(|it| it.get(3..35)).unwrap_or("");
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match (finish, ending.outcome) {
        (Ok(Finish::Done), Outcome::Fallback(class)) => {
            tracing::warn!(company_id, %turn, correlation_id, outcome, class, duration_ms, "turn ended in the fallback text");
        }
        (Ok(Finish::Done), Outcome::Replied | Outcome::Ignored(_)) => {
            tracing::info!(company_id, %turn, correlation_id, outcome, duration_ms, "turn ended");
        }
        (Ok(Finish::Lost), _) => tracing::info!(company_id, %turn, "claim was lost, its result is void"),
        // Its claim runs out and the turn is tried again; a person should look.
        (Err(problem), _) => tracing::error!(company_id, %turn, error = chain(problem), "turn cannot be ended"),
    }
}

fn count(calls: &[gemini::CallReport]) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ALL: AtomicU64 = AtomicU64::new(0);
    static FAILED: AtomicU64 = AtomicU64::new(0);
    for call in calls {
        histogram!(metric::LLM_LATENCY, "model" => call.model.clone()).record(call.latency.as_secs_f64());
        let all = ALL.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(class) = call.failure {
            FAILED.fetch_add(1, Ordering::Relaxed);
            counter!(metric::LLM_ERRORS, "class" => class).increment(1);
        }
        gauge!(metric::LLM_ERROR_RATE).set(FAILED.load(Ordering::Relaxed) as f64 / all as f64);
    }
}
