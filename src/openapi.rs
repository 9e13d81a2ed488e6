//! The OpenAPI document of the whole product, with every crate's routes. `api` serves it, `secretaria openapi` prints it,
//! and `api/openapi.json` is a copy for readers, which a test here keeps current.

use platform::{health, openapi};

/// The document as text, the same in every build of this code.
///
/// # Errors
/// If it cannot be written as JSON, which would be a defect.
pub fn document() -> serde_json::Result<String> {
    let parts = [api::document(), ingest::document(), health::document()];
    openapi::document(env!("CARGO_PKG_VERSION"), parts).to_pretty_json()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn whole() -> Value {
        serde_json::from_str(&document().unwrap()).unwrap()
    }

    /// Every operation, with the method and path it is under.
    fn operations(whole: &Value) -> Vec<(String, Value)> {
        let paths = whole["paths"].as_object().unwrap().iter();
        let all: Vec<_> = paths
            .flat_map(|(path, item)| {
                item.as_object().unwrap().iter().map(move |(method, it)| (format!("{method} {path}"), it.clone()))
            })
            .collect();
        assert!(all.len() > 5, "too few operations were found");
        all
    }

    #[test]
    fn the_copy_for_readers_is_current() {
        let copy = include_str!("../api/openapi.json");
        let current = document().unwrap();
        let differs = current.lines().zip(copy.lines()).position(|(now, then)| now != then);
        assert!(
            copy.trim_end() == current,
            "api/openapi.json is not current, from line {} on: make it with `cargo run -- openapi > api/openapi.json`, \
             and look at the difference as at any change of the API",
            differs.unwrap_or(current.lines().count().min(copy.lines().count())) + 1
        );
    }

    #[test]
    fn every_error_is_a_problem_document_with_an_example_and_every_answer_has_an_id() {
        let whole = whole();
        for (operation, it) in operations(&whole) {
            for (status, response) in it["responses"].as_object().unwrap() {
                assert!(response["headers"]["x-request-id"].is_object(), "{operation} {status}");
                let problem = &response["content"]["application/problem+json"];
                // A report of health is no error of the request.
                if status.as_str() < "400" || operation == "get /healthz" {
                    continue;
                }
                assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{operation} {status}");
                for (reason, example) in problem["examples"].as_object().unwrap() {
                    let value = &example["value"];
                    assert_eq!(
                        (&value["reason"], value["status"].to_string()),
                        (&reason.as_str().into(), status.clone())
                    );
                }
            }
        }
    }

    #[test]
    fn every_operation_has_its_security_and_a_summary() {
        let whole = whole();
        let open = ["get /livez", "get /readyz", "get /healthz", "get /metrics", "get /api/openapi.json"];
        let mut ids = Vec::new();
        for (operation, it) in operations(&whole) {
            let security = it["security"].as_array().cloned().unwrap_or_default();
            let is_open = security.is_empty() || security.iter().any(|it| it.as_object().unwrap().is_empty());
            assert_eq!(is_open, open.contains(&operation.as_str()), "{operation}");
            for scheme in security.iter().flat_map(|it| it.as_object().unwrap().keys()) {
                assert!(whole["components"]["securitySchemes"][scheme].is_object(), "{operation}: {scheme}");
            }
            assert!(it["summary"].as_str().is_some_and(|it| it.ends_with('.') || it.len() > 5), "{operation}");
            ids.push(it["operationId"].to_string());
        }
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "each operation has a name of its own");
    }
}
