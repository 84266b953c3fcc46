//! The bots of this process: the default one and the projects' own, each with an account, a connection and a stored
//! session of its own. How one of them lives is `bot`'s part; what they are told and say is `reader`'s and `sending`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;

use super::Settings;
use super::account::Account;
use super::bot::Bot;
use super::conversation::EventSink;
use super::errors::TelegramError;
use super::means::Means;
use super::sign_in;
use crate::domain::account::AccountUser;
use crate::domain::bot_token::BadToken;
use crate::domain::bot_token::bot_id;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::lifecycle::Tasks;
use crate::vault::Vault;

/// The bots. Cloning shares them.
#[derive(Clone)]
pub struct Bots(Arc<Shared>);

struct Shared {
    means: Means,
    bots: Mutex<Running>,
    /// Held while a bot whose token has just been accepted takes its place.
    placing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Running {
    by_id: BTreeMap<i64, Arc<Bot>>,
    /// No bot starts any more.
    closed: bool,
}

impl std::fmt::Debug for Bots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bots").finish_non_exhaustive()
    }
}

impl Bots {
    /// No bots yet. `vault`: any session in the place where theirs are kept, each as `bot-<id>.session`.
    pub fn new(settings: Settings, vault: Vault, ids: Ids, tasks: Tasks, events: EventSink) -> Self {
        let means = Means { settings, vault, ids, tasks, events };
        Self(Arc::new(Shared { means, bots: Mutex::default(), placing: tokio::sync::Mutex::default() }))
    }

    /// Starts a bot if it is not running, and returns its id: with its stored session, else by signing in with the
    /// token. What fails on the way is tried again; see [`Bots::condition`]. Another token for a bot that is running is
    /// used for its next sign-in if those before are refused, which is now if they have been.
    ///
    /// # Errors
    /// [`BadToken`]: it cannot be a token.
    pub fn run(&self, token: Secret<String>) -> Result<i64, BadToken> {
        let id = bot_id(&token)?;
        let mut bots = self.bots();
        match bots.by_id.get(&id).filter(|bot| !bot.is_over()) {
            Some(bot) => bot.give(token),
            None => self.start(&mut bots, id, token, None),
        }
        Ok(id)
    }

    /// As [`Bots::run`], once Telegram has accepted this very token, which a stored session does not prove.
    ///
    /// # Errors
    /// [`TelegramError::TokenInvalid`], or why Telegram could not be asked. Nothing is started then.
    pub async fn verify(&self, token: Secret<String>) -> Result<AccountUser, TelegramError> {
        let id = bot_id(&token).map_err(|_| TelegramError::TokenInvalid)?;
        if let Some(user) = self.bot(id).and_then(|bot| bot.accepted(&token)) {
            return Ok(user);
        }
        let account = self.0.means.fresh_account();
        let limit = self.0.means.settings.call_limit;
        let signed_in = tokio::time::timeout(limit, sign_in::import_bot(&account, &token)).await;
        let late = || Err(TelegramError::Unreachable("no answer within the time limit".to_owned()));
        let user = match signed_in.unwrap_or_else(|_| late()) {
            Ok(user) if user.id == id => user,
            Ok(_) => {
                self.0.means.discard(account, false);
                return Err(TelegramError::TokenInvalid);
            }
            Err(error) => {
                self.0.means.discard(account, error.is_unreachable());
                return Err(error);
            }
        };
        let _placing = self.0.placing.lock().await;
        let Some(bot) = self.bot(id).filter(|bot| bot.account().is_some()) else {
            self.stop(id).await;
            let mut bots = self.bots();
            if bots.closed {
                self.0.means.discard(account, false);
                return Err(TelegramError::Unreachable("the service is stopping".to_owned()));
            }
            self.start(&mut bots, id, token, Some(account));
            return Ok(user);
        };
        // It goes on with the session it has, and the second one ends here.
        bot.accept(token);
        self.0.means.discard(account, false);
        Ok(user)
    }

    /// Stops a bot; its session stays stored.
    pub async fn stop(&self, bot_id: i64) {
        let Some(bot) = self.bot(bot_id) else {
            return;
        };
        bot.stop().await;
        let mut bots = self.bots();
        if bots.by_id.get(&bot_id).is_some_and(|now| Arc::ptr_eq(now, &bot)) {
            bots.by_id.remove(&bot_id);
        }
    }

    /// Stops a bot that nobody is to use any more, and ends its session: in the session store, and at Telegram as far as
    /// that can be told.
    pub async fn forget(&self, bot_id: i64) {
        let _placing = self.0.placing.lock().await;
        let bot = self.bot(bot_id);
        self.stop(bot_id).await;
        // One that has not run in this process has a session all the same.
        let idle = || Arc::new(Bot::new(bot_id, Secret::new(String::new()), None, &self.0.means));
        bot.unwrap_or_else(idle).forget().await;
    }

    /// The bot's account. `None` until it has signed in or its session was loaded, and while it signs in anew.
    pub fn account(&self, bot_id: i64) -> Option<Account> {
        self.bot(bot_id)?.account()
    }

    /// Who the bot is, as last known.
    pub fn user(&self, bot_id: i64) -> Option<AccountUser> {
        self.bot(bot_id)?.user()
    }

    /// Whether another process runs the bot.
    pub fn is_elsewhere(&self, bot_id: i64) -> bool {
        self.bot(bot_id).is_some_and(|bot| bot.is_elsewhere())
    }

    /// How the bot is: `ok`, `connecting`, `reconnecting`, `signed_out` (Telegram has deactivated it), `token_invalid`,
    /// `standby` (another process runs it), `unknown` (the session store cannot be read), `none` (it is not running).
    pub fn condition(&self, bot_id: i64) -> &'static str {
        self.bot(bot_id).map_or("none", |bot| bot.condition())
    }

    /// Saves and closes all of them, for shutdown. None starts afterwards.
    pub async fn close(&self) {
        let all: Vec<Arc<Bot>> = {
            let mut bots = self.bots();
            bots.closed = true;
            bots.by_id.values().cloned().collect()
        };
        join_all(all.iter().map(|bot| bot.stop())).await;
    }

    fn start(&self, bots: &mut Running, id: i64, token: Secret<String>, account: Option<Account>) {
        if bots.closed {
            return;
        }
        let before = bots.by_id.get(&id).cloned();
        let bot = Arc::new(Bot::new(id, token, account.as_ref(), &self.0.means));
        bots.by_id.insert(id, Arc::clone(&bot));
        self.0.means.tasks.spawn("bot", async move {
            if let Some(before) = before {
                before.stop().await; // the session is written by one at a time
            }
            bot.live(account).await;
        });
    }

    fn bot(&self, id: i64) -> Option<Arc<Bot>> {
        self.bots().by_id.get(&id).cloned()
    }

    fn bots(&self) -> MutexGuard<'_, Running> {
        self.0.bots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
