//! A JSON body: read once with a limit, refused when it is not JSON, turned into its type when the handler asks.
//! Parsed by serde; the OpenAPI schema comes from the same type. Errors name the field and never repeat its value.

use std::marker::PhantomData;

use poem::error::ReadBodyError;
use poem::{Request, RequestBody};
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};
use serde_json::Value;

use super::error::ApiError;
use super::server::Limits;

/// Largest body accepted, in bytes.
pub(super) const LARGEST: usize = 64 * 1024;

/// A well-formed JSON body that should hold a `T`.
pub(super) struct JsonBody<T> {
    value: Value,
    holds: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonBody<T> {
    /// The body as its type.
    pub(super) fn parse(self) -> Result<T, ApiError> {
        // Serde would also take an array of the fields in their order.
        if !self.value.is_object() {
            return Err(ApiError::invalid_request("expected an object"));
        }
        serde_path_to_error::deserialize(self.value).map_err(|error| {
            let path = error.path().to_string();
            let text = error.into_inner().to_string();
            // Serde's "invalid type: string "…", expected a boolean" repeats what was sent.
            let safe = match text.rsplit_once("expected ") {
                Some((_, expected)) if path != "." => format!("`{path}`: expected {}", in_words(expected)),
                Some((_, expected)) => format!("expected {}", in_words(expected)),
                None if text.starts_with("missing field") || text.starts_with("unknown field") => text,
                None => format!("`{path}` is not valid"),
            };
            ApiError::invalid_request(safe)
        })
    }
}

/// What serde expected, for people who do not write Rust.
fn in_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// For a field that holds an object or `null`: as [`JsonBody::parse`], no array.
pub(super) fn object_or_null<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    if value.as_ref().is_some_and(|value| !value.is_object()) {
        return Err(D::Error::custom("expected an object"));
    }
    value.map(|value| serde_json::from_value(value).map_err(D::Error::custom)).transpose()
}

impl<T: Type> Payload for JsonBody<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn check_content_type(content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

async fn bytes(request: &Request, body: &mut RequestBody) -> poem::Result<Vec<u8>> {
    let limit = request.data::<Limits>().copied().unwrap_or_default().body;
    let read = tokio::time::timeout(limit, body.take()?.into_bytes_limit(LARGEST)).await;
    let bytes = read.map_err(|_| ApiError::too_slow(limit))?.map_err(|error| {
        if matches!(error, ReadBodyError::PayloadTooLarge) {
            return ApiError::too_large(LARGEST).into();
        }
        poem::Error::from(error)
    })?;
    Ok(bytes.into())
}

fn json(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        ApiError::invalid_request(format!("the body is not JSON ({place})"))
    })
}

impl<T: Type> ParsePayload for JsonBody<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self { value: json(&bytes(request, body).await?)?, holds: PhantomData })
    }
}

impl<'a, T: Type> poem_openapi::ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [poem_openapi::ApiExtractorType] = &[poem_openapi::ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<poem_openapi::registry::MetaRequest> {
        Some(poem_openapi::registry::MetaRequest {
            description: None,
            content: vec![poem_openapi::registry::MetaMediaType {
                content_type: Self::CONTENT_TYPE,
                schema: <Self as Payload>::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: poem_openapi::ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if !request.content_type().is_some_and(Self::check_content_type) {
            return Err(ApiError::unsupported_media_type().into());
        }
        <Self as ParsePayload>::from_request(request, body).await
    }
}

/// A [`JsonBody`] that may be left out: an empty body is an empty object, whatever its content type.
pub(super) struct MaybeJsonBody<T>(JsonBody<T>);

impl<T: DeserializeOwned> MaybeJsonBody<T> {
    /// The body as its type.
    pub(super) fn parse(self) -> Result<T, ApiError> {
        self.0.parse()
    }
}

impl<'a, T: Type> poem_openapi::ApiExtractor<'a> for MaybeJsonBody<T> {
    const TYPES: &'static [poem_openapi::ApiExtractorType] = &[poem_openapi::ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <JsonBody<T> as Payload>::register(registry);
    }

    fn request_meta() -> Option<poem_openapi::registry::MetaRequest> {
        let meta = <JsonBody<T> as poem_openapi::ApiExtractor<'a>>::request_meta()?;
        Some(poem_openapi::registry::MetaRequest { required: false, ..meta })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: poem_openapi::ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = bytes(request, body).await?;
        let is_json = || request.content_type().is_some_and(JsonBody::<T>::check_content_type);
        let value = match bytes.as_slice() {
            [] => Value::Object(serde_json::Map::new()),
            _ if !is_json() => return Err(ApiError::unsupported_media_type().into()),
            bytes => json(bytes)?,
        };
        Ok(Self(JsonBody { value, holds: PhantomData }))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Outer {
        inner: Option<Inner>,
        list: Option<Vec<String>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Inner {
        number: u32,
    }

    fn refusal(value: Value) -> String {
        let refused = JsonBody::<Outer> { value, holds: PhantomData }.parse().unwrap_err();
        let ApiError::BadRequest(body) = refused else { panic!("{refused:?}") };
        body.0.error
    }

    #[test]
    fn what_is_wrong_is_told_without_the_value_and_without_the_names_of_types() {
        for body in [json!(null), json!([{ "number": 1 }]), json!("planted"), json!(7)] {
            assert_eq!(refusal(body), "expected an object");
        }
        for (body, told) in [
            (json!({ "inner": "planted" }), "`inner`: expected an object"),
            (
                json!({ "inner": { "number": "planted" } }),
                "`inner.number`: expected a whole number, not negative",
            ),
            (json!({ "inner": { "number": -1 } }), "`inner.number`: expected a whole number, not negative"),
            (json!({ "list": "planted" }), "`list`: expected a list"),
            (json!({ "list": [true] }), "`list[0]`: expected a string"),
        ] {
            assert_eq!(refusal(body), told);
        }
        assert_eq!(refusal(json!({ "inner": {} })), "missing field `number`");
    }
}
