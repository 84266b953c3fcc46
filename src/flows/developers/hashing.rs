//! Where passwords are hashed: on two threads of our own, with a short queue. What is hashed, and for whom, is not known
//! here.
//!
//! A hash takes 19 MiB and tens of milliseconds. On the runtime's blocking threads as many would be hashed at once as are
//! asked for; here two are, and between two hashes the memory is the system's.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;

use tokio::sync::Semaphore;
use tokio::sync::oneshot;

use super::DeveloperError;
use crate::domain::developer::Workspace;
use crate::store::StoreError;

/// How many passwords are hashed at a time.
const THREADS: usize = 2;
/// How many are hashed or wait for that.
const WAITING: usize = 64;

type Job = Box<dyn FnOnce(&mut Workspace) + Send>;

/// The threads: started when they are first needed, ended when this is dropped.
#[derive(Debug)]
pub(super) struct Hashing {
    waiting: Arc<Semaphore>,
    queue: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { waiting: Arc::new(Semaphore::new(WAITING)), queue: Mutex::default() }
    }
}

impl Hashing {
    /// Does what costs a password hash.
    ///
    /// # Errors
    /// Too many wait, or there is no thread to do it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Workspace) -> T + Send + 'static,
    ) -> Result<T, DeveloperError> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| DeveloperError::Busy)?;
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |memory| {
            // Nobody waits any more for what a caller who has hung up asked.
            if !tell.is_closed() {
                let done = work(memory);
                drop(place);
                drop(tell.send(done));
            }
        });
        self.queue()?.send(job).map_err(|_| failed("its threads have ended"))?;
        Ok(told.await.map_err(|_| failed("its thread panicked"))?)
    }

    fn queue(&self) -> Result<mpsc::Sender<Job>, StoreError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*queue {
            return Ok(queue.clone());
        }
        let (sender, jobs) = mpsc::channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..THREADS {
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name("password-hash".to_owned());
            thread.spawn(move || work_off(&jobs)).map_err(|error| failed(&error.to_string()))?;
        }
        *queue = Some(sender.clone());
        Ok(sender)
    }
}

/// Does one job after the other until nobody can bring one.
fn work_off(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if catch_unwind(AssertUnwindSafe(|| job(&mut Workspace::default()))).is_err() {
            tracing::error!("hashing a password panicked");
        }
    }
}

fn failed(why: &str) -> StoreError {
    StoreError::Unavailable(format!("a password could not be hashed: {why}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread::ThreadId;

    use super::*;

    fn thread(_: &mut Workspace) -> ThreadId {
        std::thread::current().id()
    }

    #[tokio::test]
    async fn many_hashes_take_two_threads_and_a_panic_takes_none() {
        let hashing = Hashing::default();
        let panicking = hashing.run(|_| panic!("planted")).await;
        assert!(matches!(panicking, Err::<(), _>(DeveloperError::Store(StoreError::Unavailable(_)))));
        let all = futures_util::future::join_all((0..WAITING / 2).map(|_| hashing.run(thread))).await;
        let threads: HashSet<ThreadId> = all.into_iter().map(Result::unwrap).collect();
        assert!((1..=THREADS).contains(&threads.len()) && !threads.contains(&std::thread::current().id()));
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_and_what_nobody_waits_for_is_not_done() {
        let hashing = Hashing::default();
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let blocked = (0..THREADS).map(|_| {
            let (begun, released) = (begun.clone(), Arc::clone(&released));
            hashing.run(move |_| {
                begun.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            })
        });
        let blocked = futures_util::future::join_all(blocked);
        let mut blocked = std::pin::pin!(blocked);
        assert!(futures_util::poll!(&mut blocked).is_pending());
        for _ in 0..THREADS {
            has_begun.recv().unwrap();
        }
        let (done, was_done) = mpsc::channel();
        {
            let given_up = (THREADS..WAITING).map(|_| {
                let done = done.clone();
                hashing.run(move |_| done.send(()).unwrap())
            });
            let mut given_up = std::pin::pin!(futures_util::future::join_all(given_up));
            assert!(futures_util::poll!(&mut given_up).is_pending());
            assert!(matches!(hashing.run(|_| ()).await, Err(DeveloperError::Busy)));
        }
        assert!(
            matches!(hashing.run(|_| ()).await, Err(DeveloperError::Busy)),
            "they are in the queue still"
        );
        for _ in 0..THREADS {
            release.send(()).unwrap();
        }
        blocked.await.into_iter().for_each(Result::unwrap);
        // Behind all of them.
        let last = async {
            while hashing.waiting.available_permits() < WAITING {
                tokio::task::yield_now().await;
            }
        };
        last.await;
        assert!(was_done.try_recv().is_err());
    }
}
