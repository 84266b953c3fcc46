//! Our Telegram accounts as the flows see them: which one delivers a project's prompts, and the connection of each.

use std::time::Duration;

use crate::domain::auth_session::Via;
use crate::domain::project::Project;
use crate::telegram::Account;
use crate::telegram::AccountState;
use crate::telegram::Bots;
use crate::telegram::Gateway;

/// Every account of this process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Accounts {
    gateway: Gateway,
    bots: Bots,
    default_bot: Option<i64>,
}

/// Who delivers a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deliverer {
    pub(crate) via: Via,
    /// Without the @.
    pub(crate) username: Option<String>,
    /// Of a user account: E.164.
    pub(crate) phone: Option<String>,
}

/// Why nobody delivers prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nobody {
    /// Somebody will, once Telegram has been reached.
    Yet,
    /// Nobody is signed in.
    AtAll,
    /// Another process does. How long it may take at most until somebody else does, should that one be gone.
    Here(Duration),
}

impl Accounts {
    /// The signed-in user account, the bots, and which of these is the default.
    pub const fn new(gateway: Gateway, bots: Bots, default_bot: Option<i64>) -> Self {
        Self { gateway, bots, default_bot }
    }

    /// Who delivers the prompts of a project: its own bot, else the default bot, else the user account.
    pub(crate) fn deliverer(&self, project: &Project) -> Result<Deliverer, Nobody> {
        if let Some(bot) = self.bot_of(project) {
            if self.bots.is_elsewhere(bot) {
                return Err(Nobody::Here(self.gateway.longest_absence()));
            }
            // Telegram has deactivated it or refuses its token: a link to it leads to nobody.
            if matches!(self.bots.condition(bot), "signed_out" | "token_invalid") {
                return Err(Nobody::AtAll);
            }
            let user = self.bots.user(bot).ok_or(Nobody::Yet)?;
            let via = Via { account: user.id, bot: true };
            return Ok(Deliverer { via, username: user.username, phone: None });
        }
        match self.gateway.state() {
            AccountState::SignedIn(user) => Ok(Deliverer {
                via: Via { account: user.id, bot: false },
                username: user.username,
                phone: user.phone.map(|phone| phone.e164()),
            }),
            AccountState::Unverified | AccountState::Unknown(_) => Err(Nobody::Yet),
            AccountState::Elsewhere(_) => Err(Nobody::Here(self.gateway.longest_absence())),
            AccountState::SignedOut(_) => Err(Nobody::AtAll),
        }
    }

    /// Whether a project's prompts come from a bot.
    pub(crate) fn has_bot(&self, project: &Project) -> bool {
        self.bot_of(project).is_some()
    }

    /// The bot that delivers a project's prompts.
    pub(crate) fn bot_of(&self, project: &Project) -> Option<i64> {
        project.settings.bot.as_ref().map(|bot| bot.id).or(self.default_bot)
    }

    /// Whether a bot is the one that `TELEGRAM_BOT_TOKEN` names: it runs whatever projects do.
    pub(crate) fn is_default_bot(&self, bot: i64) -> bool {
        self.default_bot == Some(bot)
    }

    /// The connection of an account, where there is one.
    pub(crate) fn account(&self, via: Via) -> Option<Account> {
        if via.bot {
            return self.bots.account(via.account);
        }
        self.gateway.account().filter(|account| account.user().is_some_and(|user| user.id == via.account))
    }

    /// The bots.
    pub(crate) const fn bots(&self) -> &Bots {
        &self.bots
    }
}
