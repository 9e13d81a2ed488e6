//! What a response of Whaticket's send API means for the message. Pure.
//!
//! Sources: whaticket-community `AppError.ts`, `CheckIsValidContact.ts`, `SendWhatsAppMessage.ts`, `isAuthApi.ts`;
//! launcherbr/whaticketsaas `MessageController.send`, `tokenAuth.ts`. Errors are `{"error":"<text>"}` with status 400,
//! or 500 for an unexpected failure. No response has a message id, so an uncertain send stays uncertain.

use std::time::Duration;

use platform::attempt::Verdict;
use platform::queue::Health;
use serde_json::Value;

/// A longer `Retry-After` is cut to an hour.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// The class of a message that an open circuit held back for as long as its retries last.
pub(crate) const CIRCUIT_OPEN: &str = "circuit_open";

/// What a verdict means for the circuit of the provider and the credential.
pub(crate) fn health(verdict: &Verdict) -> Health {
    match verdict.class() {
        Some(
            "unreachable" | "timeout" | "connection_lost" | "server_error" | "session_down" | "unauthorized"
            | "forbidden" | "request_timeout" | "redirected",
        ) => Health::Failing,
        Some("no_channel" | "sealed_channel" | "bad_address" | "bad_token" | CIRCUIT_OPEN) => Health::Unclear,
        None if *verdict == Verdict::Withdrawn => Health::Unclear,
        _ => Health::Healthy,
    }
}

/// The verdict on a response. `body` is `None` if the connection ended before all of it had arrived; a success needs
/// none.
pub(crate) fn classify(status: u16, retry_after: Option<Duration>, body: Option<&[u8]>) -> Verdict {
    let retry_after = retry_after.map(|it| it.min(LONGEST_WAIT));
    match status {
        200..300 => Verdict::Done,
        // The client follows no redirect: a POST would arrive as a GET.
        ..200 | 300..400 => Verdict::permanent("redirected"),
        401 => Verdict::permanent("unauthorized"),
        403 => Verdict::permanent("forbidden"),
        408 => Verdict::Temporary { class: "request_timeout", retry_after },
        429 => Verdict::Temporary { class: "rate_limited", retry_after },
        500.. => Verdict::Temporary { class: "server_error", retry_after },
        400..500 => match body {
            Some(body) => by_message(&error_message(body)).unwrap_or(Verdict::permanent("refused")),
            // The error message would show whether it was sent, and it is lost.
            None => Verdict::unknown("answer_lost"),
        },
    }
}

/// Whether a response refuses the token, which the server checks before anything else.
pub(super) fn refuses_token(status: u16, body: Option<&[u8]>) -> bool {
    // Community and the forks answer an expired login token with a 403 and this message.
    status == 401 || (status == 403 && body.is_some_and(|body| error_message(body).starts_with("Invalid token")))
}

fn by_message(error_message: &str) -> Option<Verdict> {
    const SESSION_DOWN: Verdict = Verdict::temporary("session_down");
    const NOT_ON_WHATSAPP: Verdict = Verdict::permanent("not_on_whatsapp");
    const BAD_NUMBER: Verdict = Verdict::permanent("bad_number");
    const UNCLEAR: Verdict = Verdict::unknown("send_unclear");
    const TABLE: [(&str, Verdict); 11] = [
        ("ERR_WAPP_NOT_INITIALIZED", SESSION_DOWN),
        ("ERR_NO_DEF_WAPP_FOUND", SESSION_DOWN),
        ("ERR_WAPP_CHECK_CONTACT", SESSION_DOWN),
        // The number check fails like this while the session reconnects.
        ("Cannot read propert", SESSION_DOWN),
        ("ERR_CHECK_NUMBER", NOT_ON_WHATSAPP),
        ("ERR_WAPP_INVALID_CONTACT", NOT_ON_WHATSAPP),
        ("O número é obrigatório", BAD_NUMBER),
        ("Invalid number format", BAD_NUMBER),
        ("Número inválido", BAD_NUMBER),
        ("ERR_SENDING_WAPP_MSG", UNCLEAR),
        // The fork answers every plain exception with this, before and after the send.
        ("Não foi possível enviar a mensagem", UNCLEAR),
    ];
    TABLE.iter().find(|(prefix, _)| error_message.starts_with(prefix)).map(|(_, verdict)| *verdict)
}

fn error_message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let error = parsed.as_ref().and_then(|body| body.get("error").or_else(|| body.get("message")));
    error.and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            Some(include_bytes!(concat!("../../../../fixtures/whaticket/", $name, ".json")).as_slice())
        };
    }

    #[test]
    fn every_response_of_the_providers_has_its_verdict() {
        let temporary = Verdict::temporary;
        let permanent = Verdict::permanent;
        let unknown = Verdict::unknown;
        type Case = (u16, Option<&'static [u8]>, Verdict);
        let cases: [Case; 14] = [
            (200, fixture!("send_200_saas"), Verdict::Done),
            (200, fixture!("send_200_ticketz"), Verdict::Done),
            (400, fixture!("send_400_bad_number_community"), permanent("bad_number")),
            (400, fixture!("send_400_missing_number"), permanent("bad_number")),
            (400, fixture!("send_400_no_default"), temporary("session_down")),
            (400, fixture!("send_400_not_on_whatsapp"), permanent("not_on_whatsapp")),
            (400, fixture!("send_400_send_failed"), unknown("send_unclear")),
            (400, fixture!("send_400_session_down"), temporary("session_down")),
            (400, fixture!("send_400_try_again_saas"), unknown("send_unclear")),
            (400, fixture!("send_400_undefined"), temporary("session_down")),
            (401, fixture!("send_401_community"), permanent("unauthorized")),
            (401, fixture!("send_401_saas"), permanent("unauthorized")),
            (403, fixture!("send_403_community"), permanent("forbidden")),
            (500, fixture!("send_500"), temporary("server_error")),
        ];
        for (status, body, verdict) in cases {
            let shown = String::from_utf8_lossy(body.unwrap());
            assert_eq!(classify(status, None, body), verdict, "{status} {shown}");
        }
    }

    #[test]
    fn a_success_is_known_by_its_status_alone() {
        for body in [None, Some(&b""[..]), Some(b"{\"mensa"), Some(b"\xff<html>")] {
            assert_eq!(classify(200, None, body), Verdict::Done);
        }
        assert_eq!(classify(201, None, None), Verdict::Done);
    }

    #[test]
    fn a_server_error_is_temporary_whatever_its_body() {
        for status in [500, 502, 503, 504, 599] {
            assert_eq!(classify(status, None, Some(b"<html>Bad Gateway")).class(), Some("server_error"));
        }
        let asked = Some(Duration::from_secs(12));
        let waiting = Verdict::Temporary { class: "server_error", retry_after: asked };
        assert_eq!(classify(503, asked, None), waiting);
    }

    #[test]
    fn a_wait_is_taken_from_the_response_up_to_a_limit() {
        let waits = |asked: Option<u64>| match classify(429, asked.map(Duration::from_secs), None) {
            Verdict::Temporary { class: "rate_limited", retry_after } => retry_after.map(|it| it.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(waits(Some(30)), Some(30));
        assert_eq!(waits(Some(31_536_000)), Some(3_600));
        assert_eq!(waits(None), None);
    }

    #[test]
    fn an_unknown_error_message_is_a_refusal_and_a_lost_one_is_not() {
        assert_eq!(classify(400, None, Some(b"{\"error\":\"ERR_SOMETHING_NEW\"}")).class(), Some("refused"));
        assert_eq!(classify(404, None, Some(b"<html>")).class(), Some("refused"));
        assert_eq!(classify(400, None, Some(b"{\"error\":{\"a\":1}}")).class(), Some("refused"));
        assert_eq!(classify(400, None, None), Verdict::Unknown { class: "answer_lost" });
        assert_eq!(classify(302, None, Some(b"")).class(), Some("redirected"));
    }

    #[test]
    fn a_refused_token_is_distinguished_from_a_refused_message() {
        assert!(refuses_token(401, None));
        assert!(refuses_token(403, fixture!("send_403_community")));
        assert!(!refuses_token(403, Some(b"{\"error\":\"ERR_NO_PERMISSION\"}")));
        assert!(!refuses_token(400, fixture!("send_400_undefined")));
    }
}
