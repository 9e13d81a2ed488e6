//! Gemini's wire format.

use sandbox::Filter;
use serde_json::{Value, json};

use crate::{TestSandbox, json_of, question};

#[tokio::test]
async fn a_question_gets_an_answer_from_the_system_instruction() {
    let test = TestSandbox::start().await;
    let asked = json!({
        "systemInstruction": {"parts": [{"text": "Nome: Salão Flor\nPreços: corte R$ 60,00; escova R$ 45,00"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "oi"}]},
            {"role": "model", "parts": [{"text": "Olá!"}]},
            {"role": "user", "parts": [{"text": "boa tarde"}]},
            {"role": "user", "parts": [{"text": "quanto custa o corte?"}]},
        ],
        "generationConfig": {"temperature": 0.3, "maxOutputTokens": 512, "thinkingConfig": {"thinkingBudget": 0}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}],
    });
    let (status, body) = json_of(test.ask(&asked).send().await.unwrap()).await;
    assert_eq!(status, 200);
    let candidate = &body["candidates"][0];
    let text = "Boa tarde! O valor é: corte R$ 60,00. Quer que eu veja um horário para você?";
    assert_eq!(candidate["content"], json!({"role": "model", "parts": [{"text": text}]}));
    assert_eq!(candidate["finishReason"], "STOP");
    let usage = &body["usageMetadata"];
    assert_eq!(usage["candidatesTokenCount"], text.chars().count().div_ceil(4));
    let sum = usage["promptTokenCount"].as_u64().unwrap() + usage["candidatesTokenCount"].as_u64().unwrap();
    assert_eq!(usage["totalTokenCount"], sum);
    assert_eq!(body["modelVersion"], "gemini-2.5-flash");

    let entry = &test.sandbox.log(&Filter::default())[0];
    assert_eq!(entry.text.as_deref(), Some("boa tarde\nquanto custa o corte?"));
    assert_eq!(entry.answer.as_deref(), Some(text));
    assert_eq!((entry.status, entry.performed), (Some(200), true));
}

#[tokio::test]
async fn every_answer_has_its_own_response_id() {
    let test = TestSandbox::start().await;
    let (_, first) = json_of(test.ask(&question("oi")).send().await.unwrap()).await;
    let (_, second) = json_of(test.ask(&question("oi")).send().await.unwrap()).await;
    assert_ne!(first["responseId"], second["responseId"]);
    assert_eq!(first["candidates"], second["candidates"]);
}

#[tokio::test]
async fn a_request_without_a_valid_key_is_refused_as_google_does() {
    let test = TestSandbox::start().await;
    let url = test.url("/v1beta/models/gemini-2.5-flash:generateContent?key=na-url");
    for request in [test.client.post(&url), test.client.post(&url).header("x-goog-api-key", "invalid-key")] {
        let (status, body) = json_of(request.json(&question("oi")).send().await.unwrap()).await;
        assert_eq!(status, 400);
        assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
        assert_eq!(body["error"]["details"][0]["reason"], "API_KEY_INVALID");
    }
    assert_eq!(test.sandbox.count(&Filter { performed: Some(true), ..Filter::default() }), 0);
}

#[tokio::test]
async fn a_misshapen_request_is_refused_with_the_reason() {
    let test = TestSandbox::start().await;
    let user = json!({"role": "user", "parts": [{"text": "oi"}]});
    let cases: [(Value, &str); 7] = [
        (json!({}), "contents is not specified"),
        (json!({"contents": []}), "contents is not specified"),
        (json!({"contents": [{"role": "assistant", "parts": [{"text": "oi"}]}]}), "valid role: user, model"),
        (json!({"contents": [{"role": "user", "parts": []}]}), "parts must not be empty"),
        (json!({"contents": [user, {"role": "user", "parts": [{"text": ""}]}]}), "contents[1].parts[0].data"),
        (json!({"contents": [user, {"role": "model", "parts": [{"text": "oi"}]}]}), "end with a user role"),
        (json!({"contents": [user], "messages": []}), "Unknown name \"messages\""),
    ];
    for (asked, reason) in cases {
        let (status, body) = json_of(test.ask(&asked).send().await.unwrap()).await;
        let message = body["error"]["message"].as_str().unwrap();
        assert_eq!((status, &body["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{asked}");
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn an_unknown_model_or_verb_is_not_found() {
    let test = TestSandbox::start().await;
    let (status, body) = json_of(test.ask_model("gpt-4o", &question("oi")).send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["status"]), (404, &json!("NOT_FOUND")));
    let url = test.url("/v1beta/models/gemini-2.5-flash:countTokens");
    assert_eq!(test.client.post(url).body("{}").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_answer_longer_than_the_limit_is_truncated_and_marked_so() {
    let test = TestSandbox::start().await;
    let mut asked = question("bom dia");
    asked["generationConfig"] = json!({"maxOutputTokens": 2});
    let (_, body) = json_of(test.ask(&asked).send().await.unwrap()).await;
    assert_eq!(body["candidates"][0]["finishReason"], "MAX_TOKENS");
    assert_eq!(body["candidates"][0]["content"]["parts"][0]["text"], "Bom dia!");
    assert_eq!(body["usageMetadata"]["candidatesTokenCount"], 2);
}

#[tokio::test]
async fn a_structured_answer_is_json_in_the_text() {
    let test = TestSandbox::start().await;
    let mut asked = question("quero falar com um atendente");
    asked["generationConfig"] = json!({"responseMimeType": "application/json", "responseSchema": {
        "type": "OBJECT",
        "properties": {"reply": {"type": "STRING"}, "wants_human": {"type": "BOOLEAN"}},
        "required": ["reply"],
    }});
    let (_, body) = json_of(test.ask(&asked).send().await.unwrap()).await;
    let text = body["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap();
    let inner: Value = serde_json::from_str(text).unwrap();
    assert_eq!(inner["wants_human"], true);
    assert!(inner["reply"].as_str().unwrap().contains("Vou chamar uma pessoa da equipe"));
}
