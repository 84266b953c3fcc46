//! The people an account has lately heard of, by what Telegram said of them: in memory only, and not many.

use std::collections::HashMap;

use super::conversation::Peer;

/// How many are kept before the half not heard of since gives way.
const HALF: usize = 500;

/// Names and access hashes lately seen.
#[derive(Debug, Default)]
pub(super) struct People {
    young: HashMap<i64, Peer>,
    old: HashMap<i64, Peer>,
}

impl People {
    /// Remembers somebody. An access hash once known is not forgotten for a mention without one.
    pub(super) fn meet(&mut self, mut peer: Peer) {
        if let Some(known) = self.get(peer.id).filter(|_| peer.access_hash == 0) {
            peer.access_hash = known.access_hash;
        }
        if self.young.len() >= HALF && !self.young.contains_key(&peer.id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(peer.id, peer);
    }

    /// What is known of somebody.
    pub(super) fn get(&self, id: i64) -> Option<&Peer> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_and_there_are_never_many() {
        let mut people = People::default();
        let many = i64::try_from(HALF * 5).unwrap();
        for id in 1..=many {
            people.meet(Peer::stranger(id, id));
        }
        people.meet(Peer::stranger(many, 7));
        people.meet(Peer::stranger(many, 0));
        people.meet(Peer { name: "Ann".to_owned(), ..Peer::stranger(many, 0) });
        let ann = people.get(many).unwrap();
        assert_eq!((ann.name.as_str(), ann.access_hash), ("Ann", 7));
        assert!(people.get(many - 400).is_some() && people.get(1).is_none());
        assert!(people.young.len() + people.old.len() <= 2 * HALF);
    }
}
