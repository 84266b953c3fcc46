//! The raw calls of a sign-in (core.telegram.org/api/auth, /api/srp), each made once: grammers' own helpers panic on
//! answers that Telegram does give, and cannot resume in another process. What to remember is `flows`' business.

use grammers_crypto::two_factor_auth::{calculate_2fa, check_p_and_g};
use grammers_tl_types as tl;
use tl::enums::auth::{SentCode, SentCodeType};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::errors::TelegramError;
use super::update::account_user;
use crate::domain::account::AccountUser;
use crate::domain::account::UpdatePosition;
use crate::domain::ids::Secret;
use crate::domain::login::CodeDelivery;
use crate::domain::login::LoginCode;
use crate::domain::login::Phone;

/// Data centres a sign-in may be sent on to before we give up.
const MOST_MIGRATIONS: usize = 5;

/// What asking for a code led to.
pub(super) enum SentBy {
    /// A code is under way.
    Code { phone_code_hash: String, delivery: CodeDelivery },
    /// No code was needed (TL `auth.sentCodeSuccess`).
    Nothing,
}

/// `auth.sendCode`, following the account to its data centre.
pub(super) async fn send_code(account: &Account, phone: &Phone) -> Result<SentBy, TelegramError> {
    let settings = account.settings();
    let request = tl::functions::auth::SendCode {
        phone_number: phone.e164(),
        api_id: settings.api_id,
        api_hash: settings.api_hash.reveal().clone(),
        settings: tl::types::CodeSettings {
            allow_flashcall: false,
            current_number: false,
            allow_app_hash: false,
            allow_missed_call: false,
            allow_firebase: false,
            unknown_number: false,
            logout_tokens: None,
            token: None,
            app_sandbox: None,
        }
        .into(),
    };
    let mut restarted = false;
    for _ in 0..=MOST_MIGRATIONS {
        match account.invoke(&request).await {
            Ok(answer) => return sent(account, answer).await,
            Err(TelegramError::Migrate(dc)) => account.migrate(dc).await,
            Err(TelegramError::StartOver) if !restarted => restarted = true,
            Err(error) => return Err(error),
        }
    }
    Err(TelegramError::Unexpected("sent from data centre to data centre".to_owned()))
}

/// `auth.resendCode`.
pub(super) async fn resend_code(
    account: &Account,
    phone: &Phone,
    hash: &str,
) -> Result<SentBy, TelegramError> {
    let request = tl::functions::auth::ResendCode {
        phone_number: phone.e164(),
        phone_code_hash: hash.to_owned(),
        reason: None,
    };
    let answer = account.invoke(&request).await?;
    sent(account, answer).await
}

/// `auth.cancelCode`.
pub(super) async fn cancel_code(account: &Account, phone: &Phone, hash: &str) -> Result<(), TelegramError> {
    let request =
        tl::functions::auth::CancelCode { phone_number: phone.e164(), phone_code_hash: hash.to_owned() };
    account.invoke(&request).await.map(|_| ())
}

/// `auth.signIn` with the code, in the field that its way of delivery asks for.
pub(super) async fn sign_in(
    account: &Account,
    phone: &Phone,
    hash: &str,
    code: &LoginCode,
    by_email: bool,
) -> Result<AccountUser, TelegramError> {
    let code = code.reveal().to_owned();
    let (phone_code, email_verification) = if by_email {
        (None, Some(tl::types::EmailVerificationCode { code }.into()))
    } else {
        (Some(code), None)
    };
    let request = tl::functions::auth::SignIn {
        phone_number: phone.e164(),
        phone_code_hash: hash.to_owned(),
        phone_code,
        email_verification,
    };
    let answer = account.invoke(&request).await?;
    authorized(account, answer).await
}

/// `auth.importBotAuthorization`, following the bot to its data centre.
pub(super) async fn import_bot(
    account: &Account,
    token: &Secret<String>,
) -> Result<AccountUser, TelegramError> {
    let settings = account.settings();
    let request = tl::functions::auth::ImportBotAuthorization {
        flags: 0,
        api_id: settings.api_id,
        api_hash: settings.api_hash.reveal().clone(),
        bot_auth_token: token.reveal().clone(),
    };
    for _ in 0..=MOST_MIGRATIONS {
        match account.invoke(&request).await {
            Ok(answer) => return authorized(account, answer).await,
            Err(TelegramError::Migrate(dc)) => account.migrate(dc).await,
            Err(error) => return Err(error),
        }
    }
    Err(TelegramError::Unexpected("sent from data centre to data centre".to_owned()))
}

/// `account.getPassword`: the hint of a 2FA password.
pub(super) async fn two_factor_hint(account: &Account) -> Result<Option<String>, TelegramError> {
    let tl::enums::account::Password::Password(password) =
        account.invoke(&tl::functions::account::GetPassword {}).await?;
    Ok(password.hint.filter(|hint| !hint.is_empty()))
}

/// `auth.checkPassword`. A challenge is good for one try, so each try asks for its own; one that was spent meanwhile
/// is asked for once more.
pub(super) async fn check_password(
    account: &Account,
    password: &Secret<String>,
) -> Result<AccountUser, TelegramError> {
    match answer_challenge(account, password).await {
        Err(TelegramError::ChallengeSpent) => answer_challenge(account, password).await,
        outcome => outcome,
    }
}

async fn answer_challenge(
    account: &Account,
    password: &Secret<String>,
) -> Result<AccountUser, TelegramError> {
    let tl::enums::account::Password::Password(challenge) =
        account.invoke(&tl::functions::account::GetPassword {}).await?;
    let odd = |what: &str| TelegramError::Unexpected(format!("account.getPassword: {what}"));
    let (Some(algorithm), Some(srp_b), Some(srp_id)) =
        (challenge.current_algo, challenge.srp_b, challenge.srp_id)
    else {
        return Err(odd("no challenge"));
    };
    let tl::enums::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(algorithm) = algorithm
    else {
        return Err(odd("an unknown algorithm"));
    };
    let secret = password.clone();
    let a = account.ids().bytes::<256>().to_vec();
    // Some 60 ms of arithmetic, several hundred with a prime that has to be checked.
    let proof = tokio::task::spawn_blocking(move || {
        if !group_is_safe(&algorithm.p, algorithm.g) {
            return None;
        }
        let b = num_bigint::BigUint::from_bytes_be(&srp_b);
        let p = num_bigint::BigUint::from_bytes_be(&algorithm.p);
        if b == num_bigint::BigUint::ZERO || b >= p || srp_b.len() > 256 {
            return None;
        }
        let password = secret.reveal().as_bytes();
        Some(calculate_2fa(
            &algorithm.salt1,
            &algorithm.salt2,
            &algorithm.p,
            &algorithm.g,
            srp_b,
            a,
            password,
        ))
    });
    let proof = proof.await.map_err(|_| odd("arithmetic failed"))?;
    let (m1, g_a) = proof.ok_or_else(|| odd("unsafe parameters"))?;
    let answer = tl::types::InputCheckPasswordSrp { srp_id, a: g_a.to_vec(), m1: m1.to_vec() };
    let answer = account.invoke(&tl::functions::auth::CheckPassword { password: answer.into() }).await?;
    authorized(account, answer).await
}

/// Whether p is a safe 2048-bit prime and g generates the right subgroup.
fn group_is_safe(p: &[u8], g: i32) -> bool {
    (p == super::known_prime() && g == 3) || ((2..=7).contains(&g) && check_p_and_g(p, &g))
}

/// Signs out a session that nobody is to use, as far as Telegram can be told before the service stops.
pub(super) async fn log_out_unused(account: &Account, stopping: &CancellationToken) {
    tokio::select! {
        done = log_out(account) => {
            if let Err(error) = done {
                tracing::debug!(%error, "a session that nobody uses stays signed in");
            }
        }
        () = stopping.cancelled() => {}
    }
}

/// `auth.logOut`: a session that is already gone counts as signed out.
pub(super) async fn log_out(account: &Account) -> Result<(), TelegramError> {
    match account.invoke(&tl::functions::auth::LogOut {}).await {
        Ok(_) | Err(TelegramError::SignedOut(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What must be recorded after a sign-in that grammers' own helpers would record: who it is, and where updates begin.
pub(super) async fn record(account: &Account, user: AccountUser) -> AccountUser {
    let session = account.live_session();
    session.set_user(user.clone());
    account.mark_verified();
    match account.invoke(&tl::functions::updates::GetState {}).await {
        Ok(tl::enums::updates::State::State(state)) => session.set_updates(UpdatePosition {
            pts: state.pts,
            qts: state.qts,
            date: state.date,
            seq: state.seq,
        }),
        // Not fatal: the reader of updates asks again.
        Err(error) => tracing::warn!(%error, "signed in, but the update position is not known yet"),
    }
    user
}

async fn sent(account: &Account, answer: SentCode) -> Result<SentBy, TelegramError> {
    match answer {
        SentCode::Code(sent) => Ok(SentBy::Code {
            delivery: CodeDelivery {
                next: sent.next_type.map(|next| code_type(&next).to_owned()),
                resend_after_s: sent.timeout.and_then(|seconds| u32::try_from(seconds).ok()),
                ..delivery(sent.r#type)?
            },
            phone_code_hash: sent.phone_code_hash,
        }),
        SentCode::Success(success) => {
            authorized(account, success.authorization).await.map(|_| SentBy::Nothing)
        }
        SentCode::PaymentRequired(_) => Err(TelegramError::PaymentRequired),
    }
}

async fn authorized(
    account: &Account,
    answer: tl::enums::auth::Authorization,
) -> Result<AccountUser, TelegramError> {
    let tl::enums::auth::Authorization::Authorization(authorization) = answer else {
        return Err(TelegramError::SignUpRequired);
    };
    let user = account_user(authorization.user)
        .ok_or_else(|| TelegramError::Unexpected("an authorisation without its user".to_owned()))?;
    Ok(record(account, user).await)
}

fn delivery(sent: SentCodeType) -> Result<CodeDelivery, TelegramError> {
    let (kind, length) = match sent {
        SentCodeType::App(code) => ("app", Some(code.length)),
        SentCodeType::Sms(code) => ("sms", Some(code.length)),
        SentCodeType::Call(code) => ("call", Some(code.length)),
        SentCodeType::FlashCall(_) => ("flash_call", None),
        SentCodeType::MissedCall(code) => ("missed_call", Some(code.length)),
        SentCodeType::EmailCode(code) => ("email", Some(code.length)),
        SentCodeType::FragmentSms(code) => ("fragment_sms", Some(code.length)),
        SentCodeType::FirebaseSms(code) => ("firebase_sms", Some(code.length)),
        SentCodeType::SmsWord(_) => ("sms_word", None),
        SentCodeType::SmsPhrase(_) => ("sms_phrase", None),
        SentCodeType::SetUpEmailRequired(_) => return Err(TelegramError::EmailSetupRequired),
    };
    let length = length.and_then(|length| u32::try_from(length).ok());
    Ok(CodeDelivery { kind: kind.to_owned(), length, next: None, resend_after_s: None })
}

const fn code_type(next: &tl::enums::auth::CodeType) -> &'static str {
    match next {
        tl::enums::auth::CodeType::Sms => "sms",
        tl::enums::auth::CodeType::Call => "call",
        tl::enums::auth::CodeType::FlashCall => "flash_call",
        tl::enums::auth::CodeType::MissedCall => "missed_call",
        tl::enums::auth::CodeType::FragmentSms => "fragment_sms",
    }
}
