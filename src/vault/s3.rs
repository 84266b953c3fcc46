//! Sessions in a bucket of any S3-compatible server: an object each. The only file that names the AWS SDK.
//! Region, credentials, endpoint and profile come from the ordinary AWS variables, which the SDK reads itself.
//! An answer becomes "later may help", "somebody must do something" or "another hand was quicker"; of what the server
//! and the SDK say, only codes and causes are told, never headers, bodies or addresses with credentials in them.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls;

use super::LARGEST;
use super::Trouble;

/// Limits for dialling, for one attempt, and for a call with its second attempt. Callers try again themselves.
const DIAL: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(4);
const CALL: Duration = Duration::from_secs(9);
const ATTEMPTS: u32 = 2;
/// Where neither variables nor profile say: what servers other than Amazon's expect.
const REGION: &str = "us-east-1";

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    client: Client,
    bucket: String,
    key: String,
    /// Until the server says that it knows no conditional writes.
    conditional: Arc<AtomicBool>,
}

/// The object's bytes, and the server's tag for exactly those.
type Found = (Vec<u8>, Option<String>);

/// What a write may replace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected<'a> {
    /// Nothing: there is no object.
    Absent,
    /// The object with this tag.
    Tag(&'a str),
    /// Whatever is there: the server gives no tags.
    Anything,
}

impl Object {
    /// Asks nothing of the server yet. `path_style`: the bucket is part of the path, not of the host name.
    pub(super) async fn new(bucket: &str, key: &str, path_style: bool) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let limits = TimeoutConfig::builder()
            .connect_timeout(DIAL)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(CALL)
            .build();
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(limits)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            // Servers other than Amazon's stumble over the trailers that checksums come in.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let shared = Box::pin(loader.load()).await; // its future is larger than all of ours together
        let mut settings = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(path_style || shared.endpoint_url().is_some());
        if shared.region().is_none() {
            settings = settings.region(Region::from_static(REGION));
        }
        Self {
            client: Client::from_conf(settings.build()),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            conditional: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Another object behind the same prefix, through the same client.
    pub(super) fn beside(&self, name: &str) -> Self {
        let key = match self.key.rsplit_once('/') {
            Some((prefix, _)) => format!("{prefix}/{name}"),
            None => name.to_owned(),
        };
        Self { key, ..self.clone() }
    }

    pub(super) async fn read(&self) -> Result<Option<Found>, Trouble> {
        let call = self.client.get_object().bucket(&self.bucket).key(&self.key);
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let answer = Answer::of(&error);
                return if answer == Answer::Absent { Ok(None) } else { Err(answer.trouble()) };
            }
        };
        let too_large = |length: i64| u64::try_from(length).is_ok_and(|length| length > LARGEST);
        let tag = answer.e_tag;
        if answer.content_length.is_some_and(too_large) {
            return Ok(Some((Vec::new(), tag))); // decodes as damaged
        }
        // The SDK's time limits end with the answer's head.
        let body = tokio::time::timeout(CALL, answer.body.collect()).await;
        let cut = |why: &str| Trouble::Unavailable(io::Error::other(why.to_owned()));
        let body = body.map_err(|_| cut("the object does not arrive"))?;
        let object = body.map_err(|_| cut("the object arrived cut"))?.to_vec();
        Ok(Some((object, tag)))
    }

    /// Writes the object where what is there is still what is expected, as far as the server can tell. Returns the
    /// server's tag for it.
    pub(super) async fn write(
        &self,
        object: Vec<u8>,
        expected: Expected<'_>,
    ) -> Result<Option<String>, Trouble> {
        let call = self.put(object.clone());
        let call = match expected {
            Expected::Absent => call.if_none_match("*"),
            Expected::Tag(tag) => call.if_match(tag),
            Expected::Anything => call,
        };
        if self.conditional.load(Ordering::SeqCst) {
            match sent(call).await {
                // Some servers ignore the condition, others refuse it: both are left with the reading and comparing
                // that the caller has done, which leaves a gap of a moment between reading and writing.
                Err(Answer::NotImplemented) => {
                    tracing::warn!(bucket = self.bucket, "the S3 server knows no conditional writes");
                    self.conditional.store(false, Ordering::SeqCst);
                }
                // An object that is gone is not the one with this tag; AWS says that there is none.
                Err(Answer::Absent) => return Err(Trouble::Changed),
                answer => return answer.map_err(Answer::trouble),
            }
        }
        sent(self.put(object)).await.map_err(Answer::trouble)
    }

    pub(super) async fn delete(&self) -> Result<(), Trouble> {
        let call = self.client.delete_object().bucket(&self.bucket).key(&self.key);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let answer = Answer::of(&error);
                if answer == Answer::Absent { Ok(()) } else { Err(answer.trouble()) }
            }
        }
    }

    /// Writes and removes an object beside it, whose name has `unique` in it, so that two probes do not meet. Whether
    /// the server honours conditional writes, both kinds of them.
    pub(super) async fn probe(&self, unique: &str) -> Result<bool, Trouble> {
        let probe = Self { key: format!("{}.probe-{unique}", self.key), ..self.clone() };
        let honoured = Box::pin(probe.conditions_are_honoured()).await;
        if honoured.is_ok() {
            probe.delete().await?;
        }
        honoured
    }

    async fn conditions_are_honoured(&self) -> Result<bool, Trouble> {
        let object = || self.put(b"probe".to_vec());
        match sent(object().if_none_match("*")).await {
            Ok(_) | Err(Answer::Changed) => {}
            Err(Answer::NotImplemented) => {
                sent(object()).await.map_err(Answer::trouble)?;
                return Ok(false);
            }
            Err(answer) => return Err(answer.trouble()),
        }
        // There is one now, and it has another tag: neither write must succeed.
        for forbidden in
            [object().if_none_match("*"), object().if_match("\"00000000000000000000000000000000\"")]
        {
            match sent(forbidden).await {
                Ok(_) | Err(Answer::NotImplemented) => return Ok(false),
                Err(Answer::Changed) => {}
                Err(answer) => return Err(answer.trouble()),
            }
        }
        Ok(true)
    }

    fn put(&self, object: Vec<u8>) -> PutObjectFluentBuilder {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(&self.key)
            .content_type("application/octet-stream")
            .body(ByteStream::from(object))
    }
}

async fn sent(call: PutObjectFluentBuilder) -> Result<Option<String>, Answer> {
    match call.send().await {
        Ok(written) => Ok(written.e_tag),
        Err(error) => Err(Answer::of(&error)),
    }
}

/// What a failed call means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// There is no such object.
    Absent,
    /// The condition of a write does not hold.
    Changed,
    /// The server does not know the condition.
    NotImplemented,
    /// Calling again later may help.
    Later(String),
    /// Somebody must do something first.
    Never(String),
}

impl Answer {
    fn of<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> Self {
        match error {
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                Self::of_service(status, answer.err().code().unwrap_or_default())
            }
            SdkError::TimeoutError(_) => Self::Later("no answer within the time limit".to_owned()),
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status().as_u16();
                Self::Later(format!("status {status}, and not as S3 answers"))
            }
            SdkError::DispatchFailure(_) => Self::of_sending(error.source()),
            SdkError::ConstructionFailure(_) => Self::Never(format!(
                "no request can be made from the AWS settings ({}): check the AWS variables",
                innermost(error.source())
            )),
            other => Self::Later(innermost(other.source())),
        }
    }

    fn of_service(status: u16, code: &str) -> Self {
        let told = match code {
            "" => format!("status {status}"),
            code => format!("{code}, status {status}"),
        };
        let advice = match (status, code) {
            (_, "NoSuchKey") => return Self::Absent,
            (412, _) => return Self::Changed,
            (501, _) | (_, "NotImplemented") => return Self::NotImplemented,
            (408 | 409 | 425 | 429 | 500.., _) | (_, "RequestTimeout" | "SlowDown") => {
                return Self::Later(told);
            }
            (_, "NoSuchBucket") => {
                "there is no such bucket: make it, or correct its name and AWS_ENDPOINT_URL"
            }
            (
                _,
                "InvalidAccessKeyId"
                | "NotSignedUp"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "ExpiredToken",
            ) => {
                "the S3 server does not accept the credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                 AWS_SESSION_TOKEN"
            }
            (_, "RequestTimeTooSkewed") => {
                "this machine's clock and the S3 server's differ too much: set the clock"
            }
            (300..=399, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                "the bucket is in another region: set AWS_REGION"
            }
            (401 | 403, _) => {
                "access denied: the credentials need s3:GetObject, s3:PutObject and s3:DeleteObject on the object, and \
                 s3:ListBucket on the bucket, without which an absent object looks like a forbidden one"
            }
            _ => "the server refuses the request: check AWS_ENDPOINT_URL and the other AWS variables",
        };
        Self::Never(format!("{advice} ({told})"))
    }

    fn of_sending(cause: Option<&(dyn Error + 'static)>) -> Self {
        match credentials_error(cause) {
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
                let advice = "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run \
                              where a profile or a role gives some";
                Self::Never(advice.to_owned())
            }
            Some(_) => Self::Later("the AWS credentials cannot be had now".to_owned()),
            None => Self::Later(innermost(cause)),
        }
    }

    fn trouble(self) -> Trouble {
        match self {
            Self::Changed => Trouble::Changed,
            Self::Later(why) => Trouble::Unavailable(io::Error::other(why)),
            Self::Never(why) => Trouble::Refused(why),
            Self::Absent => Trouble::Refused("the S3 server says that there is no such key".to_owned()),
            Self::NotImplemented => Trouble::Refused("the S3 server does not know the request".to_owned()),
        }
    }
}

/// The last cause in a chain of errors, which tells most and carries no request: "connection refused".
fn innermost(mut cause: Option<&(dyn Error + 'static)>) -> String {
    let mut text = "it cannot be reached".to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

fn credentials_error<'a>(mut cause: Option<&'a (dyn Error + 'static)>) -> Option<&'a CredentialsError> {
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_do_and_each_outage_that_it_may_pass() {
        assert_eq!(Answer::of_service(404, "NoSuchKey"), Answer::Absent);
        assert_eq!(Answer::of_service(412, "PreconditionFailed"), Answer::Changed);
        assert_eq!(Answer::of_service(501, ""), Answer::NotImplemented);
        for (status, code) in [
            (500, "InternalError"),
            (503, ""),
            (503, "SlowDown"),
            (429, ""),
            (409, "ConditionalRequestConflict"),
        ] {
            assert!(matches!(Answer::of_service(status, code), Answer::Later(_)), "{status} {code}");
        }
        for (status, code, advice) in [
            (404, "NoSuchBucket", "no such bucket"),
            (404, "", "AWS_ENDPOINT_URL"),
            (403, "AccessDenied", "s3:GetObject"),
            (403, "", "s3:ListBucket"),
            (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            (403, "RequestTimeTooSkewed", "clock"),
            (301, "PermanentRedirect", "AWS_REGION"),
            (400, "InvalidRequest", "AWS variables"),
        ] {
            let Answer::Never(text) = Answer::of_service(status, code) else { panic!("{status} {code}") };
            assert!(text.contains(advice) && text.contains(&status.to_string()), "{text}");
        }
    }
}
