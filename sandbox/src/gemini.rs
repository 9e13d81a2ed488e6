//! Gemini's `POST /v1beta/models/{model}:generateContent`, unary.
//!
//! Sources: "Generating content" and "Troubleshooting guide" in the Gemini API reference (ai.google.dev), and
//! google.rpc `Status`, `ErrorInfo`, `QuotaFailure` and `RetryInfo` in googleapis `error_details.proto`.
//! The key belongs in `x-goog-api-key`; `?key=` is refused on purpose, because it leaks into logs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::exchange::{ProviderResponse, Request, SandboxState, exchange};
use crate::request_log::Target;
use crate::secretary::{Author, ChatMessage, Conversation, reply};
use crate::server::ConnectionHandle;
use crate::structured;

/// Fields of `GenerateContentRequest`, in both spellings that protobuf JSON accepts.
const KNOWN_FIELDS: [&str; 13] = [
    "contents",
    "systemInstruction",
    "system_instruction",
    "generationConfig",
    "generation_config",
    "safetySettings",
    "safety_settings",
    "tools",
    "toolConfig",
    "tool_config",
    "cachedContent",
    "cached_content",
    "model",
];

pub(crate) async fn generate(
    State(state): State<Arc<SandboxState>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    Path(call): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (model, verb) = call.split_once(':').unwrap_or((&call, ""));
    let asked: Option<Value> = serde_json::from_slice(&body).ok();
    let conversation = asked.as_ref().map(conversation).unwrap_or_default();
    let mut request = Request::arrived(Target::Model, &headers);
    request.token = headers.get("x-goog-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    request.model = Some(model.to_owned());
    request.text = Some(conversation.latest_messages()).filter(|text| !text.is_empty());
    let perform = |request: &Request| match validate(request, model, verb, asked.as_ref()) {
        Ok(asked) => answer(&state, model, asked, &conversation),
        Err(problem) => problem.into(),
    };
    exchange(&state, &connection, request, perform).await
}

/// The `429` of a spent quota, as Google writes it.
pub(crate) fn quota_exhausted(model: &str, retry_delay_s: f64, per_day: bool) -> ProviderResponse {
    let period = if per_day { "Day" } else { "Minute" };
    let message = format!(
        "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric: \
         generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 20, model: {model}\nPlease \
         retry in {retry_delay_s}s."
    );
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
            "quotaId": format!("GenerateRequestsPer{period}PerProjectPerModel-FreeTier"),
            "quotaDimensions": {"location": "global", "model": model},
            "quotaValue": "20",
        }]},
        {"@type": "type.googleapis.com/google.rpc.Help", "links": [{
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{retry_delay_s}s")},
    ]);
    refuse(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message, details).into()
}

/// The text of a response's first candidate, if it has any.
pub(crate) fn text(response: &Value) -> Option<String> {
    let parts = response.pointer("/candidates/0/content/parts")?.as_array()?;
    Some(parts.iter().filter_map(text_of).collect())
}

/// The message of an error, Google's or Whaticket's.
pub(crate) fn error_message(body: &Value) -> Option<String> {
    let error = body.get("error").or_else(|| body.get(0)?.get("error"))?;
    error.get("message").unwrap_or(error).as_str().map(str::to_owned)
}

/// Refuses what the real endpoint refuses, in its order: route, key, model, shape.
fn validate<'a>(request: &Request, model: &str, verb: &str, asked: Option<&'a Value>) -> Result<&'a Value, Problem> {
    if verb != "generateContent" {
        return Err(refuse(StatusCode::NOT_FOUND, "NOT_FOUND", "Requested entity was not found.", Value::Null));
    }
    if request.token.as_deref().is_none_or(|key| key.is_empty() || key.contains("invalid")) {
        let details = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
            "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"},
        }]);
        return Err(invalid_with("API key not valid. Please pass a valid API key.", details));
    }
    if !model.starts_with("gemini-") && !model.starts_with("gemma-") {
        let message = format!(
            "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call \
             ListModels to see the list of available models and their supported methods."
        );
        return Err(refuse(StatusCode::NOT_FOUND, "NOT_FOUND", message, Value::Null));
    }
    let Some(asked) = asked else {
        return Err(invalid("Invalid JSON payload received. Unexpected token."));
    };
    check_shape(asked).map(|()| asked)
}

fn check_shape(asked: &Value) -> Result<(), Problem> {
    let Some(fields) = asked.as_object() else {
        return Err(invalid("Invalid JSON payload received. Unknown name \"\": Root element must be a message."));
    };
    if let Some(unknown) = fields.keys().find(|name| !KNOWN_FIELDS.contains(&name.as_str())) {
        return Err(invalid(format!("Invalid JSON payload received. Unknown name \"{unknown}\": Cannot find field.")));
    }
    let contents = fields.get("contents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if contents.is_empty() {
        return Err(invalid("* GenerateContentRequest.contents: contents is not specified\n"));
    }
    for (at, content) in contents.iter().enumerate() {
        check_content(at, content)?;
    }
    if contents.last().is_some_and(|last| role_of(last) != Some("user")) {
        return Err(invalid("Please ensure that multiturn requests end with a user role or a function response."));
    }
    Ok(())
}

fn check_content(at: usize, content: &Value) -> Result<(), Problem> {
    if !matches!(role_of(content), Some("user" | "model")) {
        return Err(invalid("Please use a valid role: user, model."));
    }
    let parts = content.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if parts.is_empty() {
        let message = format!("* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.\n");
        return Err(invalid(message));
    }
    match parts.iter().position(|part| text_of(part).is_none_or(str::is_empty)) {
        None => Ok(()),
        Some(part) => Err(invalid(format!(
            "* GenerateContentRequest.contents[{at}].parts[{part}].data: required oneof field 'data' must have one \
             initialized field\n"
        ))),
    }
}

fn answer(state: &SandboxState, model: &str, asked: &Value, conversation: &Conversation) -> ProviderResponse {
    let config = asked.get("generationConfig").or_else(|| asked.get("generation_config")).unwrap_or(&Value::Null);
    let reply = reply(conversation);
    let whole = if config.get("responseMimeType").and_then(Value::as_str) == Some("application/json") {
        structured::fill(config.get("responseSchema").unwrap_or(&Value::Null), &reply).to_string()
    } else {
        reply.text
    };
    let (text, finish) = match config.get("maxOutputTokens").and_then(Value::as_u64) {
        Some(limit) if limit > 0 && tokens(&whole) > limit => (first_tokens(&whole, limit), "MAX_TOKENS"),
        _ => (whole, "STOP"),
    };
    let prompt_tokens: u64 = conversation.messages.iter().map(|message| tokens(&message.text)).sum();
    let (asked_for, answered) = (tokens(&conversation.system) + prompt_tokens, tokens(&text));
    let number = state.generated.fetch_add(1, Ordering::Relaxed) + 1;
    let body = json!({
        "candidates": [{
            "content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish, "index": 0,
        }],
        "usageMetadata": {
            "promptTokenCount": asked_for, "candidatesTokenCount": answered, "totalTokenCount": asked_for + answered,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked_for}],
        },
        "modelVersion": model,
        "responseId": format!("sandbox-{number:014}"),
    });
    ProviderResponse::performed(&body, text)
}

/// Reads what can be read, so that a refused request is logged with its text too.
fn conversation(asked: &Value) -> Conversation {
    let system = asked.get("systemInstruction").or_else(|| asked.get("system_instruction")).map(joined_text);
    let contents = asked.get("contents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let messages = contents.iter().map(|content| {
        let author = if role_of(content) == Some("model") { Author::Secretary } else { Author::Customer };
        ChatMessage { author, text: joined_text(content) }
    });
    Conversation { system: system.unwrap_or_default(), messages: messages.collect() }
}

fn joined_text(content: &Value) -> String {
    let parts = content.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(text_of).collect::<Vec<_>>().join("\n")
}

/// Google reads a content without a role as the user's.
fn role_of(content: &Value) -> Option<&str> {
    content.get("role").map_or(Some("user"), Value::as_str)
}

fn text_of(part: &Value) -> Option<&str> {
    part.get("text")?.as_str()
}

/// Google's rule of thumb: a token is about four characters.
fn tokens(text: &str) -> u64 {
    u64::try_from(text.chars().count().div_ceil(4)).unwrap_or(u64::MAX)
}

fn first_tokens(text: &str, limit: u64) -> String {
    let chars = usize::try_from(limit.saturating_mul(4)).unwrap_or(usize::MAX);
    text.chars().take(chars).collect()
}

/// A refusal in google.rpc terms.
struct Problem {
    code: StatusCode,
    status: &'static str,
    message: String,
    details: Value,
}

impl From<Problem> for ProviderResponse {
    fn from(Problem { code, status, message, details }: Problem) -> Self {
        let mut error = json!({"code": code.as_u16(), "message": message, "status": status});
        if !details.is_null() {
            error["details"] = details;
        }
        Self::refused(code, &json!({"error": error}), message)
    }
}

fn invalid(message: impl Into<String>) -> Problem {
    invalid_with(message, Value::Null)
}

fn invalid_with(message: impl Into<String>, details: Value) -> Problem {
    refuse(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message, details)
}

fn refuse(code: StatusCode, status: &'static str, message: impl Into<String>, details: Value) -> Problem {
    Problem { code, status, message: message.into(), details }
}
