//! Carries out errands: what our accounts have to tell people. In order for each person, a few people at a time for each
//! account; a flood is waited out, what nobody wants to know any more is dropped. What is not done yet is in the store,
//! so a crash repeats and Telegram's `random_id` makes the repetition harmless.

mod telling;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use self::telling::Told;
use super::accounts::Accounts;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Via;
use crate::domain::clock::Clock;
use crate::domain::errand::Errand;
use crate::domain::errand::Task;
use crate::lifecycle::Tasks;
use crate::lifecycle::network_sleep;
use crate::store::Store;
use crate::store::StoreError;

/// How many people an account tells something at the same time: no more than these find out that there is a flood.
const AT_ONCE: usize = 32;
/// First and longest pause before something is tried again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The errands of all accounts. Cloning shares them.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// `None` before the beginning and after the end.
    accounts: Mutex<Option<Accounts>>,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    /// What a person has still to be told; there is a task for each that is here.
    people: HashMap<(Via, i64), VecDeque<Errand>>,
    accounts: HashMap<Via, Arc<AccountQueue>>,
    /// Everything in `people`, so that nothing is taken in twice.
    known: HashSet<(Via, i64)>,
}

struct AccountQueue {
    places: Semaphore,
    flooded_until: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Outbox")
    }
}

impl Outbox {
    /// An outbox that carries nothing out before [`Outbox::begin`].
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        let (accounts, queues) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { store, clock, tasks, accounts, queues }))
    }

    /// Begins, with what an earlier process left.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn begin(&self, accounts: Accounts) -> Result<(), StoreError> {
        // First the accounts, then the store: what is put in meanwhile is met twice rather than not at all.
        *self.accounts_slot() = Some(accounts);
        let left = self.0.store.errands().await?;
        self.take(left);
        Ok(())
    }

    /// Lets go of the accounts. They hold whom they tell of events, and that holds this outbox: without an end the store
    /// would stay open.
    pub fn end(&self) {
        *self.accounts_slot() = None;
    }

    fn accounts_slot(&self) -> MutexGuard<'_, Option<Accounts>> {
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again for errands that are in the store and that nobody has handed over.
    pub(crate) fn recall(&self) {
        let outbox = self.clone();
        self.0.tasks.spawn("recall", async move {
            match outbox.0.store.errands().await {
                Ok(left) => outbox.take(left),
                Err(error) => tracing::error!(%error, "the errands in the store cannot be read"),
            }
        });
    }

    /// Carries out errands that are in the store.
    pub(crate) fn take(&self, errands: impl IntoIterator<Item = Errand>) {
        if self.accounts_slot().is_none() {
            // They are in the store, and `begin` will find them.
            return;
        }
        for errand in errands {
            let key = (errand.via, errand.person);
            let begin = {
                let mut queues = self.queues();
                if !queues.known.insert((errand.via, errand.random_id)) {
                    continue;
                }
                metrics::gauge!("connector_errands").increment(1.0);
                let queue = queues.people.get_mut(&key);
                let idle = queue.is_none();
                match queue {
                    Some(queue) => queue.push_back(errand),
                    None => drop(queues.people.insert(key, VecDeque::from([errand]))),
                }
                idle
            };
            if begin {
                let outbox = self.clone();
                self.0.tasks.spawn("errands", async move { outbox.tell_person(key).await });
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a person everything there is, oldest first.
    async fn tell_person(&self, key: (Via, i64)) {
        let stopping = self.0.tasks.stopping();
        let account = {
            let mut queues = self.queues();
            Arc::clone(queues.accounts.entry(key.0).or_insert_with(|| {
                Arc::new(AccountQueue { places: Semaphore::new(AT_ONCE), flooded_until: Mutex::default() })
            }))
        };
        loop {
            let errand = {
                let mut queues = self.queues();
                let Some(errand) = queues.people.get(&key).and_then(VecDeque::front).cloned() else {
                    queues.people.remove(&key);
                    return;
                };
                errand
            };
            tokio::select! {
                () = self.carry_out(&account, &errand) => {}
                () = stopping.cancelled() => return,
            }
            let mut queues = self.queues();
            queues.known.remove(&(errand.via, errand.random_id));
            metrics::gauge!("connector_errands").decrement(1.0);
            if let Some(queue) = queues.people.get_mut(&key) {
                queue.pop_front();
            }
        }
    }

    /// Tries until it is done, given up, or too late.
    async fn carry_out(&self, account: &AccountQueue, errand: &Errand) {
        let mut pause = BACK_OFF.0;
        let mut learned = None;
        loop {
            tokio::select! {
                () = account.await_flood() => {}
                () = self.0.clock.sleep_until(errand.not_after) => {}
            }
            if self.0.clock.now() >= errand.not_after {
                metrics::counter!("connector_errands_dropped_total").increment(1);
                tracing::info!("an errand came too late and is dropped");
                break;
            }
            let told = {
                // Closed never: the semaphore lives as long as its queue.
                let _place = account.places.acquire().await;
                if account.rest_of_flood().is_some() {
                    // It began while this one waited for its place.
                    continue;
                }
                self.tell(errand).await
            };
            match told {
                Told::Done(event) => {
                    learned = event;
                    break;
                }
                Told::Flood(wait) => {
                    metrics::counter!("connector_flood_waits_total").increment(1);
                    account.flood(wait);
                    if let Task::Prompt { session } = &errand.task {
                        let delayed = Event::PromptDelayed(wait.as_secs());
                        if let Err(error) = self.0.store.apply(session, &delayed, self.0.clock.now()).await {
                            tracing::warn!(%error, "the delay of a prompt is not recorded");
                        }
                    }
                }
                Told::Later => {
                    network_sleep(pause).await;
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
        // Until the store has taken it, it is not done; repeating it does no harm.
        let mut pause = BACK_OFF.0;
        while let Err(error) = self.0.store.finish_errand(errand, learned.as_ref(), self.0.clock.now()).await
        {
            tracing::error!(%error, "the store does not take that an errand is done");
            network_sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }
}

impl AccountQueue {
    async fn await_flood(&self) {
        while let Some(rest) = self.rest_of_flood() {
            network_sleep(rest).await;
        }
    }

    /// How long the account has still to be silent, if it has.
    fn rest_of_flood(&self) -> Option<Duration> {
        let until = *self.flooded_until.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = until?.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }

    fn flood(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut flooded = self.flooded_until.lock().unwrap_or_else(PoisonError::into_inner);
        *flooded = Some(flooded.map_or(until, |earlier| earlier.max(until)));
    }
}
