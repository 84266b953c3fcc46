//! What may be printed of a session: what says which one it is and how it stands, and nothing of the person.

use std::fmt;

use super::AuthSession;
use super::Origin;
use super::Person;
use super::Request;
use super::State;

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Request").field("project", &self.project).finish_non_exhaustive()
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Person(…)")
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Origin").field("device", &self.device).finish_non_exhaustive()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => formatter.write_str("Pending"),
            Self::Confirmed { at, .. } => {
                formatter.debug_struct("Confirmed").field("at", at).finish_non_exhaustive()
            }
            Self::Cancelled { by, at } => {
                formatter.debug_struct("Cancelled").field("by", by).field("at", at).finish()
            }
            Self::Expired { at } => formatter.debug_struct("Expired").field("at", at).finish(),
            Self::Used { at, .. } => formatter.debug_struct("Used").field("at", at).finish_non_exhaustive(),
        }
    }
}

impl fmt::Debug for AuthSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AuthSession")
            .field("id", &self.id)
            .field("project", &self.project)
            .field("state", &self.state)
            .field("timeline", &self.timeline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Answer;
    use super::super::Device;
    use super::super::Event;
    use super::super::SessionToken;
    use super::super::Via;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::Ids;
    use crate::domain::ids::Secret;
    use crate::domain::language::Language;
    use crate::domain::project::ProjectId;

    use super::*;

    #[test]
    fn nothing_that_is_printed_names_the_person_or_gives_the_session_away() {
        let (via, now) = (Via { account: 7, bot: true }, Timestamp::from_millis(1));
        let origin = Origin {
            device: Some(Device::MobileApp),
            address: Some("81.2.69.x".to_owned()),
            site: Some("planted.example".to_owned()),
        };
        let request = Request {
            project: ProjectId::parse("proj_demo").unwrap(),
            via,
            nonce: Some("planted-nonce".to_owned()),
            origin,
            language: None,
            wants_phone: true,
            match_code: None,
        };
        let printed_request = format!("{request:?}");
        let token = SessionToken::new(&Ids::from_seed([7; 32]));
        let revealed = token.reveal().to_owned();
        let session = AuthSession::new(token, "planted-watch".to_owned(), request, now);
        let person = Person {
            id: 424_242,
            access_hash: 989_898,
            name: "Planted Name".to_owned(),
            username: Some("planted_username".to_owned()),
        };
        let answer = Answer { person: 424_242, via, message: 3, tapped: true };
        let events = [
            Event::Open { person, via, message: 2, language: Language::En },
            Event::Confirm { answer, number: None },
            Event::Contact { answer, phone: Secret::new("+15550100002".to_owned()) },
        ];
        let mut printed = vec![printed_request, format!("{session:?}")];
        let mut session = session;
        for event in &events {
            // Only who says it: whose id it is, is no secret of an answer.
            if !matches!(event, Event::Confirm { .. }) {
                printed.push(format!("{event:?}"));
            }
            let step = session.apply(event, now).unwrap();
            printed.push(format!("{:?} {:?}", step.session, step.session.state));
            session = step.session;
        }
        assert_eq!(session.phone(), Some("+15550100002"));
        for text in printed {
            for secret in ["lanted", "5550100002", "989898", "81.2.69", &revealed, &revealed[5..]] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}
