//! The languages in which people are spoken to, and how theirs is found. The texts are in `flows::texts`.

use serde::{Deserialize, Serialize};

/// A language of prompts and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English: whenever nothing else is known.
    #[default]
    En,
    /// Russian.
    Ru,
}

impl Language {
    /// From a language code as Telegram gives it to bots (`user.lang_code`, IETF); `None`: not one of ours.
    pub fn from_code(code: &str) -> Option<Self> {
        let primary = code.split(['-', '_']).next().unwrap_or_default();
        [("en", Self::En), ("ru", Self::Ru)]
            .into_iter()
            .find_map(|(ours, language)| primary.eq_ignore_ascii_case(ours).then_some(language))
    }

    /// From `Accept-Language` (RFC 9110, section 12.5.4): the one of ours with the greatest weight, the earlier of
    /// equals.
    pub fn from_accept_language(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',').take(32) {
            let mut parts = range.split(';');
            let Some(language) = parts.next().and_then(|tag| Self::from_code(tag.trim())) else { continue };
            let weight =
                parts.find_map(|part| part.trim().strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f32);
            if weight > 0.0 && best.is_none_or(|(heaviest, _)| weight > heaviest) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_found_by_its_primary_subtag_and_weight() {
        assert_eq!(Language::from_code("ru"), Some(Language::Ru));
        assert_eq!(Language::from_code("RU-ru"), Some(Language::Ru));
        assert_eq!(Language::from_code("rue"), None);
        assert_eq!(Language::from_accept_language("de, ru;q=0.4, en;q=0.9"), Some(Language::En));
        assert_eq!(Language::from_accept_language("ru-RU,ru;q=0.9,en;q=0.8"), Some(Language::Ru));
        assert_eq!(Language::from_accept_language("ru;q=0, de"), None);
        assert_eq!(Language::from_accept_language("*"), None);
    }
}
