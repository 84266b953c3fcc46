//! Who may be held: polls that wait and streams take a place for as long as they last, because each costs memory and a
//! connection. Over all, of one project, and of one client address; programs on this machine have no share.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::project::ProjectId;
use crate::domain::subscriber::subscriber;

/// How many may be held.
#[derive(Clone, Copy, Debug)]
pub struct HeldLimits {
    /// Over all.
    pub all: usize,
    /// Of one project.
    pub per_project: usize,
    /// Of one client address (of IPv6: one /64).
    pub per_address: usize,
}

impl Default for HeldLimits {
    fn default() -> Self {
        Self { all: 16_384, per_project: 12_288, per_address: 256 }
    }
}

/// The places. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    limits: HeldLimits,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_project: HashMap<ProjectId, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    project: ProjectId,
    address: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(limits: HeldLimits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// A place, if there is one. Without an address it counts for none.
    pub(super) fn take(&self, project: &ProjectId, from: Option<IpAddr>) -> Option<Place> {
        let HeldLimits { all, per_project, per_address } = self.limits;
        let address = from.map(subscriber);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_project = taken.by_project.get(project).copied().unwrap_or_default();
        let of_address =
            address.and_then(|address| taken.by_address.get(&address).copied()).unwrap_or_default();
        if taken.all >= all || of_project >= per_project || of_address >= per_address {
            metrics::counter!("connector_held_refused_total").increment(1);
            return None;
        }
        taken.all += 1;
        *taken.by_project.entry(project.clone()).or_default() += 1;
        if let Some(address) = address {
            *taken.by_address.entry(address).or_default() += 1;
        }
        metrics::gauge!("connector_held").increment(1);
        Some(Place { places: self.clone(), project: project.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        leave(&mut taken.by_project, &self.project);
        if let Some(address) = &self.address {
            leave(&mut taken.by_address, address);
        }
        metrics::gauge!("connector_held").decrement(1);
    }
}

fn leave<K: Eq + Hash>(table: &mut HashMap<K, usize>, key: &K) {
    match table.get_mut(key) {
        Some(number) if *number > 1 => *number -= 1,
        Some(_) | None => drop(table.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Ids;

    #[test]
    fn each_has_a_share_and_who_leaves_leaves_nothing_behind() {
        let ids = Ids::from_seed([5; 32]);
        let (one, two) = (ProjectId::new(&ids), ProjectId::new(&ids));
        let places = Places::new(HeldLimits { all: 6, per_project: 4, per_address: 2 });
        let take = |project: &ProjectId, from: &str| places.take(project, from.parse().ok());
        let mut held = vec![take(&one, "203.0.113.7").unwrap(), take(&two, "203.0.113.7").unwrap()];
        assert!(take(&one, "203.0.113.7").is_none(), "the address has two");
        held.extend((0..3).map(|_| take(&one, "here").unwrap()));
        assert!(take(&one, "here").is_none(), "the project has four");
        held.push(take(&two, "here").unwrap());
        assert!(take(&two, "here").is_none(), "six in all");
        held.remove(0);
        held.push(take(&one, "203.0.113.7").unwrap());
        drop(held);
        let taken = places.taken.lock().unwrap();
        assert!(taken.all == 0 && taken.by_project.is_empty() && taken.by_address.is_empty());
    }
}
