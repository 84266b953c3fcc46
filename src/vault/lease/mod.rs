//! One owner per session: a process connects with a stored session only while it holds the session's lease, which lies
//! beside it. In a bucket a lease is an object, taken and renewed by conditional writes, and ends unless it is renewed;
//! in a folder it is a lock, which ends with its process. What the owner does under its lease is `telegram`'s business.
//!
//! Time is [`boot_time`], each machine's own: who waits for another's lease to end measures from when it first saw it.

mod exposure;
mod lock;
mod object;
mod record;
mod telling;
mod terms;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::exposure::Exposed;
pub use self::exposure::Exposure;
use self::lock::Lock;
use self::object::Leased;
pub use self::object::NO_CONDITIONS;
pub use self::record::Holder;
pub use self::terms::Ownership;
pub use self::terms::Terms;
use super::Backend;
use super::VaultError;
use super::error::Trouble;
use crate::audit::OwnerChange;
use crate::domain::place::Place;
use crate::lifecycle::Tasks;
use crate::lifecycle::boot_time;
use crate::lifecycle::network_sleep;

/// How often in its time a lease is renewed. Often: the shorter the rest of a lease may get, the sooner an owner that
/// cannot renew it must be off (see `telegram/tether.rs`).
const RENEWALS: u32 = 12;
/// The part of a lease at its end in which it is no longer used.
const MARGIN: u32 = 10;
/// The longest that a handed-over lease is not noticed.
const LOOK: Duration = Duration::from_secs(2);
/// How often whoever holds a lock sees to it that its file is still there.
const LOCK_LOOK: Duration = Duration::from_secs(1);
/// How long a lease is kept in a service that has begun to stop.
const FORSAKEN: Duration = Duration::from_secs(4);

/// A session's lease. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The session's name: `account.session`.
    session: String,
    place: Place,
    terms: Terms,
    hand: tokio::sync::Mutex<Hand>,
    ownership: watch::Sender<Ownership>,
    /// Until when it is held, as far as this process knows.
    until: Mutex<Until>,
    exposed: Mutex<Exposed>,
    /// Ticks when it has been renewed.
    renewed: watch::Sender<()>,
    /// Whether the process that has it has been seen to live.
    owner_lives: AtomicBool,
    stopping: CancellationToken,
    released: CancellationToken,
}

#[derive(Debug)]
enum Hand {
    Lock(Lock),
    Object(Box<Leased>),
}

/// Until when a lease is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Never,
    At(Duration),
    /// As long as this process lives.
    TheEnd,
}

/// What a try to take a lease led to.
enum Taken {
    Ours {
        epoch: u64,
        until: Until,
    },
    /// `lives`: that process has been seen to renew it, or is known to run.
    Theirs {
        holder: Holder,
        lives: bool,
    },
}

impl Lease {
    /// The lease of the session at `place`; nothing is asked of that place yet.
    pub(super) fn new(place: &Place, backend: &Backend, session: &str, terms: &Terms) -> Self {
        let name = format!("{}.lease", session.trim_end_matches(".session"));
        let hand = match backend.beside(&name) {
            Backend::Folder(file) => Hand::Lock(Lock::new(file)),
            Backend::S3(object) => Hand::Object(Box::new(Leased::new(object))),
        };
        Self(Arc::new(Shared {
            session: session.to_owned(),
            place: place.beside(&name),
            terms: terms.clone(),
            hand: tokio::sync::Mutex::new(hand),
            ownership: watch::Sender::new(Ownership::Unknown("nobody has asked yet".to_owned())),
            until: Mutex::new(Until::Never),
            exposed: Mutex::new(Exposed::new(terms.kill_timer.deadline())),
            renewed: watch::Sender::default(),
            owner_lives: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            released: CancellationToken::new(),
        }))
    }

    /// Who owns the session, and every change of it.
    pub fn ownership(&self) -> watch::Receiver<Ownership> {
        self.0.ownership.subscribe()
    }

    /// Ticks whenever the lease has been renewed.
    pub fn renewals(&self) -> watch::Receiver<()> {
        self.0.renewed.subscribe()
    }

    /// For how long this process may still use the session; `None`: not now.
    pub fn rest(&self) -> Option<Duration> {
        match *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) {
            Until::Never => None,
            Until::TheEnd => Some(Duration::MAX),
            Until::At(end) => {
                let margin = self.0.terms.lasts / MARGIN;
                end.checked_sub(boot_time() + margin).filter(|rest| !rest.is_zero())
            }
        }
    }

    /// For how long no other process takes the session; `None`: it may do so now.
    pub fn ends_in(&self) -> Option<Duration> {
        match *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) {
            Until::Never => None,
            Until::TheEnd => Some(Duration::MAX),
            Until::At(end) => end.checked_sub(boot_time()),
        }
    }

    /// Which time it is that the session has found an owner, while that is this process.
    pub fn epoch(&self) -> Option<u64> {
        match &*self.0.ownership.borrow() {
            Ownership::Held { epoch } if self.rest().is_some() => Some(*epoch),
            Ownership::Held { .. } | Ownership::Unknown(_) | Ownership::Standby(_) | Ownership::Lapsed => {
                None
            }
        }
    }

    /// How long another's lease may last, and so the longest wait for the session to find an owner.
    pub fn lasts(&self) -> Duration {
        self.0.terms.lasts
    }

    /// Whether nothing stands between this process and its next renewals, or the lease is another's.
    pub fn is_renewed(&self) -> bool {
        match &*self.0.ownership.borrow() {
            Ownership::Held { .. } => self.rest().is_some_and(|rest| rest >= self.0.terms.lasts / 2),
            Ownership::Standby(_) => true,
            Ownership::Unknown(_) | Ownership::Lapsed => false,
        }
    }

    /// Whether it is not known who owns the session.
    pub fn is_in_doubt(&self) -> bool {
        matches!(*self.0.ownership.borrow(), Ownership::Unknown(_) | Ownership::Lapsed)
    }

    /// Tries once to take the lease, or to renew it. Who owns the session then: [`Lease::ownership`].
    ///
    /// # Errors
    /// See [`VaultError`]. [`VaultError::Refused`]: the S3 server honours no conditional writes.
    pub async fn attempt(&self) -> Result<(), VaultError> {
        let mut hand = self.0.hand.lock().await;
        let limit = self.0.terms.lasts / 3;
        let held = !matches!(*self.0.ownership.borrow(), Ownership::Standby(_) | Ownership::Unknown(_));
        let work =
            async { if held { hand.renew(&self.0.terms).await } else { hand.take(&self.0.terms).await } };
        let late = || Trouble::Unavailable(std::io::Error::other("no answer within the time limit"));
        let outcome = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()));
        self.count(&outcome);
        match outcome {
            Ok(Taken::Ours { epoch, until }) => {
                self.set_until(until);
                self.become_(&Ownership::Held { epoch });
                self.0.renewed.send_replace(());
                Ok(())
            }
            Ok(Taken::Theirs { holder, lives }) => {
                self.0.owner_lives.store(lives, Ordering::SeqCst);
                self.set_until(Until::Never);
                self.become_(&Ownership::Standby(holder));
                Ok(())
            }
            Err(trouble) => {
                let error = VaultError::new(&self.0.place, trouble);
                self.note_failure(&error);
                Err(error)
            }
        }
    }

    /// Takes the lease for a while, of which nobody keeps it: for a piece of work that is shorter than a lease. Waits for
    /// as long as the lease of an owner that is gone lasts. See [`Lease::give_up`].
    ///
    /// # Errors
    /// [`VaultError::NotOwner`]: that owner lives. Else see [`Lease::attempt`].
    pub async fn borrow(&self) -> Result<(), VaultError> {
        loop {
            self.attempt().await?;
            let now = self.0.ownership.borrow().clone();
            match now {
                Ownership::Standby(holder) if self.0.owner_lives.load(Ordering::SeqCst) => {
                    return Err(VaultError::NotOwner(holder));
                }
                Ownership::Standby(_) => network_sleep(LOOK.min(self.0.terms.lasts / RENEWALS)).await,
                Ownership::Held { .. } | Ownership::Unknown(_) | Ownership::Lapsed => return Ok(()),
            }
        }
    }

    /// Holds the lease, or waits for it, until [`Lease::release`].
    pub fn keep(&self, tasks: &Tasks) {
        let (lease, service) = (self.clone(), tasks.clone());
        tasks.spawn("lease", async move {
            let (mut failing, stopping) = (false, lease.ended(service));
            let mut stopping = std::pin::pin!(stopping);
            loop {
                tokio::select! { () = lease.pause(failing) => {}, () = &mut stopping => break }
                let attempt = tokio::select! { done = lease.attempt() => done, () = &mut stopping => break };
                if let Err(error) = &attempt
                    && !failing
                {
                    tracing::warn!(%error, "the lease could not be taken or renewed");
                }
                failing = attempt.is_err();
            }
            lease.give_up().await;
            lease.0.released.cancel();
        });
    }

    /// Resolves when it is to be released; in a service that stops without saying so, after a while.
    async fn ended(&self, tasks: Tasks) {
        let forsaken = async {
            tasks.stopping().cancelled().await;
            network_sleep(FORSAKEN).await;
        };
        tokio::select! { () = self.0.stopping.cancelled() => {}, () = forsaken => {} }
    }

    /// Hands the session over: whoever stands by need not wait. Its connections must be closed by now.
    pub async fn release(&self) {
        self.0.stopping.cancel();
        self.0.released.cancelled().await;
    }

    /// Nobody will keep it: [`Lease::release`] does not wait for whoever does.
    pub fn forsake(&self) {
        self.0.released.cancel();
    }

    /// As [`Lease::release`], of a lease that nobody keeps.
    pub async fn give_up(&self) {
        let mut hand = self.0.hand.lock().await;
        let before = self.0.ownership.borrow().clone();
        self.set_until(Until::Never);
        self.0.ownership.send_replace(Ownership::Unknown("it was given up".to_owned()));
        let released = tokio::time::timeout(LOOK, hand.release(&self.0.terms)).await;
        match (released, before) {
            (Ok(Ok(())), Ownership::Held { epoch }) => {
                tracing::info!(session = self.0.session, "the session was handed over");
                self.audit(OwnerChange::HandedOver, epoch);
            }
            (Ok(Ok(())), Ownership::Unknown(_) | Ownership::Standby(_) | Ownership::Lapsed) => {}
            (Ok(Err(trouble)), _) => {
                let error = VaultError::new(&self.0.place, trouble);
                tracing::warn!(%error, "the lease was not handed over; it ends by itself");
            }
            (Err(_), _) => tracing::warn!(session = self.0.session, "the lease was not handed over in time"),
        }
    }

    async fn pause(&self, failing: bool) {
        let renewal = self.0.terms.lasts / RENEWALS;
        // A lock is only looked after, which costs nothing.
        let renewal = if self.rest() == Some(Duration::MAX) { renewal.min(LOCK_LOOK) } else { renewal };
        let standby = matches!(*self.0.ownership.borrow(), Ownership::Standby(_) | Ownership::Unknown(_));
        let pause = match (standby, failing) {
            (true, _) => LOOK.min(renewal * 2),
            (false, true) => renewal.min(Duration::from_secs(1)),
            (false, false) => renewal,
        };
        network_sleep(pause).await;
    }

    fn set_until(&self, until: Until) {
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.follow_end();
    }

    fn note_failure(&self, error: &VaultError) {
        let now = self.0.ownership.borrow().clone();
        match now {
            Ownership::Held { .. } if self.rest().is_none() => self.become_(&Ownership::Lapsed),
            Ownership::Unknown(_) => {
                self.0.ownership.send_replace(Ownership::Unknown(error.to_string()));
            }
            // Another had it when it could last be seen.
            Ownership::Held { .. } | Ownership::Standby(_) | Ownership::Lapsed => {}
        }
    }
}

// Boxed: the SDK's futures are larger than all of ours together.
impl Hand {
    async fn take(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        match self {
            Self::Lock(lock) => lock.take(terms).await,
            Self::Object(object) => Box::pin(object.take(terms)).await,
        }
    }

    async fn renew(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        match self {
            Self::Lock(lock) => lock.renew(terms).await,
            Self::Object(object) => Box::pin(object.renew(terms)).await,
        }
    }

    async fn release(&mut self, terms: &Terms) -> Result<(), Trouble> {
        match self {
            Self::Lock(lock) => lock.release(terms).await,
            Self::Object(object) => Box::pin(object.release(terms)).await,
        }
    }
}
