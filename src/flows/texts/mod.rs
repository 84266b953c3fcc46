//! What people read in Telegram, and the words they may answer with: one file a language. `{app}`, `{n}` and their kin are
//! put in here, quoted: nothing that is put in can become a link or a button.

mod en;
mod ru;

use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Canceller;
use crate::domain::auth_session::Device;
use crate::domain::auth_session::State;
use crate::domain::errand::Reply;
use crate::domain::language::Language;
use crate::telegram::Text;

/// All texts of a language.
#[derive(Debug)]
pub(crate) struct Texts {
    prompt: &'static str,
    profile: &'static str,
    profile_and_phone: &'static str,
    from_device: &'static str,
    mobile_app: &'static str,
    from_address: &'static str,
    from_site: &'static str,
    only_if: &'static str,
    answer_in_words: &'static str,
    answer_with_number: &'static str,
    choose_number: &'static str,
    pub(crate) confirm: &'static str,
    pub(crate) cancel: &'static str,
    pub(crate) share_phone: &'static str,
    ask_contact: &'static str,
    back: &'static str,
    confirmed: &'static str,
    cancelled: &'static str,
    wrong_match: &'static str,
    cancelled_by_app: &'static str,
    expired: &'static str,
    pub(crate) tap_confirmed: &'static str,
    pub(crate) tap_cancelled: &'static str,
    pub(crate) tap_wrong_match: &'static str,
    pub(crate) tap_contact: &'static str,
    pub(crate) tap_already: &'static str,
    pub(crate) tap_expired: &'static str,
    pub(crate) tap_not_yours: &'static str,
    pub(crate) tap_failed: &'static str,
    reply_unknown: &'static str,
    reply_expired: &'static str,
    reply_decided: &'static str,
    reply_another: &'static str,
    reply_asked: &'static str,
    reply_number: &'static str,
    reply_contact: &'static str,
    /// What a person sends to a user account to open a link.
    link: &'static str,
    yes: &'static [&'static str],
    no: &'static [&'static str],
}

/// The words that prompts name.
const NAMED: [&str; 6] = ["✅", "❌", "yes", "no", "да", "нет"];

/// An answer in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    Yes,
    No,
    Number(u8),
}

/// The texts of a language.
pub(crate) const fn of(language: Language) -> &'static Texts {
    match language {
        Language::En => &en::TEXTS,
        Language::Ru => &ru::TEXTS,
    }
}

/// What a message means as an answer; in any of our languages, because people mix them. To a person's account only the
/// few words count that its prompt names: the rest may be talk.
pub(crate) fn answer(text: &str, to_a_bot: bool) -> Option<Words> {
    let text = text.trim().trim_end_matches(['.', '!', '\u{fe0f}']).to_lowercase();
    if text.len() == 2
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Some(Words::Number(number));
    }
    if !to_a_bot && !NAMED.contains(&text.as_str()) {
        return None;
    }
    let any = |pick: fn(&Texts) -> &'static [&'static str]| {
        [&en::TEXTS, &ru::TEXTS].into_iter().any(|texts| pick(texts).contains(&text.as_str()))
    };
    if any(|texts| texts.yes) {
        return Some(Words::Yes);
    }
    any(|texts| texts.no).then_some(Words::No)
}

/// Whether a message begins as a link to a user account does.
pub(crate) fn begins_as_link(text: &str) -> bool {
    [&en::TEXTS, &ru::TEXTS].into_iter().any(|texts| text.trim().starts_with(texts.link))
}

impl Texts {
    /// The message by which a person opens a link to a user account: it ends with the session's id.
    pub(crate) fn link_message(&self, id: &str) -> String {
        format!("{} {id}", self.link)
    }

    /// The prompt.
    pub(crate) fn prompt(&self, session: &AuthSession, app: &str, buttons: bool) -> Text {
        let mut text = filled(self.prompt, "{app}", app);
        text.push("\n\n");
        text.push(if session.wants_phone { self.profile_and_phone } else { self.profile });
        let origin = &session.origin;
        if let Some(device) = &origin.device {
            let device = match device {
                Device::Browser(name) => name,
                Device::MobileApp => self.mobile_app,
            };
            // Names that we know ourselves.
            text.push("\n");
            text.push(&self.from_device.replace("{device}", device));
        }
        if let Some(address) = &origin.address {
            text.push("\n");
            fill(&mut text, self.from_address, "{address}", address);
        }
        if let Some(site) = &origin.site {
            text.push("\n");
            fill(&mut text, self.from_site, "{site}", site);
        }
        text.push("\n\n");
        text.push(self.only_if);
        let how = match (session.match_code.is_some(), buttons) {
            (true, true) => Some(self.choose_number),
            (true, false) => Some(self.answer_with_number),
            (false, false) => Some(self.answer_in_words),
            (false, true) => None,
        };
        if let Some(how) = how {
            text.push("\n");
            text.push(how);
        }
        text
    }

    /// The question for the phone number.
    pub(crate) fn ask_contact(&self, app: &str) -> Text {
        filled(self.ask_contact, "{app}", app)
    }

    /// What came of it; `None` while nothing has.
    pub(crate) fn outcome(&self, session: &AuthSession, app: &str) -> Option<Text> {
        let template = match &session.state {
            State::Pending => return None,
            State::Confirmed { .. } | State::Used { .. } => self.confirmed,
            State::Cancelled { by: Canceller::Person, .. } => self.cancelled,
            State::Cancelled { by: Canceller::WrongMatch, .. } => self.wrong_match,
            State::Cancelled { by: Canceller::Server, .. } => self.cancelled_by_app,
            State::Expired { .. } => self.expired,
        };
        Some(filled(template, "{app}", app))
    }

    /// The button that leads back.
    pub(crate) fn back(&self, app: &str) -> String {
        self.back.replace("{app}", app)
    }

    /// A short answer.
    pub(crate) const fn reply(&self, says: Reply) -> &'static str {
        match says {
            Reply::UnknownLink => self.reply_unknown,
            Reply::Expired => self.reply_expired,
            Reply::Decided => self.reply_decided,
            Reply::OpenedByAnother => self.reply_another,
            Reply::AlreadyAsked => self.reply_asked,
            Reply::SendTheNumber => self.reply_number,
            Reply::SendYourContact => self.reply_contact,
        }
    }
}

/// A template with somebody else's words in place of a mark.
fn filled(template: &str, mark: &str, words: &str) -> Text {
    let mut text = Text::default();
    fill(&mut text, template, mark, words);
    text
}

fn fill(text: &mut Text, template: &str, mark: &str, words: &str) {
    for (number, part) in template.split(mark).enumerate() {
        if number > 0 {
            text.quote(words);
        }
        text.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_as_people_write_them() {
        for yes in ["✅", "yes", "Yes!", " YES. ", "y", "да", "Да!", "✅ Confirm", "✅ Подтвердить", "ok"]
        {
            assert_eq!(answer(yes, true), Some(Words::Yes), "{yes}");
        }
        for no in ["❌", "no", "No.", "нет", "НЕТ", "❌ Cancel", "❌ Отмена", "cancel"] {
            assert_eq!(answer(no, true), Some(Words::No), "{no}");
        }
        assert_eq!(answer("42", false), Some(Words::Number(42)));
        assert_eq!(answer("Да!", false), Some(Words::Yes));
        assert_eq!(answer("ok", false), None, "talk");
        for other in ["", "yes please call me", "not now", "4", "142", "4 2", "+4", "-4", "даже", "✅❌"]
        {
            assert_eq!(answer(other, true), None, "{other}");
        }
    }
}
