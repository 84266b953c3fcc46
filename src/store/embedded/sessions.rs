//! Sign-in sessions in the embedded store, and what changes in one step with them: the errands they lead to, the index
//! of a person's sessions. Their end in time is in `ending`.
//!
//! Keys: `s` id → session; `e` time, blinded random id → errand; `p` blinded person, time, id → nothing. `ledger` has the
//! keys of what is counted and listed.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::EmbeddedStore;
use super::creations::passing_over_damage;
use super::engine::Batch;
use super::engine::Bytes;
use super::shards::Shard;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Happening;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State;
use crate::domain::auth_session::Step;
use crate::domain::auth_session::TypedCode;
use crate::domain::auth_session::Via;
use crate::domain::clock::Timestamp;
use crate::domain::errand::Errand;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::store::Applied;
use crate::store::Expired;
use crate::store::SessionStore;
use crate::store::StoreError;
use crate::store::Wakeup;
use crate::store::Written;
use crate::store::records;

pub(super) const SESSION: u8 = b's';
const ERRAND: u8 = b'e';
const PERSON: u8 = b'p';
/// How many of a person's sessions are looked at.
const OF_A_PERSON: usize = 64;

fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    std::iter::once(kind).chain(parts.iter().flat_map(|part| part.iter().copied())).collect()
}

/// Times and places as bytes that sort as they do.
pub(super) fn ordered(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// What [`ordered`] was made from.
pub(super) fn unordered(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()
}

pub(super) fn session_key(id: &SessionId) -> Vec<u8> {
    key(SESSION, &[id.as_str().as_bytes()])
}

/// What an errand's record is bound to.
fn errand_context(key: &[u8]) -> String {
    format!("errand/{}", URL_SAFE_NO_PAD.encode(key))
}

impl EmbeddedStore {
    pub(super) fn read_session(&self, id: &SessionId) -> Result<Option<AuthSession>, StoreError> {
        let record = self.0.sessions.get(session_key(id))?;
        record.map(|record| records::decode(&self.0.sealer, &context(id), &record)).transpose()
    }

    /// Has a new session written with the next flush.
    fn queue_session(&self, session: &AuthSession) -> Result<(), StoreError> {
        let record = records::encode_compact(&self.0.sealer, &context(&session.id), session)?;
        // Whatever changes the session, once it is written, needs its shard, too, and comes after this.
        let mut shard = self.0.shards.hold(&session.id);
        self.0.creations.queue(session, &record)?;
        self.0.shards.now_is(&mut shard, session);
        Ok(())
    }

    pub(super) fn person_prefix(&self, person: i64) -> Vec<u8> {
        key(PERSON, &[&self.0.sealer.blind("person", &person.to_be_bytes())])
    }

    /// Where a session is in the index of its person, once somebody opened it and unless they are forgotten.
    pub(super) fn person_key(&self, session: &AuthSession) -> Option<Vec<u8>> {
        let opening = session.opening.as_ref().filter(|_| !session.forgotten)?;
        let opened = session.timeline.iter().find(|one| one.what == Happening::Opened)?;
        let mut key = self.person_prefix(opening.person.id);
        key.extend(ordered(opened.at.as_millis()));
        key.extend(session.id.as_str().as_bytes());
        Some(key)
    }

    /// The sessions that a person opened through an account, the last opened first, read one by one.
    fn of_person(&self, via: Via, person: i64) -> impl Iterator<Item = Result<AuthSession, StoreError>> + '_ {
        let prefix = self.person_prefix(person);
        let skipped = prefix.len() + 8;
        let read = move |entry: Result<_, StoreError>| {
            let entry: Bytes = entry?;
            let id = entry.get(skipped..).and_then(|id| SessionId::parse(std::str::from_utf8(id).ok()?));
            id.map_or(Ok(None), |id| passing_over_damage(self.read_session(&id)))
        };
        let of_account = move |session: &AuthSession| session.via == via;
        self.0
            .sessions
            .scan_prefix(&prefix)
            .keys()
            .rev()
            .take(OF_A_PERSON)
            .filter_map(move |entry| read(entry).map(|session| session.filter(of_account)).transpose())
    }

    /// The random id is blinded: it is made from whom the errand is for.
    fn errand_key(&self, errand: &Errand) -> Vec<u8> {
        let blinded = self.0.sealer.blind("errand", &errand.random_id.to_be_bytes());
        key(ERRAND, &[&ordered(errand.created_at.as_millis()), &blinded])
    }

    fn put_errands(&self, errands: &[Errand], step: &mut Batch) -> Result<(), StoreError> {
        for errand in errands {
            let key = self.errand_key(errand);
            let record = records::encode_compact(&self.0.sealer, &errand_context(&key), errand)?;
            step.insert(key, record);
        }
        Ok(())
    }

    /// Adds to a batch what an event led to. The delivery that tells of it, and where it is queued, if there is one: wake once
    /// it is written.
    fn put_step(
        &self,
        before: &AuthSession,
        after: &Step,
        batch: &mut Batch,
    ) -> Result<Option<(ProjectId, Vec<u8>)>, StoreError> {
        let session = &after.session;
        let record = records::encode_compact(&self.0.sealer, &context(&session.id), session)?;
        batch.insert(session_key(&session.id), record);
        match (self.person_key(before), self.person_key(session)) {
            (None, Some(person)) => batch.insert(person, Vec::new()),
            (Some(person), None) => batch.remove(person),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.put_errands(&after.errands, batch)?;
        let queued = self.put_delivery(before, session, batch)?;
        Ok(queued.map(|queued| (session.project.clone(), queued)))
    }

    /// Writes what events led to, in one step, of sessions whose shard is held: what they were, and what became of them. Its
    /// number is for waiting until it is durable.
    pub(super) fn write_steps(
        &self,
        shard: &mut Shard,
        steps: &[(AuthSession, Step)],
        mut batch: Batch,
    ) -> Result<u64, StoreError> {
        let (mut ended, mut told) = (Vec::new(), Vec::new());
        for (before, after) in steps {
            told.extend(self.put_step(before, after, &mut batch)?);
            // Once, because what is decided stays so.
            if before.state == State::Pending && after.session.state != State::Pending {
                ended.push(&after.session);
            }
        }
        self.write_counted(&ended, batch)?;
        for (project, queued) in told {
            self.0.deliveries.wake(&project, queued);
        }
        let number = self.0.flusher.number();
        for (_, after) in steps {
            shard.wrote(&after.session.id, number, |number| self.0.flusher.is_durable(number));
            self.0.shards.now_is(shard, &after.session);
        }
        Ok(number)
    }

    /// Reads, applies, writes, while nobody else can; nothing is durable yet.
    pub(super) fn apply_held(
        &self,
        id: &SessionId,
        event: &Event,
        now: Timestamp,
        batch: Batch,
    ) -> Result<(Applied, Option<u64>), StoreError> {
        let mut shard = self.0.shards.hold(id);
        let Some(before) = self.read_session(id)? else {
            return Ok((Applied::Unknown, None));
        };
        match before.apply(event, now) {
            Ok(step) => {
                let steps = [(before, step)];
                let number = self.write_steps(&mut shard, &steps, batch)?;
                let [(_, step)] = steps;
                Ok((Applied::Done(Box::new(step)), Some(number)))
            }
            Err(refused) => Ok((Applied::Refused(refused, Box::new(before)), shard.last_write(id))),
        }
    }

    /// Does what may take long where it holds nobody up.
    pub(super) async fn aside_of_others<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.map_err(|_| StoreError::Unavailable("the store panicked".to_owned()))?
    }

    /// Returns when the write survives a crash.
    async fn durable(&self, number: Option<u64>) -> Result<(), StoreError> {
        match number {
            Some(number) if !self.0.flusher.is_durable(number) => self.0.flusher.flushed().await,
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn wake(&self, id: &SessionId) {
        self.0.shards.hold(id).wake(id);
    }
}

pub(super) fn context(id: &SessionId) -> String {
    ["session/", id.as_str()].concat()
}

#[async_trait]
impl SessionStore for EmbeddedStore {
    fn insert_session(&self, session: &AuthSession) -> Written {
        let asked = self.queue_session(session).and_then(|()| self.0.flusher.ask());
        Box::pin(async { asked?.await })
    }

    async fn session(&self, id: &SessionId) -> Result<Option<AuthSession>, StoreError> {
        let before = self.0.shards.before(id);
        let session = self.read_session(id)?;
        match &session {
            // A pending session tells nothing that a crash could undo.
            Some(session) if session.state == State::Pending => self.0.shards.read(session, before),
            Some(_) => {
                let number = self.0.shards.hold(id).last_write(id);
                self.durable(number).await?;
            }
            None => {}
        }
        Ok(session)
    }

    fn known_pending(
        &self,
        id: &SessionId,
        project: &ProjectId,
        admits: &dyn Fn(&Project) -> bool,
    ) -> Option<Timestamp> {
        let until = self.0.shards.pending_until(id, project)?;
        self.0.projects.is(project, admits).then_some(until)
    }

    async fn session_of_code(&self, code: &TypedCode) -> Result<Option<SessionId>, StoreError> {
        let mut found = self.0.sessions.scan_prefix(key(SESSION, &[code.prefix().as_bytes()])).keys().take(2);
        let Some(first) = found.next().transpose()? else { return Ok(None) };
        // Two of a kind: the link must decide.
        if found.next().is_some() {
            return Ok(None);
        }
        Ok(first.get(1..).and_then(|id| SessionId::parse(std::str::from_utf8(id).ok()?)))
    }

    async fn sessions_of_person(&self, via: Via, person: i64) -> Result<Vec<AuthSession>, StoreError> {
        self.of_person(via, person).collect()
    }

    async fn session_opened_with(
        &self,
        via: Via,
        person: i64,
        message: i32,
    ) -> Result<Option<AuthSession>, StoreError> {
        let opened_with = |session: &AuthSession| {
            session.opening.as_ref().is_some_and(|opening| opening.message == message)
        };
        // Nearly always the last one: the others need not be read.
        let mut sessions = self.of_person(via, person);
        sessions.find(|session| session.as_ref().map_or(true, opened_with)).transpose()
    }

    async fn apply(&self, id: &SessionId, event: &Event, now: Timestamp) -> Result<Applied, StoreError> {
        let (applied, number) = self.apply_held(id, event, now, Batch::default())?;
        self.durable(number).await?;
        if matches!(applied, Applied::Done(_)) {
            self.wake(id);
        }
        Ok(applied)
    }

    async fn expire(&self, now: Timestamp) -> Result<Expired, StoreError> {
        let (expired, ended) = self
            .aside_of_others(move |store| {
                let is_counted = store.count_some()?;
                let (mut expired, ended) = store.end_overdue(now)?;
                if !is_counted {
                    expired.next = now;
                }
                Ok((expired, ended))
            })
            .await?;
        if !ended.is_empty() {
            self.0.flusher.flushed().await?;
            for id in &ended {
                self.wake(id);
            }
        }
        Ok(expired)
    }

    async fn put_errand(&self, errand: &Errand) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.put_errands(std::slice::from_ref(errand), &mut batch)?;
        self.0.sessions.apply_batch(batch)?;
        self.0.flusher.flushed().await
    }

    async fn errands(&self) -> Result<Vec<Errand>, StoreError> {
        let mut errands = Vec::new();
        for entry in self.0.sessions.scan_prefix([ERRAND]) {
            let (key, record) = entry?;
            let errand = records::decode(&self.0.sealer, &errand_context(&key), &record);
            errands.extend(passing_over_damage(errand.map(Some))?);
        }
        Ok(errands)
    }

    async fn finish_errand(
        &self,
        errand: &Errand,
        learned: Option<&Event>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.remove(self.errand_key(errand));
        let mut told = None;
        if let (Some(id), Some(event)) = (errand.session(), learned)
            && let (Applied::Done(_), _) = self.apply_held(id, event, now, batch.clone())?
        {
            told = Some(id);
        } else {
            self.0.sessions.apply_batch(batch)?;
        }
        self.0.flusher.flushed().await?;
        if let Some(id) = told {
            self.wake(id);
        }
        Ok(())
    }

    async fn put_username(&self, bot: i64, username: &str) -> Result<(), StoreError> {
        self.put(&format!("username/{bot}"), &username).await
    }

    async fn username(&self, bot: i64) -> Result<Option<String>, StoreError> {
        self.get(&format!("username/{bot}"))
    }

    fn subscribe(&self, id: &SessionId) -> Wakeup {
        self.0.shards.subscribe(id)
    }
}
