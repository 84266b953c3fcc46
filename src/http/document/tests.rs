//! Does every operation have what a reader needs, and do the examples hold what the schemas say?

use std::collections::{BTreeMap, BTreeSet};

use super::ordered::Json;
use super::{CODES, GROUPS, Notes, OPERATIONS, SCHEMAS};

fn document() -> Json {
    serde_json::from_str(&crate::http::openapi_document()).unwrap()
}

fn notes() -> BTreeMap<String, Notes> {
    serde_json::from_str(OPERATIONS).unwrap()
}

/// Every operation, with "GET /path".
fn operations(document: &Json) -> Vec<(String, Json)> {
    let mut found = Vec::new();
    for (path, operations) in document.get("paths").unwrap().entries() {
        for (method, operation) in operations.entries() {
            found.push((format!("{} {path}", method.to_uppercase()), operation.clone()));
        }
    }
    found
}

fn media(part: &Json) -> &[(String, Json)] {
    part.get("content").map(Json::entries).unwrap_or_default()
}

/// What is wrong with a value, by its schema.
fn faults(document: &Json, schema: &Json, value: &Json, place: &str) -> Vec<String> {
    if schema.get("nullable") == Some(&Json::Bool(true)) && *value == Json::Null {
        return Vec::new();
    }
    if let Some(name) = super::referred(schema) {
        let schema = document.at(&[SCHEMAS[0], SCHEMAS[1], name]).unwrap();
        return faults(document, schema, value, place);
    }
    let check = |schema: &Json| faults(document, schema, value, place);
    let mut found: Vec<String> =
        schema.get("allOf").into_iter().flat_map(Json::items).flat_map(check).collect();
    if let Some(choices) = schema.get("oneOf") {
        let fitting = choices.items().iter().filter(|choice| check(choice).is_empty()).count();
        if fitting != 1 {
            found.push(format!("{place} fits {fitting} of the choices"));
        }
    }
    let fits = match (schema.get("type").and_then(Json::as_text), value) {
        (None, _)
        | (Some("string"), Json::Text(_))
        | (Some("boolean"), Json::Bool(_))
        | (Some("number" | "integer"), Json::Number(_))
        | (Some("array"), Json::Array(_))
        | (Some("object"), Json::Object(_)) => true,
        (Some(_), _) => false,
    };
    if !fits {
        found.push(format!("{place} is of another type"));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Json::as_text)
        && pattern.trim_matches(['^', '$']).bytes().all(|byte| byte.is_ascii_lowercase())
        && value.as_text() != Some(pattern.trim_matches(['^', '$']))
    {
        found.push(format!("{place} is not {pattern}"));
    }
    if let Some(choices) = schema.get("enum")
        && !choices.items().contains(value)
    {
        found.push(format!("{place} is none of the values"));
    }
    for item in value.items() {
        found.extend(faults(document, schema.get("items").unwrap(), item, &format!("{place}[]")));
    }
    if let Some(properties) = schema.get("properties") {
        for field in schema.get("required").map(Json::items).unwrap_or_default() {
            if value.get(field.as_text().unwrap()).is_none() {
                found.push(format!("{place} lacks {field:?}"));
            }
        }
        for (name, part) in value.entries() {
            let place = format!("{place}.{name}");
            match properties.get(name) {
                Some(schema) => found.extend(faults(document, schema, part, &place)),
                None => found.push(format!("{place} is not in the schema")),
            }
        }
    }
    found
}

#[test]
fn every_operation_is_told_and_everything_told_is_an_operation() {
    let document = document();
    let operations = operations(&document);
    let id =
        |operation: &Json| operation.get("operationId").and_then(Json::as_text).unwrap_or("none").to_owned();
    let there: BTreeSet<String> = operations.iter().map(|(_, operation)| id(operation)).collect();
    let told: BTreeSet<String> = notes().into_keys().collect();
    assert_eq!(there, told, "src/http/document/operations.json has an entry for each operation");
    for (name, operation) in &operations {
        let tags = operation.get("tags").map(Json::items).unwrap_or_default();
        assert_eq!(tags.len(), 1, "{name} is in one group");
        let tag = tags[0].as_text().unwrap();
        assert!(GROUPS.contains(&tag), "{name}: {tag} has a place");
        assert!(operation.get("summary").is_some(), "{name} has a title");
    }
    let groups: Vec<_> = document.get("tags").unwrap().items().iter().collect();
    let shown: Vec<_> = groups.iter().map(|tag| tag.get("name").unwrap().as_text().unwrap()).collect();
    let expected: Vec<_> = GROUPS.into_iter().filter(|group| shown.contains(group)).collect();
    assert_eq!(shown, expected);
    assert!(groups.iter().all(|tag| tag.get("description").is_some()));
}

#[test]
fn every_body_has_an_example_that_is_one() {
    let document = document();
    for (name, operation) in operations(&document) {
        let mut bodies: Vec<(String, &Json)> = Vec::new();
        for (_, media) in operation.get("requestBody").into_iter().flat_map(media) {
            bodies.push((format!("{name} request"), media));
        }
        for (status, response) in operation.get("responses").unwrap().entries() {
            assert!(!response.get("description").unwrap().as_text().unwrap().is_empty(), "{name} {status}");
            for (kind, media) in media(response) {
                if kind.starts_with("application/json") && status != "503" {
                    bodies.push((format!("{name} {status}"), media));
                }
            }
        }
        for (place, media) in bodies {
            let schema = media.get("schema").unwrap();
            let named = media.get("examples").map(Json::entries).unwrap_or_default();
            let named = named.iter().map(|(_, example)| example.get("value").unwrap());
            let examples: Vec<_> = media.get("example").into_iter().chain(named).collect();
            assert!(!examples.is_empty(), "{place} has no example");
            for example in examples {
                assert_eq!(faults(&document, schema, example, &place), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn every_error_names_its_codes_and_none_is_told_that_cannot_come() {
    let document = document();
    let notes = notes();
    let mut used = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation.get("operationId").and_then(Json::as_text).unwrap();
        let responses = operation.get("responses").unwrap();
        for status in notes[id].errors.keys() {
            assert!(responses.get(status).is_some(), "{name}: the handler's error type has no {status}");
        }
        for (status, response) in responses.entries() {
            let is_ours = media(response)
                .iter()
                .any(|(_, media)| media.get("schema").and_then(super::referred) == Some("ErrorBody"));
            assert_eq!(is_ours, response.get("x-codes").is_some(), "{name} {status}");
            let codes = response.get("x-codes").map(Json::items).unwrap_or_default();
            used.extend(codes.iter().map(|code| code.as_text().unwrap().to_owned()));
            let needs_body = ["408", "413", "415"].contains(&status.as_str());
            assert!(!needs_body || operation.get("requestBody").is_some(), "{name} {status} without a body");
        }
    }
    let meanings: BTreeMap<String, String> = serde_json::from_str(CODES).unwrap();
    assert_eq!(
        meanings.into_keys().collect::<BTreeSet<_>>(),
        used,
        "src/http/document/codes.json has each code"
    );
}

#[test]
fn what_may_be_null_says_so() {
    let document = document();
    let at = |path: &[&str]| document.at(&[&SCHEMAS[..], path].concat()).unwrap().clone();
    assert_eq!(at(&["Confirmed", "properties", "telegram_username", "nullable"]), Json::Bool(true));
    let required = at(&["Confirmed", "required"]);
    assert!(required.items().contains(&Json::text("telegram_username")), "it is there all the same");
    assert_eq!(at(&["VerifyRequest", "properties", "wait", "nullable"]), Json::Bool(true));
    assert!(!at(&["VerifyRequest", "required"]).items().contains(&Json::text("wait")));
    assert!(document.at(&["components", "schemas", "Time", "type"]).is_none(), "a text is no object");
}
