//! The request of `generateContent`, as Google writes it (<https://ai.google.dev/api/generate-content>).

use serde::Serialize;

use super::Config;
use crate::reply::prompt::{Prompt, Role};

/// The body of one call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GenerateRequest<'a> {
    system_instruction: Instruction<'a>,
    contents: Vec<Content<'a>>,
    generation_config: GenerationConfig,
}

#[derive(Debug, Serialize)]
struct Instruction<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Content<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    temperature: f32,
    max_output_tokens: u32,
    candidate_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    thinking_budget: i32,
}

impl<'a> GenerateRequest<'a> {
    /// Adjacent texts of one role become one content with several parts: the model expects roles to alternate.
    pub(super) fn of(prompt: &'a Prompt, config: &Config) -> Self {
        let mut contents: Vec<Content<'a>> = Vec::new();
        // Some models refuse an empty part.
        for (role, text) in prompt.messages.iter().filter(|(_, text)| !text.trim().is_empty()) {
            let role = match role {
                Role::User => "user",
                Role::Model => "model",
            };
            let part = Part { text };
            match contents.last_mut() {
                Some(last) if last.role == role => last.parts.push(part),
                _ => contents.push(Content { role, parts: vec![part] }),
            }
        }
        GenerateRequest {
            system_instruction: Instruction { parts: [Part { text: &prompt.system }] },
            contents,
            generation_config: GenerationConfig {
                temperature: config.temperature,
                max_output_tokens: config.max_output_tokens,
                candidate_count: 1,
                thinking_config: config.thinking_budget.map(|thinking_budget| ThinkingConfig { thinking_budget }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_texts_of_one_role_are_one_content() {
        let turns = [
            (Role::User, "oi"),
            (Role::Model, "Olá!"),
            (Role::User, "quero marcar"),
            (Role::User, "  "),
            (Role::User, "amanhã"),
        ];
        let prompt =
            Prompt { system: "Seja breve.".into(), messages: turns.map(|(role, text)| (role, text.into())).to_vec() };
        let config = Config { temperature: 0.3, max_output_tokens: 512, ..Config::default() };
        insta::assert_snapshot!(serde_json::to_string_pretty(&GenerateRequest::of(&prompt, &config)).unwrap(), @r#"
        {
          "systemInstruction": {
            "parts": [
              {
                "text": "Seja breve."
              }
            ]
          },
          "contents": [
            {
              "role": "user",
              "parts": [
                {
                  "text": "oi"
                }
              ]
            },
            {
              "role": "model",
              "parts": [
                {
                  "text": "Olá!"
                }
              ]
            },
            {
              "role": "user",
              "parts": [
                {
                  "text": "quero marcar"
                },
                {
                  "text": "amanhã"
                }
              ]
            }
          ],
          "generationConfig": {
            "temperature": 0.3,
            "maxOutputTokens": 512,
            "candidateCount": 1
          }
        }
        "#);
    }

    #[test]
    fn thinking_is_part_of_a_request_only_if_it_is_configured() {
        let prompt = Prompt { system: String::new(), messages: vec![] };
        let config = Config { thinking_budget: Some(0), ..Config::default() };
        let body = serde_json::to_value(GenerateRequest::of(&prompt, &config)).unwrap();
        assert_eq!(body["generationConfig"]["thinkingConfig"], serde_json::json!({"thinkingBudget": 0}));
    }
}
