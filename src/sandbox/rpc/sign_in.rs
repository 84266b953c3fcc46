//! The methods of `auth` and `account` that sign in and out: request to world, refusal or answer back.

use grammers_tl_types as tl;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use crate::sandbox::faults::SentCodeAnswer;
use crate::sandbox::hub::Hub;
use crate::sandbox::objects;
use crate::sandbox::wire::srp;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::CODE_LENGTH;
use crate::sandbox::world::CodeKind;
use crate::sandbox::world::GivenCode;
use crate::sandbox::world::Refusal;
use crate::sandbox::world::SentCode;

use super::Caller;
use super::RpcError;
use super::change;

/// Seconds after which the next way of sending a code opens.
const NEXT_CODE_AFTER: i32 = 60;

/// `auth.sendCode`
pub(super) fn send_code(
    hub: &Hub,
    caller: Caller,
    request: &f::auth::SendCode,
) -> Result<e::auth::SentCode, RpcError> {
    check_application(request.api_id, &request.api_hash)?;
    let phone = &request.phone_number;
    let ordered = hub.faults.sent_code();
    let kind = match ordered {
        Some(SentCodeAnswer::Email) => Some(CodeKind::Email),
        Some(SentCodeAnswer::App) => Some(CodeKind::App),
        Some(SentCodeAnswer::Sms) => Some(CodeKind::Sms),
        Some(SentCodeAnswer::EmailSetup | SentCodeAnswer::Payment | SentCodeAnswer::Success) | None => None,
    };
    if ordered == Some(SentCodeAnswer::Success) {
        let me = change(hub, |world, _| world.sign_in_without_code(caller.device, phone))?;
        let authorization = authorization(hub, me);
        return Ok(e::auth::SentCode::Success(t::auth::SentCodeSuccess { authorization }));
    }
    let sent = change(hub, |world, now| world.send_code(caller.device, phone, kind, now))?;
    Ok(match ordered {
        Some(SentCodeAnswer::Payment) => {
            e::auth::SentCode::PaymentRequired(t::auth::SentCodePaymentRequired {
                store_product: "sandbox.login".to_owned(),
                phone_code_hash: sent.hash,
                support_email_address: "login@stel.com".to_owned(),
                support_email_subject: "Sandbox".to_owned(),
                premium_days: 7,
                currency: "USD".to_owned(),
                amount: 99,
            })
        }
        Some(SentCodeAnswer::EmailSetup) => {
            let r#type = e::auth::SentCodeType::SetUpEmailRequired(t::auth::SentCodeTypeSetUpEmailRequired {
                apple_signin_allowed: false,
                google_signin_allowed: false,
            });
            e::auth::SentCode::Code(t::auth::SentCode {
                r#type,
                phone_code_hash: sent.hash,
                next_type: None,
                timeout: None,
            })
        }
        Some(SentCodeAnswer::Email | SentCodeAnswer::App | SentCodeAnswer::Sms | SentCodeAnswer::Success)
        | None => sent_code(sent),
    })
}

/// `auth.resendCode`
pub(super) fn resend_code(
    hub: &Hub,
    caller: Caller,
    request: &f::auth::ResendCode,
) -> Result<e::auth::SentCode, RpcError> {
    let sent = change(hub, |world, now| {
        world.resend_code(caller.device, &request.phone_number, &request.phone_code_hash, now)
    })?;
    Ok(sent_code(sent))
}

/// `auth.cancelCode`
pub(super) fn cancel_code(
    hub: &Hub,
    caller: Caller,
    request: &f::auth::CancelCode,
) -> Result<bool, RpcError> {
    change(hub, |world, _| {
        world.cancel_code(caller.device, &request.phone_number, &request.phone_code_hash)
    })?;
    Ok(true)
}

/// `auth.signIn`
pub(super) fn sign_in(
    hub: &Hub,
    caller: Caller,
    request: &f::auth::SignIn,
) -> Result<e::auth::Authorization, RpcError> {
    let given = match (&request.phone_code, &request.email_verification) {
        (_, Some(e::EmailVerification::Code(email))) => GivenCode::Email(&email.code),
        (Some(code), _) => GivenCode::Phone(code),
        (None, _) => GivenCode::Phone(""),
    };
    let outcome = change(hub, |world, now| {
        world.sign_in(caller.device, &request.phone_number, &request.phone_code_hash, given, now)
    });
    match outcome {
        Ok(me) => Ok(authorization(hub, me)),
        Err(error) if error == Refusal::SignUpRequired.into() => {
            let answer = t::auth::AuthorizationSignUpRequired { terms_of_service: None };
            Ok(e::auth::Authorization::SignUpRequired(answer))
        }
        Err(error) => Err(error),
    }
}

/// `account.getPassword`
pub(super) fn get_password(hub: &Hub, caller: Caller) -> Result<e::account::Password, RpcError> {
    let info = change(hub, |world, _| world.password_info(caller.device))?;
    let p = || {
        let mut prime = srp::prime_bytes();
        if hub.faults.bad_srp_prime()
            && let Some(last) = prime.last_mut()
        {
            *last ^= 2;
        }
        prime
    };
    let algorithm = |salt1, salt2| {
        e::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(
            t::PasswordKdfAlgoSha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow {
                salt1,
                salt2,
                g: srp::G,
                p: p(),
            },
        )
    };
    let new_algo = algorithm(hub.ids.bytes::<8>().to_vec(), hub.ids.bytes::<16>().to_vec());
    let challenge = info.challenge;
    Ok(e::account::Password::Password(t::account::Password {
        has_recovery: false,
        has_secure_values: false,
        has_password: challenge.is_some(),
        srp_id: challenge.as_ref().map(|challenge| challenge.id),
        srp_b: challenge.as_ref().map(|challenge| challenge.public.clone()),
        hint: challenge.as_ref().map(|challenge| challenge.hint.clone()),
        current_algo: challenge.map(|challenge| algorithm(challenge.salt1, challenge.salt2)),
        email_unconfirmed_pattern: None,
        new_algo,
        new_secure_algo: e::SecurePasswordKdfAlgo::Unknown,
        secure_random: hub.ids.bytes::<256>().to_vec(),
        pending_reset_date: None,
        login_email_pattern: None,
    }))
}

/// `auth.checkPassword`
pub(super) fn check_password(
    hub: &Hub,
    caller: Caller,
    request: f::auth::CheckPassword,
) -> Result<e::auth::Authorization, RpcError> {
    let e::InputCheckPasswordSrp::Srp(proof) = request.password else {
        return Err(Refusal::PasswordInvalid.into());
    };
    let me = change(hub, |world, now| {
        world.check_password(caller.device, proof.srp_id, &proof.a, &proof.m1, now)
    })?;
    Ok(authorization(hub, me))
}

/// `auth.importBotAuthorization`
pub(super) fn import_bot(
    hub: &Hub,
    caller: Caller,
    request: &f::auth::ImportBotAuthorization,
) -> Result<e::auth::Authorization, RpcError> {
    check_application(request.api_id, &request.api_hash)?;
    let me = change(hub, |world, _| world.sign_in_bot(caller.device, &request.bot_auth_token))?;
    Ok(authorization(hub, me))
}

/// `auth.logOut`
pub(super) fn log_out(hub: &Hub, caller: Caller) -> Result<e::auth::LoggedOut, RpcError> {
    hub.transact(|world, _| {
        world.signed_in(caller.device)?;
        world.log_out(caller.device);
        Ok::<(), Refusal>(())
    })??;
    Ok(e::auth::LoggedOut::Out(t::auth::LoggedOut { future_auth_token: None }))
}

/// `auth.exportAuthorization`
pub(super) fn export_authorization(
    hub: &Hub,
    me: AccountId,
    request: &f::auth::ExportAuthorization,
) -> Result<e::auth::ExportedAuthorization, RpcError> {
    let bytes = change(hub, |world, _| world.export(me, request.dc_id))?;
    Ok(e::auth::ExportedAuthorization::Authorization(t::auth::ExportedAuthorization { id: me.0, bytes }))
}

/// `auth.importAuthorization`
pub(super) fn import_authorization(
    hub: &Hub,
    caller: Caller,
    request: &f::auth::ImportAuthorization,
) -> Result<e::auth::Authorization, RpcError> {
    let me = change(hub, |world, _| world.import(caller.device, request.id, &request.bytes))?;
    Ok(authorization(hub, me))
}

fn check_application(api_id: i32, api_hash: &str) -> Result<(), RpcError> {
    if api_id <= 0 || api_hash.is_empty() {
        return Err(RpcError::new(400, "API_ID_INVALID"));
    }
    Ok(())
}

fn sent_code(sent: SentCode) -> e::auth::SentCode {
    let length = CODE_LENGTH;
    let r#type = match sent.kind {
        CodeKind::App => e::auth::SentCodeType::App(t::auth::SentCodeTypeApp { length }),
        CodeKind::Sms => e::auth::SentCodeType::Sms(t::auth::SentCodeTypeSms { length }),
        CodeKind::Call => e::auth::SentCodeType::Call(t::auth::SentCodeTypeCall { length }),
        CodeKind::Email => e::auth::SentCodeType::EmailCode(t::auth::SentCodeTypeEmailCode {
            apple_signin_allowed: false,
            google_signin_allowed: false,
            email_pattern: "s*****x@example.com".to_owned(),
            length,
            reset_available_period: None,
            reset_pending_date: None,
        }),
    };
    let next_type = match sent.kind.next() {
        Some(CodeKind::Call) => Some(e::auth::CodeType::Call),
        Some(CodeKind::App | CodeKind::Sms | CodeKind::Email) => Some(e::auth::CodeType::Sms),
        None => None,
    };
    e::auth::SentCode::Code(t::auth::SentCode {
        r#type,
        phone_code_hash: sent.hash,
        timeout: next_type.is_some().then_some(NEXT_CODE_AFTER),
        next_type,
    })
}

fn authorization(hub: &Hub, me: AccountId) -> e::auth::Authorization {
    e::auth::Authorization::Authorization(t::auth::Authorization {
        setup_password_required: false,
        otherwise_relogin_days: None,
        tmp_sessions: None,
        future_auth_token: None,
        user: hub.look(|world| objects::user(world, me, me)),
    })
}
