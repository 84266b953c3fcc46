//! A new session: who delivers its prompt, the links to them, and what the prompt tells of the request.

use std::sync::PoisonError;

use metrics::Counter;

use super::Auth;
use super::AuthError;
use super::Caller;
use super::Shared;
use super::links::Links;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::MatchCode;
use crate::domain::auth_session::Origin;
use crate::domain::auth_session::Request;
use crate::domain::auth_session::SessionToken;
use crate::domain::auth_session::Via;
use crate::domain::ids::Ids;
use crate::domain::language::Language;
use crate::domain::project::Project;
use crate::flows::accounts::Deliverer;
use crate::flows::accounts::Nobody;
use crate::store::Written;

/// What is known of who asks for a session.
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) origin: Origin,
    pub(crate) language: Option<Language>,
    pub(crate) nonce: Option<String>,
}

/// A new session, as its app learns of it.
#[derive(Clone)]
pub(crate) struct Created {
    pub(crate) session: AuthSession,
    pub(crate) links: Links,
    pub(crate) events_url: String,
}

/// What is told of a new session, once it survives a crash. Until then it can be made into the answer, while all of it is at
/// hand; nothing else need be kept of who waits.
#[must_use = "nobody may be told of a session before it is written"]
pub(crate) struct Creating<'a, T> {
    told: T,
    written: Written,
    count: &'a Counter,
}

impl<'a, T> Creating<'a, T> {
    /// The same, told in another way.
    pub(crate) fn map<U>(self, tell: impl FnOnce(T) -> U) -> Creating<'a, U> {
        let Self { told, written, count } = self;
        Creating { told: tell(told), written, count }
    }

    /// Waits until the session survives a crash.
    pub(crate) async fn written(self) -> Result<T, AuthError> {
        self.written.await?;
        self.count.increment(1);
        Ok(self.told)
    }
}

impl Auth {
    /// Creates a session for an app.
    pub(crate) async fn generate(
        &self,
        project: &str,
        caller: &Caller,
        client: Client,
    ) -> Result<Creating<'_, Created>, AuthError> {
        let project = self.admitted(project, caller).await?;
        self.may_create(&project, caller)?;
        self.create(&project, client).await
    }

    /// Creates a session for an app's server, which shows the secret key.
    pub(crate) async fn generate_for_server(
        &self,
        project: &str,
        caller: &Caller,
        client: Client,
    ) -> Result<Creating<'_, Created>, AuthError> {
        let project = self.authenticated(project, caller).await?;
        self.may_create(&project, caller)?;
        self.create(&project, client).await
    }

    async fn create(&self, project: &Project, client: Client) -> Result<Creating<'_, Created>, AuthError> {
        let shared = &self.0;
        if !project.settings.active {
            return Err(AuthError::ProjectInactive);
        }
        if project.settings.req_phone && !shared.accounts.has_bot(project) {
            return Err(AuthError::PhoneNeedsBot);
        }
        let deliverer = self.deliverer(project).await?;
        let token = SessionToken::new(&shared.ids);
        let request = Request {
            nonce: client.nonce,
            origin: client.origin,
            language: client.language,
            wants_phone: project.settings.req_phone,
            match_code: project.settings.match_code.then(|| match_code(&shared.ids)),
            ..Request::new(project.id.clone(), deliverer.via)
        };
        let session = AuthSession::new(token, shared.ids.base62(11), request, shared.clock.now());
        let language = session.language.unwrap_or_default();
        let links = Links::new(&deliverer, &session.id, language, &shared.links)?;
        let written = shared.store.insert_session(&session);
        let parts =
            [shared.links.public_url.as_str(), "/api/v1/events/", session.id.as_str(), &session.watch];
        let events_url = parts.concat();
        Ok(Creating { told: Created { session, links, events_url }, written, count: &shared.created })
    }
}

impl Auth {
    /// Who delivers the project's prompts. A bot that has not been heard of since the start is known by the name it had.
    async fn deliverer(&self, project: &Project) -> Result<Deliverer, AuthError> {
        let Shared { accounts, store, usernames, .. } = &*self.0;
        match accounts.deliverer(project) {
            Ok(deliverer) => {
                if let Some(name) = deliverer.username.as_ref().filter(|_| deliverer.via.bot) {
                    let known = || usernames.lock().unwrap_or_else(PoisonError::into_inner);
                    if known().get(&deliverer.via.account) != Some(name) {
                        store.put_username(deliverer.via.account, name).await?;
                        known().insert(deliverer.via.account, name.clone());
                    }
                }
                Ok(deliverer)
            }
            Err(Nobody::AtAll) => Err(AuthError::NoTelegramAccount),
            Err(Nobody::Here(wait)) => Err(AuthError::NotOwner(wait)),
            Err(Nobody::Yet) => {
                let account = accounts.bot_of(project).ok_or(AuthError::TelegramUnreachable)?;
                let username = store.username(account).await?.ok_or(AuthError::TelegramUnreachable)?;
                Ok(Deliverer { via: Via { account, bot: true }, username: Some(username), phone: None })
            }
        }
    }
}

/// A number of two digits among two others.
fn match_code(ids: &Ids) -> MatchCode {
    let any = || u8::try_from(10 + ids.below(90)).unwrap_or(10);
    let mut offered = [any(), any(), any()];
    while let [one, two, three] = offered
        && (one == two || two == three || one == three)
    {
        offered = [any(), any(), any()];
    }
    let [one, two, three] = offered;
    let right = match ids.below(3) {
        0 => one,
        1 => two,
        _ => three,
    };
    MatchCode { right, offered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_number_is_one_of_three_different_ones() {
        let ids = Ids::from_seed([5; 32]);
        for _ in 0..500 {
            let code = match_code(&ids);
            assert!(code.offered.contains(&code.right));
            assert!(code.offered.iter().all(|number| (10..=99).contains(number)));
            let [one, two, three] = code.offered;
            assert!(one != two && two != three && one != three);
        }
    }
}
