//! Texts of messages, and which parts of them are quoted. Telegram makes a link of whatever looks like an address, also
//! where the sender meant a name; a quoted part is sent as code (`messageEntityCode`) and stays what it is.

use grammers_tl_types as tl;

/// The text of a message, made from the beginning to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    plain: String,
    /// How long it is, UTF-16 code units: what Telegram counts in (core.telegram.org/api/entities).
    units: usize,
    quoted: Vec<Quoted>,
}

/// Where a quoted part begins and how long it is, UTF-16 code units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quoted {
    offset: usize,
    length: usize,
}

impl Text {
    /// Adds words of ours.
    pub fn push(&mut self, words: &str) {
        self.plain.push_str(words);
        self.units += words.encode_utf16().count();
    }

    /// Adds words of somebody else's, which Telegram is to take for nothing but words.
    pub fn quote(&mut self, words: &str) {
        let offset = self.units;
        self.push(words);
        let length = self.units - offset;
        if length > 0 {
            self.quoted.push(Quoted { offset, length });
        }
    }

    /// The text alone.
    pub fn as_str(&self) -> &str {
        &self.plain
    }

    /// The quoted parts for Telegram; `None` when there are none.
    pub(super) fn entities(&self) -> Option<Vec<tl::enums::MessageEntity>> {
        let code = |quoted: &Quoted| {
            let offset = i32::try_from(quoted.offset).ok()?;
            let length = i32::try_from(quoted.length).ok()?;
            Some(tl::types::MessageEntityCode { offset, length }.into())
        };
        let entities: Vec<tl::enums::MessageEntity> = self.quoted.iter().filter_map(code).collect();
        (!entities.is_empty()).then_some(entities)
    }
}

impl From<&str> for Text {
    fn from(words: &str) -> Self {
        let mut text = Self::default();
        text.push(words);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_counted_as_telegram_counts() {
        let mut text = Text::from("✅ 👩‍👩‍👧 is ");
        text.quote("𝕊hop 🛍.example");
        text.push(" или ");
        text.quote("");
        text.quote("магазин.рф");
        text.push(".");
        let units: Vec<u16> = text.as_str().encode_utf16().collect();
        let quoted: Vec<String> = text
            .entities()
            .unwrap()
            .into_iter()
            .map(|entity| {
                let tl::enums::MessageEntity::Code(code) = entity else { panic!("{entity:?}") };
                let (from, length) =
                    (usize::try_from(code.offset).unwrap(), usize::try_from(code.length).unwrap());
                String::from_utf16(&units[from..from + length]).unwrap()
            })
            .collect();
        assert_eq!(quoted, ["𝕊hop 🛍.example", "магазин.рф"]);
        assert_eq!(Text::from("nobody's words").entities(), None);
    }
}
