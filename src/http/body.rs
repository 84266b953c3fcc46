//! A JSON body: read once with a limit, refused when it is not JSON, turned into its type when the handler asks.
//! Parsed by serde; the OpenAPI schema comes from the same type. Errors name the field and never repeat its value.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use poem::error::ReadBodyError;
use poem::{Body, Request, RequestBody};
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
pub(super) enum JsonBody<T> {
    /// It does.
    Parsed(T),
    /// It must be looked at closely to say what is wrong with it.
    Doubtful(Value),
}

impl<T: DeserializeOwned> JsonBody<T> {
    /// What was sent, if it is JSON.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        // Serde would also take an array of the fields in their order.
        let object = bytes.trim_ascii_start().starts_with(b"{");
        match serde_json::from_slice(bytes) {
            Ok(parsed) if object => Ok(Self::Parsed(parsed)),
            Ok(_) | Err(_) => json(bytes).map(Self::Doubtful),
        }
    }

    /// The body as its type.
    pub(super) fn parse(self) -> Result<T, ApiError> {
        let value = match self {
            Self::Parsed(parsed) => return Ok(parsed),
            Self::Doubtful(value) if value.is_object() => value,
            Self::Doubtful(_) => return Err(ApiError::invalid_request("expected an object")),
        };
        serde_path_to_error::deserialize(value).map_err(|error| {
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

/// All of a body, within the limits of its size and of its time.
pub(super) async fn read(body: Body, limit: Duration) -> poem::Result<Bytes> {
    // A body that came in one piece is not copied.
    let mut reading = std::pin::pin!(Limited::new(BoxBody::from(body), LARGEST).collect());
    // Nearly every body comes along with its head, and hyper hands it over once it has been asked: the second look finds
    // it, and no timer is needed.
    let mut looked = false;
    let soon = poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    let read = match soon.await {
        Some(read) => read,
        None => tokio::time::timeout(limit, reading).await.map_err(|_| ApiError::too_slow(limit))?,
    };
    let whole = read.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return ApiError::too_large(LARGEST).into();
        }
        poem::Error::from(ReadBodyError::Io(std::io::Error::other(error)))
    })?;
    Ok(whole.to_bytes())
}

async fn bytes(request: &Request, body: &mut RequestBody) -> poem::Result<Bytes> {
    let limit = request.data::<Limits>().copied().unwrap_or_default().body;
    read(body.take()?, limit).await
}

fn json(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        ApiError::invalid_request(format!("the body is not JSON ({place})"))
    })
}

impl<T: Type + DeserializeOwned> ParsePayload for JsonBody<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::read(&bytes(request, body).await?)?)
    }
}

impl<'a, T: Type + DeserializeOwned> poem_openapi::ApiExtractor<'a> for JsonBody<T> {
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

impl<'a, T: Type + DeserializeOwned> poem_openapi::ApiExtractor<'a> for MaybeJsonBody<T> {
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
        match &bytes[..] {
            [] => Ok(Self(JsonBody::read(b"{}")?)),
            _ if !is_json() => Err(ApiError::unsupported_media_type().into()),
            bytes => Ok(Self(JsonBody::read(bytes)?)),
        }
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

    fn refusal(value: &Value) -> String {
        let refused = JsonBody::<Outer>::read(value.to_string().as_bytes()).unwrap().parse().unwrap_err();
        let ApiError::BadRequest(body) = refused else { panic!("{refused:?}") };
        body.0.error
    }

    #[test]
    fn what_is_wrong_is_told_without_the_value_and_without_the_names_of_types() {
        for body in [json!(null), json!([{ "number": 1 }]), json!("planted"), json!(7)] {
            assert_eq!(refusal(&body), "expected an object");
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
            assert_eq!(refusal(&body), told);
        }
        assert_eq!(refusal(&json!({ "inner": {} })), "missing field `number`");
    }
}
