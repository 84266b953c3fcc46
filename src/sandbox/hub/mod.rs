//! Where the parts meet: the world, its journal and the keys behind one lock, the connections, the faults. Whatever
//! changes the world goes through [`Hub::transact`], which keeps it before anyone is told. The lock is never held across
//! an await.

mod kept;
mod mail;
mod press;
mod tell;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;
use crate::lifecycle::OffsetClock;
use crate::lifecycle::SystemClock;
use crate::lifecycle::Tasks;

use super::conn::Limits;
use super::conn::live::Live;
use super::faults::Fault;
use super::faults::Faults;
use super::host::Hosts;
use super::journal::Entry;
use super::journal::Journal;
use super::journal::JournalError;
use super::wire::keyex::NewKey;
use super::wire::rsa_key::RsaKey;
use super::world::AccountId;
use super::world::DeviceId;
use super::world::Phone;
use super::world::World;
use super::world::WorldError;

use kept::all_entries;
use kept::spent_keys;

pub(crate) use kept::Kept;
pub(crate) use kept::KnownKey;

#[derive(Debug)]
struct State {
    world: World,
    keys: HashMap<i64, Arc<KnownKey>>,
    journal: Journal,
    /// Something was not written to the journal: it must be written anew before anything else happens.
    stale: bool,
}

/// What all connections and the control API share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) rsa: RsaKey,
    pub(crate) ids: Ids,
    pub(crate) clock: OffsetClock,
    pub(crate) tasks: Tasks,
    pub(crate) hosts: Hosts,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) live: Live,
    pub(crate) data_centres: Vec<(i32, SocketAddrV4)>,
    listening: Vec<(i32, SocketAddrV4)>,
    state: Mutex<State>,
    calls: Mutex<BTreeMap<&'static str, CallCount>>,
    changed: watch::Sender<u64>,
    mail: mail::Mail,
}

/// How often a method was called, and whether the sandbox knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallCount {
    pub(crate) count: u64,
    pub(crate) unknown: bool,
}

/// The parts of a hub that do not change.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) rsa: RsaKey,
    pub(crate) ids: Ids,
    pub(crate) clock: OffsetClock,
    pub(crate) tasks: Tasks,
    pub(crate) hosts: Hosts,
    pub(crate) limits: Limits,
    /// The addresses that clients are told.
    pub(crate) data_centres: Vec<(i32, SocketAddrV4)>,
    /// The addresses that are listened on, kept for the next start.
    pub(crate) listening: Vec<(i32, SocketAddrV4)>,
    pub(crate) journal: PathBuf,
}

impl Hub {
    /// Joins the parts and what was kept, and compacts the journal.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(crate) fn new(parts: Parts, kept: Kept) -> Result<Self, JournalError> {
        let mut world = kept.world;
        // Devices with a temporary key did not survive.
        for device in world.all_devices() {
            if !kept.keys.contains_key(&device.0) {
                world.forget_device(device);
            }
        }
        world.take_changes();
        let entries = all_entries(&world, &kept.keys, &parts.listening, parts.clock.offset_millis());
        let journal = Journal::replace(&parts.journal, entries)?;
        Ok(Self {
            rsa: parts.rsa,
            ids: parts.ids,
            clock: parts.clock,
            tasks: parts.tasks,
            hosts: parts.hosts,
            limits: parts.limits,
            faults: Faults::default(),
            live: Live::default(),
            data_centres: parts.data_centres,
            listening: parts.listening,
            state: Mutex::new(State { world, keys: kept.keys, journal, stale: false }),
            calls: Mutex::default(),
            // A page that waits across a restart sees another number.
            changed: watch::channel(u64::try_from(SystemClock.now().as_millis()).unwrap_or(0)).0,
            mail: mail::Mail::default(),
        })
    }

    /// Looks at the world.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.state().world)
    }

    /// Changes the world: keeps what changed, then tells whom it concerns, in the order of the changes.
    ///
    /// # Errors
    /// When the journal cannot be written. Nobody may then be told that anything happened.
    pub(crate) fn transact<T>(
        &self,
        act: impl FnOnce(&mut World, Timestamp) -> T,
    ) -> Result<T, JournalError> {
        let mut state = self.kept_state()?;
        let outcome = act(&mut state.world, self.clock.now());
        let (records, events) = state.world.take_changes();
        let changed = !records.is_empty();
        let entries: Vec<Entry> = records.into_iter().map(Entry::World).collect();
        keep(&mut state, &entries)?;
        if state.journal.is_overgrown() && self.write_anew(&mut state).is_err() {
            // What changed is kept all the same.
            state.journal.let_grow();
        }
        for event in &events {
            self.tell(&state.world, event);
        }
        drop(state);
        events.iter().filter_map(mail::owner).for_each(|account| self.mail.wake(account));
        if changed {
            self.changed.send_modify(|version| *version = version.wrapping_add(1));
        }
        Ok(outcome)
    }

    /// As [`Self::transact`], for the control API.
    pub(crate) fn change<T>(
        &self,
        act: impl FnOnce(&mut World) -> Result<T, WorldError>,
    ) -> Result<T, WorldError> {
        self.transact(|world, _| act(world)).map_err(|_| WorldError::NotKept)?
    }

    /// Becomes ready whenever the world has changed. Subscribe first, then look.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Becomes ready whenever the messages of an account have changed. Subscribe first, then look.
    pub(crate) fn mail(&self, account: AccountId) -> watch::Receiver<()> {
        self.mail.subscribe(account)
    }

    /// The key with this id, if this data centre knows it.
    pub(crate) fn key(&self, id: i64, dc: i32) -> Option<Arc<KnownKey>> {
        let state = self.state();
        let known = state.keys.get(&id).filter(|known| known.dc == dc)?;
        let now = SystemClock.now().as_secs();
        known.is_good(now).then(|| Arc::clone(known))
    }

    /// Whether a key id is in use in any data centre.
    pub(crate) fn knows_key(&self, id: i64) -> bool {
        self.state().keys.contains_key(&id)
    }

    /// Takes a new key in. Temporary ones are not kept across restarts.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(crate) fn add_key(&self, dc: i32, new: &NewKey) -> Result<(), JournalError> {
        let made = SystemClock.now().as_secs();
        let id = new.key.id();
        let known = KnownKey::new(dc, new, made);
        let mut state = self.kept_state()?;
        let spent = spent_keys(&state.world, &state.keys, made, self.limits.unused_keys);
        self.drop_keys(&mut state, &spent)?;
        state.world.meet_device(DeviceId(id), dc);
        let (records, _) = state.world.take_changes();
        if let Some(entry) = known.entry() {
            let entries: Vec<Entry> =
                std::iter::once(entry).chain(records.into_iter().map(Entry::World)).collect();
            keep(&mut state, &entries)?;
        }
        state.keys.insert(id, Arc::new(known));
        Ok(())
    }

    /// Forgets keys and the devices that they stand for: packets under them get transport error 404.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(crate) fn forget_keys(&self, ids: &[i64]) -> Result<(), JournalError> {
        let mut state = self.kept_state()?;
        self.drop_keys(&mut state, ids)
    }

    fn drop_keys(&self, state: &mut State, ids: &[i64]) -> Result<(), JournalError> {
        for id in ids {
            state.keys.remove(id);
            state.world.forget_device(DeviceId(*id));
            self.live.forget(*id);
        }
        let (records, _) = state.world.take_changes();
        let gone = ids.iter().copied().map(Entry::KeyGone);
        let entries: Vec<Entry> = gone.chain(records.into_iter().map(Entry::World)).collect();
        keep(state, &entries)
    }

    /// Moves business time and keeps that it was moved.
    ///
    /// # Errors
    /// When the journal cannot be written; the clock is then not moved.
    pub(crate) fn advance_clock(&self, by: Duration) -> Result<Timestamp, JournalError> {
        // Under one guard, so that the last move written is the last one made.
        let mut state = self.kept_state()?;
        let moved =
            self.clock.offset_millis().saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        keep(&mut state, &[Entry::Clock(moved)])?;
        self.clock.advance(by);
        drop(state);
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        Ok(self.clock.now())
    }

    /// Empties the world, the faults and the list of calls; every connection is closed. Keys stay known and the clock
    /// stays where it is, because neither can be taken back from those who hold it.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(crate) fn reset(&self) -> Result<(), JournalError> {
        {
            let mut state = self.state();
            state.world.empty();
            state.world.take_changes();
            self.write_anew(&mut state)?;
        }
        self.faults.clear();
        self.calls().clear();
        self.live.end_all();
        self.mail.wake_all();
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        Ok(())
    }

    /// Carries out or puts in force what the control API ordered.
    ///
    /// # Errors
    /// When the order names an account or data centre that there is not.
    pub(crate) fn order(&self, fault: Fault) -> Result<(), WorldError> {
        let phone = |written: &str| Phone::parse(written).ok_or(WorldError::PhoneInvalid);
        match &fault {
            Fault::Disconnect { .. } => self.live.end_all(),
            Fault::Freeze { .. } => self.live.freeze_all(),
            Fault::Revoke { revoke } => {
                let phone = phone(revoke)?;
                self.change(|world| world.revoke(&phone))?;
            }
            Fault::Ban { ban } => {
                let phone = phone(ban)?;
                self.change(|world| world.ban(&phone))?;
            }
            Fault::Migrate { migrate } => {
                let number = phone(&migrate.phone)?;
                self.change(|world| world.migrate(&number, migrate.dc))?;
            }
            Fault::ForgetKey { forget_key } => {
                let devices = if forget_key == "all" {
                    self.look(World::all_devices)
                } else {
                    let phone = phone(forget_key)?;
                    if !self.look(|world| world.knows_number(&phone)) {
                        return Err(WorldError::NoSuchAccount);
                    }
                    self.look(|world| world.devices_of(&phone))
                };
                let ids: Vec<i64> = devices.iter().map(|device| device.0).collect();
                self.forget_keys(&ids).map_err(|_| WorldError::NotKept)?;
            }
            Fault::Error { .. }
            | Fault::Delay { .. }
            | Fault::DisconnectEvery { .. }
            | Fault::Cut { .. }
            | Fault::Silent { .. }
            | Fault::RefuseConnections { .. }
            | Fault::DropPushes { .. }
            | Fault::DifferenceSlice { .. }
            | Fault::DifferenceTooLong { .. }
            | Fault::WrongSalt { .. }
            | Fault::WrongSessionId { .. }
            | Fault::SentCode { .. }
            | Fault::BadSrpPrime { .. } => {}
        }
        self.faults.add(fault);
        Ok(())
    }

    /// Counts a call, before anybody can see what it does: who has seen that finds it counted.
    pub(crate) fn count_call(&self, method: &'static str) {
        self.calls().entry(method).or_default().count += 1;
    }

    /// Notes that a method was called which the sandbox does not know.
    pub(crate) fn note_unknown(&self, method: &'static str) {
        self.calls().entry(method).or_default().unknown = true;
    }

    /// Every method that was called.
    pub(crate) fn calls(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, CallCount>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the journal grow to this length, bytes.
    #[cfg(test)]
    pub(crate) fn let_journal_grow_to(&self, length: u64) {
        self.state().journal.set_patience(length);
    }

    /// Makes every further write fail until the journal is written anew.
    #[cfg(test)]
    pub(crate) fn break_journal(&self) {
        self.state().journal.break_it();
    }

    /// Replaces the journal by one that holds what is so, and nothing that was.
    fn write_anew(&self, state: &mut State) -> Result<(), JournalError> {
        let offset = self.clock.offset_millis();
        let entries = all_entries(&state.world, &state.keys, &self.listening, offset);
        state.journal.renew(entries).inspect_err(report)?;
        state.stale = false;
        Ok(())
    }

    /// The state, once the journal holds all of it: a restart would else find what came later without what it builds on.
    fn kept_state(&self) -> Result<std::sync::MutexGuard<'_, State>, JournalError> {
        let mut state = self.state();
        if state.stale {
            self.write_anew(&mut state)?;
        }
        Ok(state)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to the journal, or notes that something is missing there.
fn keep(state: &mut State, entries: &[Entry]) -> Result<(), JournalError> {
    let kept = state.journal.append(entries).inspect_err(report);
    state.stale |= kept.is_err();
    kept
}

fn report(error: &JournalError) {
    tracing::error!(%error, "the sandbox cannot write its journal");
}
