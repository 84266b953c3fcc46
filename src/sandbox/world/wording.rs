//! What a message says, and which parts of it are shown in another way (<https://core.telegram.org/api/entities>).

use serde::Deserialize;
use serde::Serialize;

use super::Refusal;

/// The longest text, characters.
const MAX_TEXT: usize = 4096;
/// The most entities of a message.
const MAX_ENTITIES: usize = 100;

/// A text with its entities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wording {
    pub(crate) text: String,
    pub(crate) entities: Vec<Entity>,
}

/// A part of a text that is shown in another way. Offset and length are UTF-16 code units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entity {
    #[serde(rename = "k")]
    pub(crate) look: Look,
    #[serde(rename = "o")]
    pub(crate) offset: i32,
    #[serde(rename = "l")]
    pub(crate) length: i32,
}

/// How a part of a text is shown. Other ways are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Look {
    #[serde(rename = "c")]
    Code,
    #[serde(rename = "b")]
    Bold,
    #[serde(rename = "i")]
    Italic,
}

impl From<String> for Wording {
    fn from(text: String) -> Self {
        Self { text, entities: Vec::new() }
    }
}

/// Whether a message may say this.
pub(super) fn check_text(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::MessageEmpty);
    }
    (text.chars().count() <= MAX_TEXT).then_some(()).ok_or(Refusal::MessageTooLong)
}

/// Whether these parts are there: Telegram counts UTF-16 code units, and halves no character.
pub(super) fn check_entities(text: &str, entities: &[Entity]) -> Result<(), Refusal> {
    if entities.len() > MAX_ENTITIES {
        return Err(Refusal::EntitiesTooLong);
    }
    if entities.is_empty() {
        return Ok(());
    }
    let mut ends = vec![0];
    let mut units = 0_i32;
    for character in text.chars() {
        units += if character.len_utf16() == 2 { 2 } else { 1 };
        ends.push(units);
    }
    let there = |entity: &Entity| {
        let end = entity.offset.checked_add(entity.length).filter(|_| entity.length > 0);
        ends.binary_search(&entity.offset).is_ok() && end.is_some_and(|end| ends.binary_search(&end).is_ok())
    };
    entities.iter().all(there).then_some(()).ok_or(Refusal::EntityBoundsInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_lie_within_the_text_and_halve_no_character() {
        let checked = |offset, length| check_entities("a🛍b", &[Entity { look: Look::Code, offset, length }]);
        for (offset, length) in [(0, 1), (0, 3), (1, 2), (1, 3), (3, 1), (0, 4)] {
            assert_eq!(checked(offset, length), Ok(()), "{offset} {length}");
        }
        for (offset, length) in [(0, 2), (2, 1), (-1, 2), (0, 5), (4, 1), (0, 0), (1, -1), (1, i32::MAX)] {
            assert_eq!(checked(offset, length), Err(Refusal::EntityBoundsInvalid), "{offset} {length}");
        }
        let one = Entity { look: Look::Bold, offset: 0, length: 1 };
        assert_eq!(check_entities("a", &[one; MAX_ENTITIES]), Ok(()));
        assert_eq!(check_entities("a", &[one; MAX_ENTITIES + 1]), Err(Refusal::EntitiesTooLong));
    }

    #[test]
    fn a_message_from_before_there_were_entities_has_none() {
        let kept: crate::sandbox::world::message::Content = serde_json::from_str(r#"{"t":"hello"}"#).unwrap();
        assert_eq!((kept.text.as_str(), kept.entities.len()), ("hello", 0));
        assert_eq!(serde_json::to_string(&kept).unwrap(), r#"{"t":"hello"}"#, "nor costs anything");
    }
}
