//! Developers themselves: registering, signing in for a token, ending it, who they are.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::DeveloperError;
use super::Developers;
use crate::audit;
use crate::audit::Audit;
use crate::audit::DeveloperAct;
use crate::audit::Who;
use crate::domain::clock::Timestamp;
use crate::domain::developer::AccessToken;
use crate::domain::developer::Developer;
use crate::domain::developer::DeveloperId;
use crate::domain::developer::Email;
use crate::domain::developer::Grant;
use crate::domain::developer::KeptPassword;
use crate::domain::ids::Secret;
use crate::flows::slowing::Attempt;

/// How long an access token is good unless asked otherwise, and at most (contract, section 3).
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
const LONGEST_TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// The outcome of what went well, in the audit log.
const OK: &str = "ok";
/// How often tokens that have ended are removed, milliseconds.
const SWEEP: i64 = 3_600_000;

/// Who asks for a token, and for how long. Not printable: the address is as it was typed.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) email: String,
    pub(crate) password: Secret<String>,
    pub(crate) lifetime: Option<Duration>,
}

/// A token and when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) token: AccessToken,
    pub(crate) expires_at: Timestamp,
}

/// A developer as they see themselves.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) developer: Developer,
    /// How many people have signed in to their projects this month.
    pub(crate) people: u64,
}

impl Developers {
    /// Makes a developer unless there is one with this address, for the demo. Returns who has it.
    ///
    /// # Errors
    /// The password is none, or the store.
    pub async fn ensure_developer(
        &self,
        email: Email,
        password: Secret<String>,
    ) -> Result<DeveloperId, DeveloperError> {
        if let Some(known) = self.0.store.developer_by_email(&email).await? {
            return Ok(known.id);
        }
        let developer = self.new_developer(email, password).await?;
        self.0.store.insert_developer(&developer).await?;
        Ok(developer.id)
    }

    /// Makes the developer that the operator names (`CONNECTOR_BOOTSTRAP_EMAIL`). Where there is one with this address,
    /// the operator decides who that is, because anybody may have registered it first: a developer with another password
    /// gets the operator's, and all their tokens end. Returns who has it.
    ///
    /// # Errors
    /// The password is none, or the store.
    pub async fn bootstrap(
        &self,
        email: Email,
        password: Secret<String>,
    ) -> Result<DeveloperId, DeveloperError> {
        let Some(known) = self.0.store.developer_by_email(&email).await? else {
            return self.ensure_developer(email, password).await;
        };
        let (id, kept, tried) = (known.id.clone(), known.password.clone(), password.clone());
        if !self.0.hashing.run(move |memory| kept.is(&tried, memory)).await? {
            let password = self.kept(password).await?;
            self.0.store.reset_developer(&Developer { password, ..known }).await?;
            tracing::warn!(
                developer = %id,
                "the bootstrap developer had another password: it is CONNECTOR_BOOTSTRAP_PASSWORD now, and their tokens have ended"
            );
            let who = Who::Developer(id.clone(), None);
            note(&who, DeveloperAct::Reset, OK);
        }
        Ok(id)
    }

    /// Makes a developer and signs them in, where anybody may register.
    pub(crate) async fn register(
        &self,
        credentials: Credentials,
        from: IpAddr,
    ) -> Result<Granted, DeveloperError> {
        let made = self.try_register(credentials, from).await;
        made.inspect_err(|error| refused(from, DeveloperAct::RegisterRefused, error))
    }

    async fn try_register(&self, credentials: Credentials, from: IpAddr) -> Result<Granted, DeveloperError> {
        let attempt = || {
            let attempt = self.0.slowing.registration(from, self.0.clock.now());
            attempt.map_err(DeveloperError::TooManyAttempts)
        };
        if !self.0.policy.registration_open {
            // It stays counted: each of these is a line in the audit log.
            attempt()?;
            return Err(DeveloperError::RegistrationClosed);
        }
        let lifetime = lifetime(credentials.lifetime)?;
        let email = Email::parse(&credentials.email)?;
        let attempt = attempt()?;
        let developers = self.clone();
        self.to_its_end(async move {
            if developers.0.store.developer_by_email(&email).await?.is_some() {
                return Err(DeveloperError::EmailTaken);
            }
            let developer = developers.new_developer(email, credentials.password).await;
            let developer = developer.inspect_err(|error| developers.unless_made(attempt, error))?;
            if !developers.0.store.insert_developer(&developer).await? {
                return Err(DeveloperError::EmailTaken);
            }
            note(&Who::Developer(developer.id.clone(), Some(from)), DeveloperAct::Registered, OK);
            developers.grant(developer.id, lifetime).await
        })
        .await
    }

    /// A token for a developer who knows their password.
    pub(crate) async fn login(
        &self,
        credentials: Credentials,
        from: IpAddr,
    ) -> Result<Granted, DeveloperError> {
        match self.try_login(credentials, from).await {
            Ok((developer, granted)) => {
                note(&Who::Developer(developer, Some(from)), DeveloperAct::LoggedIn, OK);
                Ok(granted)
            }
            Err(error) => {
                refused(from, DeveloperAct::LoginRefused, &error);
                Err(error)
            }
        }
    }

    async fn try_login(
        &self,
        credentials: Credentials,
        from: IpAddr,
    ) -> Result<(DeveloperId, Granted), DeveloperError> {
        let Credentials { email, password, lifetime: asked } = credentials;
        let lifetime = lifetime(asked)?;
        let attempt = self.0.slowing.sign_in(&email, from, self.0.clock.now());
        let attempt = attempt.map_err(DeveloperError::TooManyAttempts)?;
        match self.developer_with(&email, password).await {
            Ok(Some(developer)) => {
                self.0.slowing.succeeded(attempt, self.0.clock.now());
                self.sweep();
                let granted = self.grant(developer.clone(), lifetime).await?;
                Ok((developer, granted))
            }
            Ok(None) => Err(DeveloperError::LoginInvalid),
            Err(error) => {
                self.unless_made(attempt, &error);
                Err(error)
            }
        }
    }

    /// Makes a developer's token worthless.
    pub(crate) async fn logout(
        &self,
        developer: DeveloperId,
        token: &AccessToken,
        from: Option<IpAddr>,
    ) -> Result<(), DeveloperError> {
        self.0.store.delete_grant(token).await?;
        note(&Who::Developer(developer, from), DeveloperAct::LoggedOut, OK);
        Ok(())
    }

    /// Whose token this is.
    pub(crate) async fn holder(&self, token: &AccessToken) -> Result<DeveloperId, DeveloperError> {
        let grant = self.0.store.grant(token, self.0.clock.now()).await?;
        grant.map(|grant| grant.developer).ok_or(DeveloperError::Unauthorized)
    }

    /// Who a developer is.
    pub(crate) async fn profile(&self, id: &DeveloperId) -> Result<Profile, DeveloperError> {
        let developer = self.0.store.developer(id).await?.ok_or(DeveloperError::Unauthorized)?;
        let people = self.0.ledger.people_of_month(id).await?;
        Ok(Profile { developer, people })
    }

    async fn developer_with(
        &self,
        email: &str,
        password: Secret<String>,
    ) -> Result<Option<DeveloperId>, DeveloperError> {
        let developer = match Email::parse(email) {
            Ok(email) => self.0.store.developer_by_email(&email).await?,
            Err(_) => None,
        };
        let ids = self.0.ids.clone();
        let checked = self.0.hashing.run(move |memory| {
            if let Some(developer) = developer {
                return developer.password.is(&password, memory).then_some(developer.id);
            }
            // As long as it takes with a developer, so that time does not tell who is one.
            drop(KeptPassword::new(&Secret::new("no such developer".to_owned()), &ids, memory));
            None
        });
        checked.await
    }

    async fn new_developer(
        &self,
        email: Email,
        password: Secret<String>,
    ) -> Result<Developer, DeveloperError> {
        let password = self.kept(password).await?;
        let (id, created_at) = (DeveloperId::new(&self.0.ids), self.0.clock.now());
        Ok(Developer { id, email, password, created_at })
    }

    async fn kept(&self, password: Secret<String>) -> Result<KeptPassword, DeveloperError> {
        let ids = self.0.ids.clone();
        Ok(self.0.hashing.run(move |memory| KeptPassword::new(&password, &ids, memory)).await??)
    }

    async fn grant(&self, developer: DeveloperId, lifetime: Duration) -> Result<Granted, DeveloperError> {
        let token = AccessToken::new(&self.0.ids);
        let expires_at = self.0.clock.now().plus(lifetime);
        self.0.store.insert_grant(&token, &Grant { developer, expires_at }).await?;
        Ok(Granted { token, expires_at })
    }

    /// Takes an attempt back that told nobody whether a password is right.
    fn unless_made(&self, attempt: Attempt, error: &DeveloperError) {
        if matches!(error, DeveloperError::Busy | DeveloperError::Store(_)) {
            self.0.slowing.withdrawn(attempt);
        }
    }

    /// Removes tokens that have ended, at most hourly: without that the store would keep what nobody shows any more.
    fn sweep(&self) {
        let now = self.0.clock.now();
        let last = self.0.swept.load(Ordering::Relaxed);
        let due = now.as_millis().saturating_sub(last) >= SWEEP;
        let mine = due.then(|| {
            self.0.swept.compare_exchange(last, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
        });
        if mine.is_some_and(|mine| mine.is_ok()) {
            let store = std::sync::Arc::clone(&self.0.store);
            self.0.tasks.spawn("ended tokens", async move {
                if let Err(error) = store.delete_ended_grants(now).await {
                    tracing::warn!(%error, "tokens that have ended are not removed");
                }
            });
        }
    }
}

fn lifetime(asked: Option<Duration>) -> Result<Duration, DeveloperError> {
    let lifetime = asked.unwrap_or(TOKEN_LIFETIME);
    let fits = !lifetime.is_zero() && lifetime <= LONGEST_TOKEN_LIFETIME;
    fits.then_some(lifetime).ok_or(DeveloperError::LifetimeInvalid)
}

fn note(who: &Who, act: DeveloperAct, outcome: &'static str) {
    audit::record(who, &Audit::Developer { act, outcome });
}

/// Notes a refusal that was counted. Of others strangers could write as many lines as they like.
fn refused(from: IpAddr, act: DeveloperAct, error: &DeveloperError) {
    if let Some(code) = counted(error) {
        note(&Who::Stranger(Some(from)), act, code);
    }
}

/// A refusal's name in the audit log, if the attempt counts: the code that the edge answers with.
const fn counted(error: &DeveloperError) -> Option<&'static str> {
    match error {
        DeveloperError::LoginInvalid => Some("UNAUTHORIZED"),
        DeveloperError::RegistrationClosed => Some("REGISTRATION_CLOSED"),
        DeveloperError::EmailTaken => Some("EMAIL_TAKEN"),
        DeveloperError::BadPassword(_) => Some("INVALID_REQUEST"),
        DeveloperError::TooManyAttempts(_)
        | DeveloperError::Busy
        | DeveloperError::Store(_)
        | DeveloperError::Unauthorized
        | DeveloperError::ProjectNotFound
        | DeveloperError::BadWish(_)
        | DeveloperError::TooManyProjects
        | DeveloperError::NameMissing
        | DeveloperError::BotTokenInvalid
        | DeveloperError::TelegramUnreachable
        | DeveloperError::FloodWait(_)
        | DeveloperError::LifetimeInvalid
        | DeveloperError::BadEmail(_) => None,
    }
}
