//! What a sandbox keeps across restarts, and the way between that and the journal's entries.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::Arc;

use crate::domain::ids::Ids;
use crate::sandbox::journal::Entry;
use crate::sandbox::journal::KeptKey;
use crate::sandbox::wire::envelope::AuthKey;
use crate::sandbox::wire::keyex::NewKey;
use crate::sandbox::wire::salts;
use crate::sandbox::world::DeviceId;
use crate::sandbox::world::World;

/// An authorisation key as the sandbox knows it.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) key: AuthKey,
    pub(crate) dc: i32,
    first_salt: i64,
    made: i64,
    /// When a temporary key ends, Unix seconds.
    ends: Option<i64>,
}

impl KnownKey {
    /// A key made at `made` (Unix seconds, real time).
    pub(super) fn new(dc: i32, new: &NewKey, made: i64) -> Self {
        Self {
            key: new.key.clone(),
            dc,
            first_salt: new.first_salt,
            made,
            ends: new.expires_in.map(|seconds| made.saturating_add(i64::from(seconds.max(0)))),
        }
    }

    /// A key that was kept; `None` when it is none.
    fn read(kept: &KeptKey) -> Option<Self> {
        let bytes = grammers_crypto::hex::opt_from_hex(&kept.key)?;
        let key = AuthKey::new(bytes.try_into().ok()?);
        Some(Self { key, dc: kept.dc, first_salt: kept.first_salt, made: kept.made, ends: None })
    }

    /// Whether it is still good at `now`.
    pub(super) fn is_good(&self, now: i64) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }

    /// Whether `salt` is good at `now`: one of the key's own, or the one from the key exchange for its first half hour.
    pub(crate) fn accepts_salt(&self, salt: i64, now: i64) -> bool {
        salts::accepted(&self.key, salt, now) || salt == self.first_salt && now < self.made + 1800
    }

    /// What is kept of it: nothing of a temporary key.
    pub(super) fn entry(&self) -> Option<Entry> {
        self.ends.is_none().then(|| {
            Entry::Key(KeptKey {
                dc: self.dc,
                key: grammers_crypto::hex::to_hex(self.key.bytes()),
                first_salt: self.first_salt,
                made: self.made,
            })
        })
    }
}

/// What a journal says, sorted by what it concerns.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) world: World,
    pub(super) keys: HashMap<i64, Arc<KnownKey>>,
    pub(crate) data_centres: Vec<(i32, SocketAddrV4)>,
    pub(crate) clock_offset: i64,
}

impl Kept {
    /// Nothing.
    pub(crate) fn new(ids: &Ids) -> Self {
        Self {
            world: World::new(ids.clone()),
            keys: HashMap::new(),
            data_centres: Vec::new(),
            clock_offset: 0,
        }
    }

    /// Takes an entry of a journal in, oldest first; whether it could be read.
    pub(crate) fn take(&mut self, entry: Entry) -> bool {
        match entry {
            Entry::World(record) => self.world.restore(record),
            Entry::Key(key) => match KnownKey::read(&key) {
                Some(known) => {
                    self.keys.insert(known.key.id(), Arc::new(known));
                }
                None => return false,
            },
            Entry::KeyGone(id) => {
                self.keys.remove(&id);
            }
            Entry::DataCentres(listening) => self.data_centres = listening,
            Entry::Clock(offset) => self.clock_offset = offset,
        }
        true
    }
}

/// The keys that give way to another at `now` (Unix seconds): temporary ones that have ended and, of those on which
/// nobody is signed in, the oldest, so that one more makes `unused` of them at most.
pub(super) fn spent_keys(
    world: &World,
    keys: &HashMap<i64, Arc<KnownKey>>,
    now: i64,
    unused: usize,
) -> Vec<i64> {
    let (good, mut spent): (Vec<_>, Vec<_>) = keys.iter().partition(|(_, known)| known.is_good(now));
    let is_used = |id: i64| world.device(DeviceId(id)).is_some_and(|device| device.account.is_some());
    let mut idle: Vec<_> = good.into_iter().filter(|(id, _)| !is_used(**id)).collect();
    idle.sort_unstable_by_key(|(id, known)| (known.made, **id));
    let too_many = (idle.len() + 1).saturating_sub(unused);
    spent.extend(idle.into_iter().take(too_many));
    spent.into_iter().map(|(id, _)| *id).collect()
}

/// Everything, as the entries of a compact journal.
pub(super) fn all_entries(
    world: &World,
    keys: &HashMap<i64, Arc<KnownKey>>,
    listening: &[(i32, SocketAddrV4)],
    clock_offset: i64,
) -> impl Iterator<Item = Entry> {
    [Entry::Clock(clock_offset), Entry::DataCentres(listening.to_vec())]
        .into_iter()
        .chain(keys.values().filter_map(|known| known.entry()))
        .chain(world.all_records().map(Entry::World))
}
