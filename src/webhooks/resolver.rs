//! From a host name to its addresses, by the system's resolver. No cache: what was checked is what is connected to, and
//! both happen once per delivery (`webhooks/client.rs`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::watch;

/// The addresses of a name, or why there are none, in words.
pub type Addresses = Result<Vec<IpAddr>, String>;

/// Who knows the addresses of names.
#[async_trait]
pub trait Names: Send + Sync + std::fmt::Debug {
    /// All addresses of `host`, in the order in which they should be tried. May take for ever: the caller has a limit.
    async fn addresses(&self, host: &str) -> Addresses;
}

/// How many look-ups the system's resolver does at a time. A developer has at most 100 projects and a name at most one
/// look-up, so that nobody whose name servers are dead takes all of them alone.
const AT_ONCE: usize = 512;

/// The system's resolver (`getaddrinfo`, so the hosts file and search domains count).
///
/// A look-up cannot be cancelled, and one whose name servers are dead lasts for tens of seconds, long after the delivery
/// has given up. So each has a thread of its own, which neither holds up the runtime's blocking pool nor the end of the
/// process, and a name has at most one: a dead name server costs one thread for each name, however often it is tried.
#[derive(Debug)]
pub struct SystemNames {
    running: Arc<Running>,
    slots: Arc<Semaphore>,
}

/// The look-ups on their way, and where each will tell its answer.
type Running = Mutex<HashMap<String, watch::Receiver<Option<Addresses>>>>;

impl Default for SystemNames {
    fn default() -> Self {
        Self { running: Arc::default(), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> Addresses {
        let joined = self.lock().get(host).cloned();
        let mut answer = if let Some(running) = joined {
            running
        } else {
            let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|error| error.to_string())?;
            self.begin(host, slot)?
        };
        let answer = answer.wait_for(Option::is_some).await;
        answer
            .ok()
            .and_then(|answer| answer.clone())
            .unwrap_or_else(|| Err("the look-up ended early".to_owned()))
    }
}

impl SystemNames {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Receiver<Option<Addresses>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the look-up of this name, or starts it. The slot is free again when the system has answered.
    fn begin(
        &self,
        host: &str,
        slot: OwnedSemaphorePermit,
    ) -> Result<watch::Receiver<Option<Addresses>>, String> {
        let mut running = self.lock();
        if let Some(answer) = running.get(host) {
            return Ok(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        let (host, all) = (host.to_owned(), Arc::clone(&self.running));
        let name = host.clone();
        std::thread::Builder::new()
            .name("webhook-lookup".to_owned())
            .spawn(move || {
                let found = look_up(&host);
                // Who asks from now on gets an answer of its own.
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
                drop(slot);
                tell.send_replace(Some(found));
            })
            .map_err(|error| format!("no thread for the look-up: {error}"))?;
        running.insert(name, answer.clone());
        Ok(answer)
    }
}

fn look_up(host: &str) -> Addresses {
    let mut found = Vec::new();
    for address in (host, 0).to_socket_addrs().map_err(|error| error.to_string())? {
        if !found.contains(&address.ip()) {
            found.push(address.ip());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_itself_and_an_answer_is_not_kept() {
        let names = SystemNames::default();
        for _ in 0..2 {
            let found = names.addresses("localhost").await.unwrap();
            assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        }
        // No name server is asked for what cannot be a name.
        assert!(names.addresses(&"a".repeat(300)).await.is_err());
        assert!(names.lock().is_empty());
        assert_eq!(names.slots.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn who_asks_while_a_name_is_looked_up_joins_in() {
        let names = SystemNames::default();
        let (tell, answer) = watch::channel(None);
        names.lock().insert("slow.example".to_owned(), answer);
        let asked = async { tokio::join!(names.addresses("slow.example"), names.addresses("slow.example")) };
        let told = async {
            tokio::task::yield_now().await;
            tell.send_replace(Some(Ok(vec![IpAddr::from([192, 0, 2, 1])])));
        };
        let ((first, second), ()) = tokio::join!(asked, told);
        assert_eq!(first, second);
        assert_eq!(first, Ok(vec![IpAddr::from([192, 0, 2, 1])]));
    }
}
