//! What the service remembers, behind traits that a database hides under: small, atomic, durable steps.
//! Not here: Telegram sessions (`vault`), and any decision about what to do next (`flows`).

mod embedded;
mod records;
mod wakeup;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub use self::embedded::EmbeddedStore;
pub use self::wakeup::Wakeup;
use crate::domain::account::Mode;
use crate::domain::account::UnsavedSession;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Refused;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::Step;
use crate::domain::auth_session::TypedCode;
use crate::domain::auth_session::Via;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Delivery;
use crate::domain::delivery::DeliveryId;
use crate::domain::developer::AccessToken;
use crate::domain::developer::Developer;
use crate::domain::developer::DeveloperId;
use crate::domain::developer::Email;
use crate::domain::developer::Grant;
use crate::domain::errand::Errand;
use crate::domain::ledger::Day;
use crate::domain::ledger::DayCount;
use crate::domain::ledger::Listing;
use crate::domain::ledger::Page;
use crate::domain::ledger::Tally;
use crate::domain::login::PendingSignIn;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::domain::seal::KeyId;

/// Why a step did not happen. "Not there" is `Option`, never an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be read or written now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Another process has the embedded store open.
    #[error("the store in {0} is in use by another process: stop it, or give this one its own --data-dir")]
    InUse(String),
    /// An earlier version made the embedded store, and this process is not to move it.
    #[error("the store in {0} is of an earlier version of this program: the first start of `serve` moves it")]
    Former(String),
    /// A record is not what was written.
    #[error("the record {0} of the store is damaged; restore the data directory from a backup, or remove it")]
    Corrupt(String),
    /// The store belongs to another Telegram.
    #[error(
        "the store in {place} was made in {found} mode, but this process runs in {expected} mode: \
         use another --data-dir"
    )]
    OtherMode {
        /// Where the store is.
        place: String,
        /// The mode it was made in.
        found: Mode,
        /// The mode of this process.
        expected: Mode,
    },
    /// The store was written under another master key.
    #[error(
        "the store in {place} was sealed with master key {sealed_with}, but the configured one is {configured}: \
         set CONNECTOR_MASTER_KEY to the key it was made with"
    )]
    OtherKey {
        /// Where the store is.
        place: String,
        /// The key it was made with.
        sealed_with: KeyId,
        /// The key of this process.
        configured: KeyId,
    },
}

/// The account's sign-in between its two steps, and a finished one whose session could not be saved yet.
///
/// Each method is one atomic, durable step: when it returns `Ok`, a crash cannot undo it. At most one sign-in is
/// pending, because there is one account.
#[async_trait]
pub trait SignInStore: Send + Sync + 'static {
    /// The pending sign-in.
    async fn pending_sign_in(&self) -> Result<Option<PendingSignIn>, StoreError>;

    /// Writes the pending sign-in over whatever was pending.
    async fn put_pending_sign_in(&self, pending: &PendingSignIn) -> Result<(), StoreError>;

    /// Forgets the pending sign-in; nothing happens when there is none.
    async fn delete_pending_sign_in(&self) -> Result<(), StoreError>;

    /// Ends the pending sign-in and keeps the session it led to, in one step, for when the session store is out of
    /// reach.
    async fn keep_unsaved_session(&self, unsaved: &UnsavedSession) -> Result<(), StoreError>;

    /// The session that the session store has not taken yet.
    async fn unsaved_session(&self) -> Result<Option<UnsavedSession>, StoreError>;

    /// Forgets the unsaved session; nothing happens when there is none.
    async fn delete_unsaved_session(&self) -> Result<(), StoreError>;
}

/// What an event led to.
#[derive(Clone, Debug)]
pub enum Applied {
    /// The session's next state, and the errands that were written with it.
    Done(Box<Step>),
    /// Nothing changed, and why; the session as it is.
    Refused(Refused, Box<AuthSession>),
    /// There is no such session.
    Unknown,
}

/// What the end of some sessions led to.
#[derive(Clone, Debug)]
pub struct Expired {
    /// How many ended.
    pub ended: u64,
    /// The errands that were written with it.
    pub errands: Vec<Errand>,
    /// When to look again.
    pub next: Timestamp,
}

/// What forgetting somebody led to.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    /// How many sessions knew them.
    pub sessions: usize,
    /// What is to be told of those that were pending.
    pub errands: Vec<Errand>,
}

/// Resolves when a write survives a crash, or with the reason why it may not.
pub type Written = BoxFuture<'static, Result<(), StoreError>>;

/// The sign-in sessions of apps and the errands they lead to.
///
/// Each method is one atomic, durable step. A session changes only by [`AuthSession::apply`] inside such a step: of
/// events that race, each sees what the one before it made.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Writes a new session. Its id is as good as random: there is no other with it. When this returns it is under way, or
    /// refused; nobody may be told of it before what is returned says that it is written.
    fn insert_session(&self, session: &AuthSession) -> Written;

    /// Until when the session is pending in this project, if that is known without looking, and if the project admits who
    /// asks. `None` says nothing.
    fn known_pending(
        &self,
        id: &SessionId,
        project: &ProjectId,
        admits: &dyn Fn(&Project) -> bool,
    ) -> Option<Timestamp>;

    /// The session. What it says survives a crash.
    async fn session(&self, id: &SessionId) -> Result<Option<AuthSession>, StoreError>;

    /// The one session whose id begins with the code.
    async fn session_of_code(&self, code: &TypedCode) -> Result<Option<SessionId>, StoreError>;

    /// The sessions that a person opened through an account, the last opened first, decided ones too; at most some dozens.
    async fn sessions_of_person(&self, via: Via, person: i64) -> Result<Vec<AuthSession>, StoreError>;

    /// The session that a person opened with this message of theirs, if it is one of [`Self::sessions_of_person`].
    async fn session_opened_with(
        &self,
        via: Via,
        person: i64,
        message: i32,
    ) -> Result<Option<AuthSession>, StoreError>;

    /// Applies an event, writes what it leads to, and wakes who waits.
    async fn apply(&self, id: &SessionId, event: &Event, now: Timestamp) -> Result<Applied, StoreError>;

    /// Ends sessions whose time is over, as many as there are, or some. The others read as expired all the same.
    async fn expire(&self, now: Timestamp) -> Result<Expired, StoreError>;

    /// Writes an errand.
    async fn put_errand(&self, errand: &Errand) -> Result<(), StoreError>;

    /// Everything that is still to be told, the oldest first.
    async fn errands(&self) -> Result<Vec<Errand>, StoreError>;

    /// Removes an errand that was carried out or given up, and applies what was learned to its session, in one step.
    async fn finish_errand(
        &self,
        errand: &Errand,
        learned: Option<&Event>,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Remembers the username of one of our bots, so that links to it can be made before it has been heard of again.
    async fn put_username(&self, bot: i64, username: &str) -> Result<(), StoreError>;

    /// The username that was remembered.
    async fn username(&self, bot: i64) -> Result<Option<String>, StoreError>;

    /// Becomes ready when the session changes. Subscribe first, then read.
    fn subscribe(&self, id: &SessionId) -> Wakeup;
}

/// What is counted and listed of sessions, and how long it is kept. Counts never miss a session and never count one twice,
/// whatever crashes.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// A part of a list of sessions. New sessions come before everything that was listed, so what follows a cursor stays.
    async fn sessions(&self, listing: &Listing, now: Timestamp) -> Result<Page, StoreError>;

    /// What was counted of a project's sessions that were created on these days; days without any are left out.
    async fn day_counts(
        &self,
        project: &ProjectId,
        days: RangeInclusive<Day>,
    ) -> Result<Vec<DayCount>, StoreError>;

    /// What was ever counted of a project.
    async fn tally(&self, project: &ProjectId) -> Result<Tally, StoreError>;

    /// Removes ended sessions that were created before an instant, or some of them; counts stay, but for who was counted
    /// longer ago than anybody can ask. `true`: there are more.
    async fn prune(&self, before: Timestamp, now: Timestamp) -> Result<bool, StoreError>;

    /// Takes all pending sessions of a project back and erases what is known of people; what is to be told of that.
    async fn clear_project(&self, project: &ProjectId, now: Timestamp) -> Result<Vec<Errand>, StoreError>;

    /// Removes the sessions of a cleared project, and the counts with the last of them. Those that somebody opened stay
    /// until they were created before `before`: their people may still be told. `true`: nothing is left.
    async fn remove_cleared(&self, project: &ProjectId, before: Timestamp) -> Result<bool, StoreError>;

    /// Erases what is known of a person in the sessions of some projects, and removes the deliveries that tell of them;
    /// pending sessions are taken back.
    async fn forget_person(
        &self,
        projects: &[ProjectId],
        person: i64,
        now: Timestamp,
    ) -> Result<Forgotten, StoreError>;
}

/// Deliveries that are one worker's until the end of its lease.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// They, those that were due first first.
    pub deliveries: Vec<Delivery>,
    /// When there may be others; `None`: nothing else of the project is pending, but for what the worker has in hand.
    pub next: Option<Timestamp>,
}

/// What webhooks are to be told. A delivery is written by the step of [`SessionStore`] that makes it necessary, where the
/// project then has a webhook: [`Delivery::of`]. Each method is one atomic, durable step.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// The projects that have pending deliveries, due or not.
    async fn projects_with_deliveries(&self) -> Result<Vec<ProjectId>, StoreError>;

    /// Takes deliveries of a project that are due at `now`, at most `max`, none that the worker has `in_hand`. Until
    /// `lease_until`, or until they are settled or replayed, nobody else gets them.
    async fn claim_deliveries(
        &self,
        project: &ProjectId,
        in_hand: &HashSet<DeliveryId>,
        now: Timestamp,
        lease_until: Timestamp,
        max: usize,
    ) -> Result<Claims, StoreError>;

    /// Writes what became of a delivery. `false`, and nothing is written: it is no longer as it was claimed, because
    /// another worker settled it, or it was replayed or removed.
    async fn settle_delivery(&self, claimed: &Delivery, after: &Delivery) -> Result<bool, StoreError>;

    /// The delivery.
    async fn delivery(&self, id: &DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// A project's deliveries, the newest first: those before one that was created then. Damaged ones are left out.
    async fn deliveries(
        &self,
        project: &ProjectId,
        before: Option<&(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Makes a delivery pending again, whatever became of it ([`Delivery::replay`]); `None`: there is no such delivery.
    async fn replay_delivery(&self, id: &DeliveryId, now: Timestamp) -> Result<Option<Delivery>, StoreError>;

    /// Removes all deliveries of a project, damaged ones too.
    async fn drop_deliveries(&self, project: &ProjectId) -> Result<(), StoreError>;

    /// Removes deliveries that were created before an instant, pending or not: none may outlive its session. How many.
    async fn prune_deliveries(&self, before: Timestamp) -> Result<usize, StoreError>;

    /// Becomes ready when there may be something new to send. Subscribe first, then look.
    fn subscribe_deliveries(&self) -> Wakeup;

    /// The projects that got something to send since this was last asked. Only a hint about where to look.
    fn projects_with_news(&self) -> Vec<ProjectId>;
}

/// A change of a project.
pub type ProjectChange<'a> = &'a (dyn Fn(&mut Project) + Send + Sync);

/// Projects, and the developers who own them. Each method is one atomic, durable step.
#[async_trait]
pub trait ProjectStore: Send + Sync + 'static {
    /// The project.
    async fn project(&self, id: &ProjectId) -> Result<Option<Arc<Project>>, StoreError>;

    /// All projects, the oldest first.
    async fn projects(&self) -> Result<Vec<Arc<Project>>, StoreError>;

    /// Writes a new project; `false`: there is one with this id, or was one.
    async fn insert_project(&self, project: &Project) -> Result<bool, StoreError>;

    /// Changes a project: of changes that race, each sees what the one before it made. Returns it as it is then; `None`:
    /// there is no such project.
    async fn change_project(
        &self,
        id: &ProjectId,
        change: ProjectChange<'_>,
    ) -> Result<Option<Arc<Project>>, StoreError>;

    /// Removes a project with its secrets and keeps that it was there, until [`ProjectStore::forget_project`]; `false`:
    /// there is no such project.
    async fn delete_project(&self, id: &ProjectId) -> Result<bool, StoreError>;

    /// The projects that were removed and whose sessions may still be there.
    async fn deleted_projects(&self) -> Result<Vec<ProjectId>, StoreError>;

    /// What a removed project was called, for those who are still to be told of a sign-in to it.
    async fn deleted_project_name(&self, id: &ProjectId) -> Result<Option<String>, StoreError>;

    /// Forgets that a removed project was there.
    async fn forget_project(&self, id: &ProjectId) -> Result<(), StoreError>;

    /// Writes a new developer; `false`: there is one with this address.
    async fn insert_developer(&self, developer: &Developer) -> Result<bool, StoreError>;

    /// The developer.
    async fn developer(&self, id: &DeveloperId) -> Result<Option<Developer>, StoreError>;

    /// The developer with this address.
    async fn developer_by_email(&self, email: &Email) -> Result<Option<Developer>, StoreError>;

    /// Writes a developer who is there already, and makes all their tokens worthless.
    async fn reset_developer(&self, developer: &Developer) -> Result<(), StoreError>;

    /// Writes what a token permits.
    async fn insert_grant(&self, token: &AccessToken, grant: &Grant) -> Result<(), StoreError>;

    /// What the token permits at `now`.
    async fn grant(&self, token: &AccessToken, now: Timestamp) -> Result<Option<Grant>, StoreError>;

    /// Makes the token worthless.
    async fn delete_grant(&self, token: &AccessToken) -> Result<(), StoreError>;

    /// Removes what tokens permitted whose time is over at `now`. They are worthless without that too.
    async fn delete_ended_grants(&self, now: Timestamp) -> Result<(), StoreError>;
}

/// Everything the service remembers.
#[async_trait]
pub trait Store: SignInStore + SessionStore + LedgerStore + DeliveryStore + ProjectStore {
    /// Whether the store can be written: a durable write and a read of it.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Resolves when the store has failed for good, and would work again if it were opened anew: the disk takes writes.
    /// Until then what can be read is better than nothing.
    async fn is_to_be_reopened(&self);
}
