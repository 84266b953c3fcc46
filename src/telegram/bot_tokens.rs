//! With what a bot signs in: its tokens, in the order in which they are tried, and the sign-in that goes on until Telegram
//! has accepted one. How the bot lives then is `bot`'s business.

use std::time::Duration;

use super::account::Account;
use super::bot::Bot;
use super::bot::Phase;
use super::errors::TelegramError;
use super::sign_in;
use crate::domain::account::AccountUser;
use crate::domain::ids::Secret;
use crate::lifecycle::network_sleep;

/// How often a token that Telegram has refused is tried again.
const RARELY: Duration = Duration::from_secs(3_600);
/// Tokens kept of one bot.
const MOST_TOKENS: usize = 8;

impl Bot {
    /// Another token to sign in with, should those before it be refused.
    pub(super) fn give(&self, token: Secret<String>) {
        self.tokens.send_if_modified(|known| {
            let other = !known.iter().any(|known| is_same(known, &token));
            if other {
                if known.len() >= MOST_TOKENS {
                    known.remove(1); // the first may be the one that is accepted
                }
                known.push(token);
            }
            other
        });
    }

    /// Notes that Telegram has accepted this token.
    pub(super) fn accept(&self, token: Secret<String>) {
        self.state().accepted = Some(token.clone());
        self.tokens.send_modify(|known| {
            known.retain(|known| !is_same(known, &token));
            known.truncate(MOST_TOKENS - 1);
            known.insert(0, token);
        });
    }

    /// Who the bot is, if it is signed in and Telegram has accepted this token.
    pub(super) fn accepted(&self, token: &Secret<String>) -> Option<AccountUser> {
        self.account()?;
        self.state().accepted.as_ref().filter(|accepted| is_same(accepted, token))?;
        self.user()
    }

    /// Signs in with one of the tokens, however often it takes.
    pub(super) async fn sign_in(&self, mut pause: Duration) -> Account {
        let (shortest, longest) = self.means.settings.back_off;
        let mut tokens = self.tokens.subscribe();
        let mut refused: Vec<Secret<String>> = Vec::new();
        network_sleep(pause).await;
        let mut account = self.means.fresh_account();
        loop {
            let known = tokens.borrow_and_update().clone();
            let next = known.into_iter().find(|token| !refused.iter().any(|refused| is_same(refused, token)));
            let mut error = TelegramError::TokenInvalid;
            if let Some(token) = next {
                error = match sign_in::import_bot(&account, &token).await {
                    Ok(user) if user.id == self.id => {
                        tracing::info!(bot = self.id, "the bot has signed in with its token");
                        self.accept(token);
                        return account;
                    }
                    Ok(_) => TelegramError::TokenInvalid,
                    Err(error) => error,
                };
                if !error.is_unreachable() {
                    let fresh = self.means.fresh_account();
                    self.means.discard(std::mem::replace(&mut account, fresh), false);
                }
                if error == TelegramError::TokenInvalid {
                    refused.push(token);
                    continue;
                }
            }
            pause = (pause * 2).clamp(shortest, longest);
            let (phase, wait) = outlook(&error, pause);
            tracing::warn!(bot = self.id, %error, retry_in_ms = wait.as_millis(), "the bot is not signed in");
            self.state().phase = phase;
            if matches!(error, TelegramError::FloodWait(_)) {
                network_sleep(wait).await; // it is for every token
                continue;
            }
            tokio::select! {
                () = network_sleep(wait) => refused.clear(),
                _ = tokens.changed() => {}
            }
        }
    }
}

/// What a failed sign-in means, and when to try again.
fn outlook(error: &TelegramError, pause: Duration) -> (Phase, Duration) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all the rest may pass")]
    match error {
        TelegramError::TokenInvalid => (Phase::TokenInvalid, RARELY),
        TelegramError::SignedOut(name) if name.starts_with("USER_DEACTIVATED") => {
            (Phase::Deactivated, RARELY)
        }
        TelegramError::FloodWait(wait) => (Phase::Reconnecting, pause.max(*wait)),
        _ => (Phase::Reconnecting, pause),
    }
}

fn is_same(one: &Secret<String>, two: &Secret<String>) -> bool {
    one == two
}
