//! The buttons of a prompt and what they carry.

use crate::domain::auth_session::SessionId;

/// What a button of a prompt means, and its callback data: `c:`, `x:` or `n42:` and the session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Button {
    Confirm,
    Cancel,
    Number(u8),
}

impl Button {
    /// Callback data (TL `keyboardButtonCallback.data`, at most 64 bytes). Never holds the token.
    pub(crate) fn data(self, session: &SessionId) -> String {
        match self {
            Self::Confirm => format!("c:{session}"),
            Self::Cancel => format!("x:{session}"),
            Self::Number(number) => format!("n{number}:{session}"),
        }
    }

    /// Reads callback data; `None`: not ours.
    pub(super) fn read(data: &[u8]) -> Option<(Self, SessionId)> {
        let (choice, id) = std::str::from_utf8(data).ok()?.split_once(':')?;
        let button = match choice {
            "c" => Self::Confirm,
            "x" => Self::Cancel,
            number => Self::Number(number.strip_prefix('n')?.parse().ok()?),
        };
        Some((button, SessionId::parse(id)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_data_comes_back_and_fits() {
        let id = SessionId::parse("0123456789abcdefghjkmnpqrstv").unwrap();
        for button in [Button::Confirm, Button::Cancel, Button::Number(42)] {
            let data = button.data(&id);
            assert!(data.len() <= 64);
            assert_eq!(Button::read(data.as_bytes()), Some((button, id.clone())));
        }
        for other in [&b""[..], b"c:", b"c:short", b"q:0123456789abcdefghjkmnpqrstv", b"\xff\xfe", b"n:x"] {
            assert_eq!(Button::read(other), None);
        }
    }
}
