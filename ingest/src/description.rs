//! `POST /webhook/whaticket` in the OpenAPI document. For producers, `docs/PRODUCERS.md` has more.

use std::collections::BTreeMap;

use platform::openapi;
use platform::problem::{Problem, documented};
use serde_json::{Map, Value};
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};

use crate::rejection::{Rejection, Unauthenticated, Unavailable};
use crate::signature::SIGNATURE_HEADER;

/// The OpenAPI document of this crate's routes.
pub fn document() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(whaticket), components(schemas(Hook, Accepted)))]
    struct Routes;

    let mut document = Routes::openapi();
    let about = "`hex(hmac_sha256(secret, timestamp + \".\" + body))` over the body's bytes exactly as sent.";
    let signature = ApiKeyValue::with_description(SIGNATURE_HEADER, about);
    openapi::add_security(&mut document, "hook_signature", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    document
}

/// Accepts one signed message of a Whaticket bridge. A 202 means that it is stored on every in-sync replica.
#[expect(
    dead_code,
    reason = "read by the macro; `webhook::answer` is given the whole request, so that it can refuse early"
)]
#[utoipa::path(
    post,
    path = "/webhook/whaticket",
    operation_id = "take_hook",
    tag = "hooks",
    security(("hook_signature" = [])),
    params(
        ("X-Company-Domain" = String, Header, description = "Which company the message is for.", example = "clinica.example"),
        ("X-Timestamp" = i64, Header, description = "When it was signed, in epoch seconds, at most 300 s from the server's clock.",
            example = 1764000000),
        ("X-Webhook-Token" = Option<String>, Header, description = "Needed only if the company is set to require it."),
        ("X-Idempotency-Key" = Option<String>, Header, description = "Identifies a message that has no id of its own, so that a repeat is recognised."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; it is passed on in log lines and records."),
    ),
    request_body(content = Hook, description = "At most 1 MiB, to arrive within 10 s, unless set otherwise.",
        example = json!({"id": "3EB0A1", "message": {"conversation": "Oi, tem horário?"}, "number": "5511999990001",
            "pushName": "Ana"})),
    responses((status = 202, description = "It is stored.", body = Accepted), Rejection),
)]
fn whaticket() {}

/// A bridge's message, or a raw Baileys message. Unknown fields are ignored.
#[expect(dead_code, reason = "read by the macro; bodies are read by `parse`, which is more lenient")]
#[derive(utoipa::ToSchema)]
struct Hook {
    /// The message's id at the bridge.
    id: Option<Value>,
    /// The sender's telephone number, as text or as a number.
    number: Option<Value>,
    /// The sender's display name.
    #[schema(rename = "pushName")]
    push_name: Option<Value>,
    /// The content, in the form that Baileys gives it.
    message: Option<Map<String, Value>>,
    /// Baileys' key of the message: `remoteJid`, `fromMe`, `id`.
    key: Option<Map<String, Value>>,
    /// When the message was written, in epoch seconds.
    #[schema(rename = "messageTimestamp")]
    message_timestamp: Option<Value>,
    /// The bridge's ticket, with the number in `contact`.
    ticket: Option<Map<String, Value>>,
}

/// A webhook that is stored.
#[expect(dead_code, reason = "read by the macro; `webhook::Accepted` is written by hand")]
#[derive(utoipa::ToSchema)]
struct Accepted {
    /// The id of the event made of the message, the same for every repeat.
    id: uuid::Uuid,
    /// Always true.
    queued: bool,
}

impl utoipa::IntoResponses for Rejection {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let refused = [
            Unauthenticated::MissingTimestamp.into(),
            Unauthenticated::StaleTimestamp.into(),
            Unauthenticated::FutureTimestamp.into(),
            Unauthenticated::MissingSignature.into(),
            Unauthenticated::BadSignature.into(),
            Unauthenticated::BadToken.into(),
            Rejection::NotJson { line: 1, column: 1 },
            Rejection::MissingNumber,
            Rejection::UnknownShape,
            Rejection::InvalidField { field: "number" },
            Rejection::TooLarge { limit: 1_048_576 },
            Rejection::Incomplete,
            Unavailable::NotDurable.into(),
            Unavailable::DirectoryNotLoaded.into(),
            Unavailable::ShuttingDown.into(),
        ];
        documented(refused.map(Problem::from))
    }
}
