//! The links that lead a person to our account with a session's id. The shapes are Telegram's
//! (<https://core.telegram.org/api/links>): `?start=` for bots, `?text=` for people.

use url::form_urlencoded;

use super::AuthError;
use super::LinkSettings;
use crate::domain::auth_session::SessionId;
use crate::domain::language::Language;
use crate::flows::accounts::Deliverer;
use crate::flows::texts;

/// The links of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    /// `https://t.me/…`, or below `CONNECTOR_LINK_BASE`.
    pub(crate) deeplink: String,
    /// `tg://resolve?…`, which only an app opens.
    pub(crate) tg: String,
    /// Telegram in a browser.
    pub(crate) web: String,
}

impl Links {
    /// The links to whoever delivers the prompt.
    ///
    /// # Errors
    /// [`AuthError::NoUsername`]: there is no way to link to this account.
    pub(super) fn new(
        to: &Deliverer,
        id: &SessionId,
        language: Language,
        settings: &LinkSettings,
    ) -> Result<Self, AuthError> {
        let sent = if to.via.bot {
            ["start=", id.as_str()].concat()
        } else {
            joined("text=", &texts::of(language).link_message(id.as_str()))
        };
        let base = settings.base.as_str();
        let (deeplink, tg) = match (&to.username, &to.phone) {
            (Some(username), _) => (
                [base, "/", username, "?", &sent].concat(),
                ["tg://resolve?domain=", &joined("", username), "&", &sent].concat(),
            ),
            (None, Some(phone)) if settings.by_phone && !to.via.bot => {
                let digits = phone.trim_start_matches('+');
                (
                    [base, "/+", digits, "?", &sent].concat(),
                    ["tg://resolve?phone=", digits, "&", &sent].concat(),
                )
            }
            (None, _) => return Err(AuthError::NoUsername),
        };
        let web = if base == "https://t.me" {
            joined("https://web.telegram.org/k/#?tgaddr=", &tg)
        } else {
            deeplink.clone()
        };
        Ok(Self { deeplink, tg, web })
    }
}

/// `value` behind the rest, as it is written in an address.
fn joined(before: &str, value: &str) -> String {
    let mut text = String::with_capacity(before.len() + 2 * value.len());
    text.push_str(before);
    for part in form_urlencoded::byte_serialize(value.as_bytes()) {
        // A plus would arrive in the message as a plus.
        text.push_str(if part == "+" { "%20" } else { part });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::auth_session::Via;

    const ID: &str = "0123456789abcdefghjkmnpqrstv";

    fn links(bot: bool, username: Option<&str>, by_phone: bool) -> Result<Links, AuthError> {
        let to = Deliverer {
            via: Via { account: 1, bot },
            username: username.map(str::to_owned),
            phone: (!bot).then(|| "+15550100001".to_owned()),
        };
        let (base, public_url) = ("https://t.me".to_owned(), String::new());
        let settings = LinkSettings { base, by_phone, public_url };
        Links::new(&to, &SessionId::parse(ID).unwrap(), Language::En, &settings)
    }

    #[test]
    fn a_bot_is_started_and_a_person_is_written_to() {
        let bot = links(true, Some("LoginBot"), false).unwrap();
        assert_eq!(bot.deeplink, format!("https://t.me/LoginBot?start={ID}"));
        assert_eq!(bot.tg, format!("tg://resolve?domain=LoginBot&start={ID}"));
        assert_eq!(
            bot.web,
            format!(
                "https://web.telegram.org/k/#?tgaddr=tg%3A%2F%2Fresolve%3Fdomain%3DLoginBot%26start%3D{ID}"
            )
        );
        let person = links(false, Some("alice_sandbox"), false).unwrap();
        assert_eq!(person.deeplink, format!("https://t.me/alice_sandbox?text=Sign%20in%20{ID}"));
    }

    #[test]
    fn a_number_is_shown_only_where_that_is_permitted() {
        assert!(matches!(links(false, None, false), Err(AuthError::NoUsername)));
        let person = links(false, None, true).unwrap();
        assert_eq!(person.deeplink, format!("https://t.me/+15550100001?text=Sign%20in%20{ID}"));
        assert_eq!(person.tg, format!("tg://resolve?phone=15550100001&text=Sign%20in%20{ID}"));
        assert!(matches!(links(true, None, true), Err(AuthError::NoUsername)));
    }
}
