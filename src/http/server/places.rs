//! Who may have another connection: a bounded number over all, and of one address. Connections that are open are all that is
//! remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::Limits;
use crate::domain::subscriber::subscriber;

/// The connections there are. Cloning shares them.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

struct Shared {
    limits: Limits,
    /// `CONNECTOR_TRUSTED_PROXIES`.
    trusted: Arc<[IpNet]>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place, until it is dropped.
pub(super) struct Place(Places, Option<IpAddr>);

impl Places {
    pub(super) fn new(limits: Limits, trusted: Arc<[IpNet]>) -> Self {
        Self(Arc::new(Shared { limits, trusted, taken: Mutex::default() }))
    }

    /// A place for a connection from `peer`, if there is one.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place> {
        let (peer, Limits { connections, connections_per_address, .. }) =
            (peer.to_canonical(), self.0.limits);
        let ours = peer.is_loopback() || self.0.trusted.iter().any(|network| network.contains(&peer));
        let mut taken = self.taken();
        // Strangers must not keep the operator, the probes and the proxy out.
        let most = if ours { connections } else { connections - connections / 16 };
        if taken.all >= most {
            return None;
        }
        let counted = (!ours).then(|| subscriber(peer));
        if let Some(address) = counted {
            let theirs = taken.by_address.entry(address).or_default();
            if *theirs >= connections_per_address {
                return None;
            }
            *theirs += 1;
        }
        taken.all += 1;
        metrics::gauge!("connector_http_connections").increment(1);
        Some(Place(self.clone(), counted))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self(places, counted) = self;
        let mut taken = places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(address) = counted {
            match taken.by_address.get_mut(address) {
                Some(theirs) if *theirs > 1 => *theirs -= 1,
                Some(_) | None => drop(taken.by_address.remove(address)),
            }
        }
        metrics::gauge!("connector_http_connections").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, connections_per_address: usize, trusted: &[&str]) -> Places {
        let limits = Limits { connections, connections_per_address, ..Limits::default() };
        Places::new(limits, trusted.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn take(places: &Places, peer: &str) -> Option<Place> {
        places.take(peer.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_share_and_this_machine_and_proxies_have_no_share() {
        let places = places(100, 2, &["10.0.0.0/8"]);
        let held = [take(&places, "203.0.113.7").unwrap(), take(&places, "::ffff:203.0.113.7").unwrap()];
        assert!(take(&places, "203.0.113.7").is_none());
        let other = take(&places, "203.0.113.8").unwrap();
        let one_subscriber =
            [take(&places, "2001:db8::1").unwrap(), take(&places, "2001:db8::ffff").unwrap()];
        assert!(take(&places, "2001:db8::2").is_none(), "a subscriber has a whole /64");
        let ours: Vec<_> =
            (0..40).map(|n| take(&places, ["127.0.0.1", "10.1.2.3"][n % 2]).unwrap()).collect();
        drop(held);
        assert!(take(&places, "203.0.113.7").is_some(), "a place that is left is free");
        drop((other, one_subscriber, ours));
        let taken = places.taken();
        assert!(taken.all == 0 && taken.by_address.is_empty(), "nothing is remembered");
    }

    #[test]
    fn strangers_never_have_the_last_places() {
        let places = places(32, 1, &[]);
        let strangers: Vec<_> = (0..40).filter_map(|n| take(&places, &format!("203.0.113.{n}"))).collect();
        assert_eq!(strangers.len(), 30);
        let ours: Vec<_> = (0..40).filter_map(|_| take(&places, "::1")).collect();
        assert_eq!(ours.len(), 2);
    }
}
