//! The proof of a sign-in: a JWT (RFC 7519), HS256 over the UTF-8 bytes of the project's whole secret (protocol,
//! section 4). Webhooks are signed in `delivery/signature`.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::domain::account::Mode;
use crate::domain::auth_session::AuthSession;
use crate::domain::clock::Timestamp;
use crate::domain::project::Project;
use crate::domain::project::SigningSecret;

/// How long a proof is good (protocol, section 3.2).
pub const LIFETIME: Duration = Duration::from_secs(300);

/// What a proof says (protocol, section 4.2). Times are Unix seconds where not said otherwise.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Telegram's user id, as a string of digits.
    pub telegram_id: String,
    /// Never empty.
    pub telegram_name: String,
    /// Without the @.
    pub telegram_username: Option<String>,
    /// E.164, where the project asks for it.
    pub telegram_phone: Option<String>,
    /// The project that may accept it.
    pub project_id: String,
    /// The token of the session it proves.
    pub session_token: String,
    /// When the person said yes: Unix milliseconds.
    pub confirmed_at: i64,
    /// When it was made.
    pub iat: i64,
    /// When it ends: `iat` and 300.
    pub exp: i64,
    /// The session's id: the same in every proof of one sign-in, so that a verifier can refuse a replay.
    pub jti: String,
    /// What the app gave when it created the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// `true` in a sandbox, absent elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sandbox: bool,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Claims")
            .field("jti", &self.jti)
            .field("exp", &self.exp)
            .finish_non_exhaustive()
    }
}

/// Why a proof is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// Not a proof, or not signed with this secret.
    #[error("the proof is not one, or its signature is not this project's")]
    Invalid,
    /// Genuine, but past its `exp`.
    #[error("the proof has expired")]
    Expired(Box<Claims>),
}

/// What a proof of a confirmed session says when it is made at `now`; `None` while nobody has confirmed it, and once the
/// person is forgotten.
pub fn claims(session: &AuthSession, mode: Mode, now: Timestamp) -> Option<Claims> {
    let person = &session.opening.as_ref().filter(|_| !session.forgotten)?.person;
    Some(Claims {
        telegram_id: person.id.to_string(),
        telegram_name: person.name.clone(),
        telegram_username: person.username.clone(),
        telegram_phone: session.phone().map(str::to_owned),
        project_id: session.project.as_str().to_owned(),
        session_token: session.token().reveal().reveal().to_owned(),
        confirmed_at: session.confirmed_at()?.as_millis(),
        iat: now.as_secs(),
        exp: now.plus(LIFETIME).as_secs(),
        jti: session.id.as_str().to_owned(),
        nonce: session.nonce.clone(),
        sandbox: mode == Mode::Sandbox,
    })
}

/// Signs claims with a project's present secret. `None` cannot happen with these claims: they have no map with keys that
/// JSON cannot write.
pub fn sign(claims: &Claims, secret: &SigningSecret) -> Option<String> {
    let header = Header { kid: Some(secret.key_id.clone()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.reveal().as_bytes())).ok()
}

/// Reads a proof of this project at `now`, signed with its secret or with the one before that, while that may verify.
///
/// # Errors
/// See [`BadProof`]. That it names another project is [`BadProof::Invalid`] too where the secrets differ.
pub fn verify(proof: &str, project: &Project, now: Timestamp) -> Result<Claims, BadProof> {
    let mut rules = Validation::new(Algorithm::HS256);
    // The library asks the system for the time; ours comes in.
    rules.validate_exp = false;
    rules.required_spec_claims.clear();
    let signed_with = |secret: &SigningSecret| {
        let key = DecodingKey::from_secret(secret.reveal().as_bytes());
        jsonwebtoken::decode::<Claims>(proof, &key, &rules).ok().map(|token| token.claims)
    };
    let claims = signed_with(&project.secret).or_else(|| signed_with(project.retiring_secret(now)?));
    let claims = claims.ok_or(BadProof::Invalid)?;
    if now.as_secs() >= claims.exp {
        return Err(BadProof::Expired(Box::new(claims)));
    }
    Ok(claims)
}

/// Whether a token says that it is for another project. Nothing is proven by that: it only tells a stray proof from a
/// forged one.
pub fn names_other_project(proof: &str, project: &Project) -> bool {
    use base64::Engine as _;
    let claims = proof.split('.').nth(1);
    let claims = claims.and_then(|part| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    claims.is_some_and(|claims| claims.project_id != project.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::developer::DeveloperId;
    use crate::domain::ids::Ids;
    use crate::domain::project::ProjectId;
    use crate::domain::project::ProjectSettings;

    /// Made by Python's `hmac`, `hashlib` and `base64`, not by us: compact JSON, UTF-8, unpadded base64url.
    const VECTOR: &str = concat!(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ0ZWxlZ3JhbV9pZCI6IjEyMzQ1Njc4OSIsInRlbGVncmFtX25hb",
        "WUiOiLQkNC70LjRgdCwIPCfpooiLCJ0ZWxlZ3JhbV91c2VybmFtZSI6bnVsbCwidGVsZWdyYW1fcGhvbmUiOiIrMTU",
        "1NTAxMDAwMDEiLCJwcm9qZWN0X2lkIjoicHJval92ZWN0b3IiLCJzZXNzaW9uX3Rva2VuIjoic2Vzc19hYmMiLCJjb",
        "25maXJtZWRfYXQiOjE3MDAwMDAwMTIzNDUsImlhdCI6MTcwMDAwMDAyMCwiZXhwIjoxNzAwMDAwMzIwLCJqdGkiOiI",
        "wMTIzNDU2Nzg5YWJjZGVmZ2hqa21ucHFycyIsIm5vbmNlIjoibi0wUzZfV3pBMk1qIn0.CoPlC4JPquMMJKa5ixz6c",
        "dYKAl9DP0EFDVJMuYZhSwA",
    );
    const SECRET: &str = "sk_live_0123456789abcdefghijklmnopqrstuvwxyz";

    fn project() -> Project {
        let ids = Ids::from_seed([1; 32]);
        Project::new(
            ProjectId::parse("proj_vector").unwrap(),
            DeveloperId::new(&ids),
            SigningSecret::brought(SECRET.to_owned(), &ids).unwrap(),
            ProjectSettings::named("Vector".to_owned()),
            Timestamp::from_millis(0),
        )
    }

    fn claims() -> Claims {
        Claims {
            telegram_id: "123456789".to_owned(),
            telegram_name: "Алиса 🦊".to_owned(),
            telegram_username: None,
            telegram_phone: Some("+15550100001".to_owned()),
            project_id: "proj_vector".to_owned(),
            session_token: "sess_abc".to_owned(),
            confirmed_at: 1_700_000_012_345,
            iat: 1_700_000_020,
            exp: 1_700_000_320,
            jti: "0123456789abcdefghjkmnpqrs".to_owned(),
            nonce: Some("n-0S6_WzA2Mj".to_owned()),
            sandbox: false,
        }
    }

    #[test]
    fn a_proof_of_another_implementation_is_read_and_ours_equals_it() {
        let now = Timestamp::from_millis(1_700_000_319_999);
        assert_eq!(verify(VECTOR, &project(), now), Ok(claims()));
        let ours = sign(&claims(), &project().secret).unwrap();
        let part = |jwt: &str, n: usize| jwt.split('.').nth(n).unwrap().to_owned();
        assert_eq!(part(&ours, 1), part(VECTOR, 1), "the same claims in the same order");
        assert_eq!(verify(&ours, &project(), now), Ok(claims()));
    }

    #[test]
    fn a_proof_ends_at_exp_without_leeway() {
        let proof = sign(&claims(), &project().secret).unwrap();
        assert_eq!(
            verify(&proof, &project(), Timestamp::from_millis(1_700_000_320_000)),
            Err(BadProof::Expired(Box::new(claims())))
        );
    }

    #[test]
    fn what_is_bent_or_signed_otherwise_is_no_proof() {
        let now = Timestamp::from_millis(1_700_000_020_000);
        let proof = sign(&claims(), &project().secret).unwrap();
        let (head, signature) = proof.rsplit_once('.').unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", head.split('.').nth(1).unwrap());
        let other = SigningSecret::brought("x".repeat(40), &Ids::from_seed([2; 32])).unwrap();
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let other_algorithm = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims(), &key).unwrap();
        for bad in [
            String::new(),
            "a.b.c".to_owned(),
            head.to_owned(),
            format!("{head}.{}", &signature[1..]),
            unsigned,
            other_algorithm,
            sign(&claims(), &other).unwrap(),
        ] {
            assert_eq!(verify(&bad, &project(), now), Err(BadProof::Invalid), "{bad}");
        }
    }
}
