//! `/sign_in`: the operator signs the service's account in and out. Parse, call one flow, render.

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, Tags};
use serde::Deserialize;

use super::body::JsonBody;
use super::error::ApiError;
use super::error::OperatorError;
use super::guard::Operator;
use crate::audit::Who;
use crate::domain::account::AccountUser;
use crate::domain::ids::Secret;
use crate::domain::login::CodeDelivery;
use crate::domain::login::LoginCode;
use crate::domain::login::Phone;
use crate::flows::sign_in::Progress;
use crate::flows::sign_in::Request;
use crate::flows::sign_in::SignIn;
use crate::flows::sign_in::View;

#[derive(Tags)]
enum Group {
    /// Sign the service's own Telegram account in and out.
    Connector,
}

/// One step of the sign-in.
#[derive(Deserialize, Object)]
#[oai(example)]
struct SignInRequest {
    /// Your phone number in international format, as in +1234567890. Needed in both steps.
    phone: String,
    /// The login code that Telegram sent you (not the 2FA password). Leave it out to have a code sent.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 128))]
    password: Option<String>,
    /// The account's 2FA password, once this service has asked for it (`TWO_FACTOR_REQUIRED`).
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(min_length = 1, max_length = 4096))]
    two_factor_password: Option<String>,
    /// Have the code sent again, in the next way that Telegram offers.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    resend: Option<bool>,
}

impl poem_openapi::types::Example for SignInRequest {
    fn example() -> Self {
        Self { phone: "+15550100001".to_owned(), password: None, two_factor_password: None, resend: None }
    }
}

#[derive(ApiResponse)]
enum SignInResponse {
    /// Signed in, or already was. No body.
    #[oai(status = 200)]
    SignedIn,
    /// Telegram has sent a code: submit it as `password`. No body.
    #[oai(status = 206)]
    CodeSent,
}

/// Where the sign-in stands.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum State {
    SignedOut,
    CodeSent,
    TwoFactorRequired,
    SignedIn,
    /// Another process owns the session.
    Standby,
}

/// How far the sign-in is.
#[derive(Object)]
struct SignInView {
    /// `standby`: another process owns the session.
    state: State,
    /// The number, masked.
    phone: Option<String>,
    /// Who is signed in.
    account: Option<AccountView>,
    /// How the code travels, as Telegram said it.
    code_delivery: Option<DeliveryView>,
    /// The hint that the account's owner left for the 2FA password.
    two_factor_hint: Option<String>,
    /// Why nobody is signed in any more, where Telegram said so; on standby, who owns the session.
    reason: Option<String>,
}

/// A Telegram account.
#[derive(Object)]
struct AccountView {
    /// Telegram's user id, as a string of digits.
    id: String,
    /// First and last name.
    name: String,
    /// Without the @; null when there is none.
    username: Option<String>,
}

/// How a login code travels.
#[derive(Object)]
struct DeliveryView {
    /// `app`, `sms`, `call`, `flash_call`, `missed_call`, `email`, `fragment_sms`, `firebase_sms`, `sms_word`,
    /// `sms_phrase`.
    #[oai(rename = "type")]
    kind: String,
    /// Characters of the code.
    length: Option<u32>,
    /// How a resent code would travel.
    next: Option<String>,
    /// Seconds after which a resend is sensible.
    resend_after_s: Option<u32>,
}

/// It is done.
#[derive(Object)]
struct Done {
    ok: bool,
}

pub(super) struct ConnectorApi;

#[expect(clippy::unused_async, reason = "poem-openapi wants every operation async")]
#[OpenApi(tag = "Group::Connector")]
impl ConnectorApi {
    /// Sign in, in two steps
    ///
    /// Send `phone` alone: Telegram sends a code to that number's Telegram app, and the answer is 206. Send `phone` and
    /// the code as `password`: the answer is 200, and the session is kept. When an account is signed in already, the
    /// answer is 200 whatever the body says. An account with a 2FA password answers 401 `TWO_FACTOR_REQUIRED`: send
    /// `phone` and `two_factor_password`. A restart between the steps loses nothing.
    #[oai(path = "/sign_in", method = "post", operation_id = "signIn")]
    async fn sign_in(
        &self,
        operator: Operator,
        sign_in: Data<&SignIn>,
        body: JsonBody<SignInRequest>,
    ) -> Result<SignInResponse, ApiError> {
        if sign_in.is_signed_in().await? {
            return Ok(SignInResponse::SignedIn);
        }
        let request = body.parse()?.checked(operator.who())?;
        Ok(match sign_in.submit(request).await? {
            Progress::SignedIn => SignInResponse::SignedIn,
            Progress::CodeSent => SignInResponse::CodeSent,
        })
    }

    /// How far the sign-in is
    #[oai(path = "/sign_in", method = "get", operation_id = "getSignIn")]
    async fn view(
        &self,
        _operator: Operator,
        sign_in: Data<&SignIn>,
    ) -> Result<Json<SignInView>, OperatorError> {
        Ok(Json(sign_in.view()?.into()))
    }

    /// Sign out, or abandon a pending sign-in
    ///
    /// Signed in: signs out at Telegram and deletes the stored session. Code pending: takes the code back.
    #[oai(path = "/sign_in", method = "delete", operation_id = "signOut")]
    async fn abandon(&self, operator: Operator, sign_in: Data<&SignIn>) -> Result<Json<Done>, OperatorError> {
        sign_in.abandon(operator.who()).await?;
        Ok(Json(Done { ok: true }))
    }
}

impl SignInRequest {
    fn checked(self, who: Who) -> Result<Request, ApiError> {
        let phone = Phone::parse(&self.phone)
            .map_err(|error| ApiError::phone_number_invalid(format!("`phone` is {error}")))?;
        let code = self.password.map(|text| {
            let code = LoginCode::parse(&text);
            code.ok_or_else(|| ApiError::invalid_request("`password` is empty or too long for a login code"))
        });
        let two_factor_password = self.two_factor_password.map(|password| {
            if password.is_empty() || password.chars().count() > 4096 {
                return Err(ApiError::invalid_request("`two_factor_password` is empty or too long"));
            }
            Ok(Secret::new(password))
        });
        Ok(Request {
            who,
            phone,
            code: code.transpose()?,
            two_factor_password: two_factor_password.transpose()?,
            resend: self.resend.unwrap_or(false),
        })
    }
}

impl From<View> for SignInView {
    fn from(view: View) -> Self {
        let empty = Self {
            state: State::SignedOut,
            phone: None,
            account: None,
            code_delivery: None,
            two_factor_hint: None,
            reason: None,
        };
        match view {
            View::Standby { reason } => Self { state: State::Standby, reason: Some(reason), ..empty },
            View::SignedOut { reason } => Self { reason, ..empty },
            View::CodeSent { phone, delivery } => {
                let CodeDelivery { kind, length, next, resend_after_s } = delivery;
                Self {
                    state: State::CodeSent,
                    phone: Some(phone.masked()),
                    code_delivery: Some(DeliveryView { kind, length, next, resend_after_s }),
                    ..empty
                }
            }
            View::TwoFactorRequired { phone, hint } => Self {
                state: State::TwoFactorRequired,
                phone: Some(phone.masked()),
                two_factor_hint: hint,
                ..empty
            },
            View::SignedIn(AccountUser { id, name, username, phone, .. }) => Self {
                state: State::SignedIn,
                phone: phone.map(|phone| phone.masked()),
                account: Some(AccountView { id: id.to_string(), name, username }),
                ..empty
            },
        }
    }
}
