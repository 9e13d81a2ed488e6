//! Reads a response of `generateContent`: text, or an error. Pure, and any bytes can be read.
//!
//! Sources: <https://ai.google.dev/api/generate-content> and google.rpc `error_details.proto`. The JSON is read
//! field by field, not deserialized: providers add enum values and drop fields, and a usable answer must not be lost to
//! that.

use std::time::Duration;

use platform::queue;
use serde_json::Value;

use super::error::{ModelError, Refusal};
use super::tokens::Tokens;

/// A longer wait that the provider asks for is cut to a day.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelAnswer {
    /// Never empty; without the model's thoughts.
    pub(crate) text: String,
    /// The tokens it used, if the provider reported them.
    pub(crate) tokens: Option<Tokens>,
    /// The model that answered, if the provider named it, else the one that was called.
    pub(crate) model: String,
    pub(crate) completeness: Completeness,
}

/// Whether an answer's text is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completeness {
    Whole,
    /// It ended at the limit of tokens, and was cut after its last complete sentence, if it has one.
    Truncated,
}

/// Reads one response. `retry_after` is the wait that its header asks for.
///
/// # Errors
/// If it holds no text that can be sent.
pub(crate) fn read_answer(
    called_model: &str,
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Result<ModelAnswer, ModelError> {
    let parsed: Option<Value> = serde_json::from_slice(body).ok().map(out_of_array);
    let error = parsed.as_ref().and_then(|body| body.get("error"));
    if !(200..300).contains(&status) || error.is_some() {
        return Err(read_error(status, retry_after, error.unwrap_or(&Value::Null)));
    }
    let body = parsed.filter(Value::is_object).ok_or(ModelError::Garbage { status })?;
    let tokens = Tokens::used(&body["usageMetadata"]);
    let candidate = &body["candidates"][0];
    if let Some(reason) = blocked_prompt(&body["promptFeedback"], candidate) {
        return Err(ModelError::Blocked { reason, tokens });
    }
    let text = text(candidate);
    let completeness = match finish(candidate) {
        FinishReason::Done => Completeness::Whole,
        FinishReason::OutOfTokens => Completeness::Truncated,
        FinishReason::Filtered(reason) => return Err(ModelError::Blocked { reason, tokens }),
        FinishReason::Malformed(finish) => return Err(ModelError::Empty { finish, tokens }),
    };
    let text = match completeness {
        Completeness::Whole => text.trim(),
        Completeness::Truncated => whole_sentences(text.trim()),
    };
    if text.is_empty() {
        let finish = if completeness == Completeness::Truncated { "MAX_TOKENS" } else { "STOP" };
        return Err(ModelError::Empty { finish, tokens });
    }
    let model = body["modelVersion"].as_str().filter(|name| is_a_name(name)).unwrap_or(called_model);
    Ok(ModelAnswer { text: text.to_owned(), tokens, model: model.to_owned(), completeness })
}

/// A model's name becomes part of a key, so only a short printable one is used.
fn is_a_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

/// Some errors come wrapped in an array of one.
fn out_of_array(body: Value) -> Value {
    match body {
        Value::Array(mut only) if only.len() == 1 => only.remove(0),
        other => other,
    }
}

fn blocked_prompt(feedback: &Value, candidate: &Value) -> Option<&'static str> {
    const REASONS: [&str; 7] =
        ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR", "JAILBREAK"];
    let reason = feedback["blockReason"].as_str().filter(|reason| *reason != "BLOCK_REASON_UNSPECIFIED");
    match reason {
        Some(reason) => Some(known(reason, &REASONS)),
        // Some responses have only the message.
        None if candidate.is_null() && feedback["blockReasonMessage"].is_string() => Some("unknown"),
        None => None,
    }
}

enum FinishReason {
    Done,
    OutOfTokens,
    /// A filter stopped it: its text must not be sent.
    Filtered(&'static str),
    /// The model tried something that the request does not allow, such as a function call.
    Malformed(&'static str),
}

fn finish(candidate: &Value) -> FinishReason {
    const FILTERS: [&str; 7] = ["SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"];
    const MALFORMED: [&str; 4] =
        ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"];
    match candidate["finishReason"].as_str() {
        None | Some("STOP" | "FINISH_REASON_UNSPECIFIED" | "") => FinishReason::Done,
        Some("MAX_TOKENS") => FinishReason::OutOfTokens,
        Some(reason) if MALFORMED.contains(&reason) => FinishReason::Malformed(known(reason, &MALFORMED)),
        // An unknown reason may be a new filter, so its text must not be sent either.
        Some(reason) => FinishReason::Filtered(known(reason, &FILTERS)),
    }
}

/// The name from the list, or `unknown`, so that metrics and logs have a fixed set of names.
fn known(name: &str, names: &[&'static str]) -> &'static str {
    names.iter().find(|known| **known == name).copied().unwrap_or("unknown")
}

/// The text of every part that is not a thought.
fn text(candidate: &Value) -> String {
    let parts = candidate["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str()).collect()
}

/// The text up to its last complete sentence; all of it if no sentence is complete.
fn whole_sentences(text: &str) -> &str {
    let ends = |at: usize, mark: char| {
        let next = text[at + mark.len_utf8()..].chars().next();
        matches!(mark, '.' | '!' | '?' | '…') && next.is_none_or(char::is_whitespace)
    };
    match text.char_indices().rev().find(|(at, mark)| ends(*at, *mark)) {
        Some((at, mark)) => &text[..at + mark.len_utf8()],
        None => text,
    }
}

fn read_error(status: u16, retry_after: Option<Duration>, error: &Value) -> ModelError {
    // An error with status 200 has its status in the body.
    let inner = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    let status = if status < 400 { inner.unwrap_or(status) } else { status };
    let after = retry_info(error)
        .or_else(|| wait_in_message(error["message"].as_str()?))
        .or(retry_after)
        .map(|wait| wait.min(LONGEST_WAIT));
    match status {
        429 if quota_of_the_day(error) => ModelError::QuotaDay,
        429 => ModelError::RateLimited { after },
        408 | 500.. => ModelError::Unavailable { status, after },
        401 | 403 => ModelError::Refused { status, refusal: Refusal::Key },
        _ if has_reason(error, "API_KEY") => ModelError::Refused { status, refusal: Refusal::Key },
        404 => ModelError::Refused { status, refusal: Refusal::Model },
        200..300 => ModelError::Garbage { status },
        _ => ModelError::Refused { status, refusal: Refusal::Request },
    }
}

fn details<'a>(error: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter(move |detail| detail["@type"].as_str().is_some_and(|name| name.ends_with(kind)))
}

fn has_reason(error: &Value, prefix: &str) -> bool {
    details(error, "google.rpc.ErrorInfo").any(|info| info["reason"].as_str().is_some_and(|it| it.starts_with(prefix)))
}

fn quota_of_the_day(error: &Value) -> bool {
    details(error, "google.rpc.QuotaFailure")
        .filter_map(|failure| failure["violations"].as_array())
        .flatten()
        .any(|violation| violation["quotaId"].as_str().is_some_and(|id| id.contains("PerDay")))
}

fn retry_info(error: &Value) -> Option<Duration> {
    details(error, "google.rpc.RetryInfo").find_map(|info| queue::retry_info(info["retryDelay"].as_str()?))
}

/// The wait in `Please retry in 36.9s.`, `… in 1m2.5s.` or `… in 850ms.`, for responses without `RetryInfo`.
fn wait_in_message(message: &str) -> Option<Duration> {
    const AFTER: &str = "retry in ";
    let message = message.to_ascii_lowercase();
    let mut rest = message.get(message.find(AFTER)? + AFTER.len()..)?;
    let mut wait = None;
    while let Some((amount, after)) = number(rest) {
        let after = after.trim_start();
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let scale = match &after[..unit] {
            "h" => 3_600.0,
            "m" | "min" => 60.0,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "ms" => 0.001,
            _ => break,
        };
        wait = Some(wait.unwrap_or(0.0) + amount * scale);
        rest = &after[unit..];
    }
    Duration::try_from_secs_f64(wait?).ok()
}

/// A leading decimal number, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}
