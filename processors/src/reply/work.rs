//! The model call, between two transactions.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use platform::postgres::{Failure, Transaction};
use platform::processor::{Context, Error};
use platform::queue::{Call, Circuit, Claimed, Ending, HoldLimit, Loaded, Performed, Queue, Summary, Work};
use platform::{clock, metric};

use super::allowance::{self, Allowance, ReservationRequest};
use super::context::{self, Turn};
use super::decide::{self, TurnEnd, TurnOutcome};
use super::prompt::{self, Prompt, PromptInput};
use super::{Config, QUEUE, gemini, perform};

/// A turn that was claimed more often than this ends without another model call: no worker survives it.
const MAX_CLAIMS: i32 = 10;

pub(super) struct ModelCalls {
    model: gemini::Client,
    history_messages: u16,
    deadline: Duration,
    fallback: String,
    limit_text: String,
    most_output: u32,
}

impl ModelCalls {
    pub(super) fn new(_: &Context, config: &Config) -> Result<Self, Error> {
        Ok(ModelCalls {
            model: gemini::Client::new(&config.model).map_err(Error::client)?,
            history_messages: config.memory_messages,
            deadline: Duration::from_millis(config.deadline_ms),
            fallback: config.fallback_text.clone(),
            limit_text: config.limit_text.clone(),
            most_output: config.model.max_output_tokens,
        })
    }

    fn prompt(turn: &Turn) -> Prompt {
        prompt::build(&PromptInput {
            company: &turn.company_name,
            instructions: &turn.assistant_prompt,
            contact: turn.contact_name.as_deref(),
            now: clock::now(),
            time_zone: &turn.time_zone,
            history: turn.history.iter().map(|(ours, text)| (*ours, text.as_str())).collect(),
        })
    }

    /// The text that is sent if there is no answer.
    fn fallback_of<'a>(&'a self, turn: &'a Turn) -> &'a str {
        turn.fallback_text.as_deref().unwrap_or(&self.fallback)
    }

    /// Reserves tokens for turns that are about to be answered.
    async fn reserve(&self, tx: &Transaction<'_>, turns: &mut [&mut Turn]) -> Result<(), Failure> {
        let request = |turn: &Turn| ReservationRequest {
            company: turn.company,
            turn: turn.turn,
            claim: turn.claim,
            tokens: Self::prompt(turn).estimated_tokens() + i64::from(self.most_output),
        };
        let requests: Vec<ReservationRequest> = turns.iter().map(|turn| request(turn)).collect();
        for (turn, allowance) in turns.iter_mut().zip(allowance::reserve(tx, &requests, self.deadline).await?) {
            turn.allowance = allowance;
        }
        Ok(())
    }
}

impl Work for ModelCalls {
    type Job = Turn;
    type Output = TurnEnd;

    const QUEUE: Queue = QUEUE;
    // If a model call was not made, the next claim makes it.
    const CLAIMS_AHEAD: bool = true;

    async fn load(&self, tx: &Transaction<'_>, claimed: &[Claimed]) -> Result<Vec<Loaded<Turn, TurnEnd>>, Failure> {
        let loaded = |(turn, claimed): (Option<Turn>, &Claimed)| {
            let Some(turn) = turn else { return Loaded::Gone };
            if !turn.active {
                return Loaded::Known(turn, decide::on_suspension());
            }
            // Not `turn.claim`, which also counts claims that were released before their call.
            if claimed.attempts > MAX_CLAIMS {
                let end = decide::on_exhaustion(self.fallback_of(&turn));
                return Loaded::Known(turn, end);
            }
            Loaded::Call(turn)
        };
        Ok(context::load(tx, claimed).await?.into_iter().zip(claimed).map(loaded).collect())
    }

    fn circuit(&self, _: &Turn) -> Option<Circuit> {
        // One key serves every company.
        Some(Circuit { provider: "gemini", credential: "master".into() })
    }

    fn hold_limit(&self) -> HoldLimit {
        HoldLimit::SinceDue(self.deadline)
    }

    fn held_too_long(&self, _: &Claimed, turn: &Turn) -> TurnEnd {
        decide::on_open_circuit(self.fallback_of(turn))
    }

    async fn begin(&self, tx: &Transaction<'_>, starting: &mut [(&Claimed, &mut Turn)]) -> Result<(), Failure> {
        let mut turns: Vec<&mut Turn> = starting.iter_mut().map(|(_, turn)| &mut **turn).collect();
        context::close(tx, &turns).await?;
        context::load_history(tx, &mut turns, self.history_messages).await?;
        self.reserve(tx, &mut turns).await
    }

    async fn call(&self, _: &Claimed, turn: &Turn, _: &Call) -> TurnEnd {
        if let Allowance::Denied(reason) = &turn.allowance {
            return decide::on_denial(reason, &self.limit_text, self.fallback_of(turn));
        }
        let prompt = Self::prompt(turn);
        let (answer, calls) = self.model.generate(&prompt, self.deadline, turn.traceparent.as_deref()).await;
        count(&calls);
        decide::on_answer(answer, &calls, self.fallback_of(turn))
    }

    async fn finish(
        &self,
        tx: &Transaction<'_>,
        performed: &[Performed<'_, Turn, TurnEnd>],
    ) -> Result<Vec<Ending>, Failure> {
        let turns: Vec<(&Turn, &TurnEnd)> = performed.iter().map(|it| (it.job, it.output)).collect();
        perform::finish(tx, &turns, clock::now()).await?;
        Ok(vec![Ending::Done; performed.len()])
    }

    fn refused(&self, performed: &Performed<'_, Turn, TurnEnd>, _: &Failure) -> Option<TurnEnd> {
        Some(decide::on_refusal(performed.output.clone(), self.fallback_of(performed.job)))
    }

    fn summary(&self, _: &Turn, end: &TurnEnd) -> Summary {
        Summary { result: end.outcome.as_str(), class: end.outcome.reason(), health: end.health }
    }

    fn committed(&self, performed: &Performed<'_, Turn, TurnEnd>, _: &Ending) {
        if let TurnOutcome::FixedText(class) = performed.output.outcome {
            let (company_id, turn) = (performed.job.company.0, performed.job.turn);
            tracing::warn!(company_id, %turn, class, "turn answered with a fixed text");
        }
        perform::count(performed.job, performed.output);
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
