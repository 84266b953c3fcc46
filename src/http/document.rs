//! The OpenAPI document as readers and generators get it: what the types say, and what they cannot. `null`, which bodies
//! hold what, examples, the codes of errors, keys that may be left out. `operations.json` has an entry for each operation.

mod ordered;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use poem::http::HeaderValue;
use poem::http::header::ALLOW;
use poem::{Body, Response};
use serde::Deserialize;

use self::ordered::Json;

const OPERATIONS: &str = include_str!("document/operations.json");
/// What each code means.
const CODES: &str = include_str!("document/codes.json");
const SCHEMAS: [&str; 2] = ["components", "schemas"];

/// The groups of operations, as a reader goes through them.
const GROUPS: [&str; 8] = [
    "Sign-in sessions",
    "For your server",
    "Developers",
    "Projects",
    "Sessions and analytics",
    "Webhooks",
    "Connector",
    "Operations",
];

/// Fields of answers that are left out when there is nothing to say; all others are `null` then.
const LEFT_OUT: [(&str, &str); 1] = [("GenerateAnswer", "match_code")];

/// What the types do not say about an operation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Notes {
    /// Codes by status; 408, 413, 415, 500 and 503 `UNAVAILABLE` need no mention.
    errors: BTreeMap<String, Vec<String>>,
    /// A body that can be sent.
    request: Option<Json>,
    /// A body that comes back.
    answer: Option<Json>,
    /// Bodies that come back, by what they tell.
    answers: Option<Json>,
    /// What a stream consists of, as `OpenAPI` 3.2 has it: 3.0 knows no streams.
    event: Option<Json>,
    /// What parameters must also be, beside their types: the handler sees to it.
    parameters: BTreeMap<String, Json>,
    /// Headers beside those in the types, as `OpenAPI` writes parameters.
    headers: Vec<Json>,
    /// Whether the project's secret key may be sent.
    key: bool,
}

/// What is said of parts that operations share.
struct Told {
    /// Of a schema, by its name.
    schemas: BTreeMap<String, String>,
    /// Of a code.
    meanings: Json,
}

/// The document, and what follows from it for requests that fit no operation.
#[derive(Debug)]
pub(super) struct Document {
    text: Box<str>,
    /// The segments of each path, and the methods it has.
    routes: Vec<(Vec<String>, String)>,
}

impl Document {
    /// Completes what poem-openapi prints.
    pub(super) fn new(printed: &str) -> Self {
        let completed = complete(printed).unwrap_or_else(|error| {
            tracing::error!(%error, "the OpenAPI document cannot be completed");
            (printed.to_owned(), Json::Null)
        });
        let (text, document) = completed;
        let paths = document.get("paths").map(Json::entries).unwrap_or_default();
        let routes = paths.iter().map(|(path, operations)| {
            let methods: Vec<_> =
                operations.entries().iter().map(|(method, _)| method.to_ascii_uppercase()).collect();
            (path.split('/').map(str::to_owned).collect(), methods.join(", "))
        });
        Self { routes: routes.collect(), text: text.into() }
    }

    /// As `telegram-connector openapi` prints it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// As `/openapi.json` serves it: one copy for all readers.
    pub(super) fn response(&'static self) -> Response {
        let response = Response::builder().content_type("application/json; charset=utf-8");
        response.body(Body::from_bytes(Bytes::from_static(self.text.as_bytes())))
    }

    /// What is said by an answer 405: which methods there are (RFC 9110, section 15.5.6).
    pub(super) fn name_methods(&self, path: &str, response: &mut Response) {
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |segments: &[String]| {
            let same = |(there, asked): (&String, &&str)| there.starts_with('{') || there == asked;
            segments.len() == asked.len() && segments.iter().zip(&asked).all(same)
        };
        let methods = self.routes.iter().find(|(segments, _)| fits(segments)).map(|(_, methods)| methods);
        let methods = methods.map_or("GET", String::as_str);
        if let Ok(methods) = HeaderValue::from_str(methods) {
            response.headers_mut().insert(ALLOW, methods);
        }
    }
}

fn complete(printed: &str) -> Result<(String, Json), serde_json::Error> {
    let notes: BTreeMap<String, Notes> = serde_json::from_str(OPERATIONS)?;
    let meanings: Json = serde_json::from_str(CODES)?;
    let mut document: Json = serde_json::from_str(printed)?;
    let asked = schemas_of_requests(&document);
    let told = Told { schemas: descriptions(&document), meanings };
    if let Some(schemas) = document.at_mut(&SCHEMAS).and_then(Json::entries_mut) {
        for (name, schema) in schemas {
            say_what_may_be_null(name, schema, asked.contains(name));
            bound_unsigned(schema);
        }
    }
    if let Some(tags) = document.get_mut("tags")
        && let Json::Array(tags) = tags
    {
        let place = |tag: &Json| {
            GROUPS.iter().position(|group| tag.get("name").and_then(Json::as_text) == Some(group))
        };
        tags.sort_by_key(|tag| place(tag).unwrap_or(usize::MAX));
    }
    if let Some(paths) = document.get_mut("paths").and_then(Json::entries_mut) {
        for (_, operations) in paths {
            for (_, operation) in operations.entries_mut().into_iter().flatten() {
                let id = operation.get("operationId").and_then(Json::as_text).unwrap_or_default();
                let notes = notes.get(id);
                describe(operation, notes, &told);
                bound_unsigned(operation);
            }
        }
    }
    Ok((serde_json::to_string_pretty(&document)?, document))
}

/// The name at the end of a `$ref`.
fn referred(schema: &Json) -> Option<&str> {
    schema.get("$ref")?.as_text()?.rsplit('/').next()
}

fn collect_refs(value: &Json, found: &mut Vec<String>) {
    found.extend(referred(value).map(str::to_owned));
    value.entries().iter().for_each(|(_, value)| collect_refs(value, found));
    value.items().iter().for_each(|value| collect_refs(value, found));
}

/// The names of the schemas that bodies of requests are made of.
fn schemas_of_requests(document: &Json) -> BTreeSet<String> {
    let mut waiting = Vec::new();
    for (_, operations) in document.get("paths").map(Json::entries).unwrap_or_default() {
        for (_, operation) in operations.entries() {
            operation.get("requestBody").into_iter().for_each(|body| collect_refs(body, &mut waiting));
        }
    }
    let mut found = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if let Some(schema) = document.at(&[SCHEMAS[0], SCHEMAS[1], &name])
            && found.insert(name)
        {
            collect_refs(schema, &mut waiting);
        }
    }
    found
}

/// What each schema says of itself.
fn descriptions(document: &Json) -> BTreeMap<String, String> {
    let schemas = document.at(&SCHEMAS).map(Json::entries).unwrap_or_default();
    let told = schemas.iter().filter_map(|(name, schema)| {
        let text = schema.get("description")?.as_text()?;
        Some((name.clone(), text.to_owned()))
    });
    told.collect()
}

/// Every `Option` takes and gives `null`, which poem-openapi does not tell; and calls a choice an object, which it need
/// not be.
fn say_what_may_be_null(name: &str, schema: &mut Json, is_asked: bool) {
    if schema.get("oneOf").is_some()
        && let Some(entries) = schema.entries_mut()
    {
        entries.retain(|(key, _)| key != "type");
    }
    let required = schema.get("required").map(Json::items).unwrap_or_default().to_vec();
    let Some(properties) = schema.get_mut("properties").and_then(Json::entries_mut) else { return };
    let mut always = Vec::new();
    for (property, about) in properties {
        let field = Json::text(property.as_str());
        let is_optional = !required.contains(&field);
        if is_optional && !LEFT_OUT.contains(&(name, property)) {
            about.set("nullable", Json::Bool(true));
        }
        if !is_optional || (!is_asked && !LEFT_OUT.contains(&(name, property))) {
            always.push(field);
        }
    }
    if !always.is_empty() {
        schema.set("required", Json::Array(always));
    }
}

/// `format: uint64` means nothing to generators.
fn bound_unsigned(value: &mut Json) {
    let is_unsigned =
        value.get("format").and_then(Json::as_text).is_some_and(|format| format.starts_with("uint"));
    if is_unsigned && value.get("minimum").is_none() {
        value.set("minimum", Json::Number(0.into()));
    }
    match value {
        Json::Object(entries) => entries.iter_mut().for_each(|(_, value)| bound_unsigned(value)),
        Json::Array(items) => items.iter_mut().for_each(bound_unsigned),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => (),
    }
}

/// Examples, errors, headers and keys of an operation.
fn describe(operation: &mut Json, notes: Option<&Notes>, told: &Told) {
    let has_body = operation.get("requestBody").is_some();
    if let Some(responses) = operation.get_mut("responses").and_then(Json::entries_mut) {
        responses.retain_mut(|(status, response)| {
            if status.starts_with('2') {
                tell_success(response, notes, told);
                return true;
            }
            match codes_of(status, has_body, response, notes) {
                Some(codes) => tell_codes(response, &codes, &told.meanings),
                None => true,
            }
        });
    }
    let Some(notes) = notes else { return };
    if let Some(example) = &notes.request
        && let Some(content) = operation.at_mut(&["requestBody", "content"]).and_then(Json::entries_mut)
    {
        for (_, media) in content {
            media.set("example", example.clone());
        }
    }
    for parameter in operation.get_mut("parameters").and_then(Json::items_mut).into_iter().flatten() {
        let name = parameter.get("name").and_then(Json::as_text).unwrap_or_default();
        let rules = notes.parameters.get(name).map(Json::entries).unwrap_or_default();
        if let Some(schema) = parameter.get_mut("schema") {
            for (rule, value) in rules {
                schema.set(rule, value.clone());
            }
        }
    }
    if !notes.headers.is_empty() {
        let there = operation.get("parameters").map(Json::items).unwrap_or_default();
        operation.set("parameters", Json::Array([there, &notes.headers].concat()));
    }
    if notes.key {
        let key = Json::object([("projectSecret", Json::Array(Vec::new()))]);
        operation.set("security", Json::Array(vec![Json::object([]), key]));
    }
}

fn tell_success(response: &mut Json, notes: Option<&Notes>, told: &Told) {
    let media = response.get("content").and_then(|content| content.entries().first());
    let schema = media.and_then(|(_, media)| media.get("schema"));
    let about = schema.and_then(referred).and_then(|name| told.schemas.get(name)).cloned();
    if let Some(description) = response.get_mut("description")
        && description.as_text() == Some("")
    {
        *description = Json::text(about.unwrap_or_else(|| "As asked.".to_owned()));
    }
    let Some(notes) = notes else { return };
    for (kind, media) in response.get_mut("content").and_then(Json::entries_mut).into_iter().flatten() {
        if let Some(event) = notes.event.as_ref().filter(|_| kind == "text/event-stream") {
            media.set("schema", event.clone());
        }
        if let Some(example) = &notes.answer {
            media.set("example", example.clone());
        }
        if let Some(Json::Object(answers)) = &notes.answers {
            let named =
                answers.iter().map(|(name, value)| (name.clone(), Json::object([("value", value.clone())])));
            media.set("examples", Json::Object(named.collect()));
        }
    }
}

/// The codes that an operation gives with a status; none: what it answers is no error of ours.
fn codes_of(status: &str, has_body: bool, response: &Json, notes: Option<&Notes>) -> Option<Vec<String>> {
    let media = response.get("content").and_then(|content| content.entries().first());
    let schema = media.and_then(|(_, media)| media.get("schema"));
    if schema.and_then(referred) != Some("ErrorBody") {
        return None;
    }
    let common: &[&str] = match status {
        "408" if has_body => &["REQUEST_TIMEOUT"],
        "413" if has_body => &["BODY_TOO_LARGE"],
        "415" if has_body => &["UNSUPPORTED_MEDIA_TYPE"],
        "500" => &["INTERNAL"],
        "503" => &["UNAVAILABLE"],
        _ => &[],
    };
    let listed = notes.and_then(|notes| notes.errors.get(status)).into_iter().flatten().cloned();
    Some(listed.chain(common.iter().map(|&code| code.to_owned())).collect())
}

/// Tells the codes of a status and what they mean. Whether it can come at all.
fn tell_codes(response: &mut Json, codes: &[String], meanings: &Json) -> bool {
    let meaning = |code: &str| meanings.get(code).and_then(Json::as_text).unwrap_or_default().to_owned();
    let Some(first) = codes.first() else { return false };
    let lines: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", meaning(code))).collect();
    response.set("description", Json::text(lines.join("\n\n")));
    let example = Json::object([("error", Json::text(meaning(first))), ("code", Json::text(first.as_str()))]);
    for (_, media) in response.get_mut("content").and_then(Json::entries_mut).into_iter().flatten() {
        media.set("example", example.clone());
    }
    response.set("x-codes", Json::Array(codes.iter().map(|code| Json::text(code.as_str())).collect()));
    true
}
