//! Where each project's queue of deliveries begins. The engine passes by every key that was removed and is not cleared away
//! yet, tens of thousands where much is delivered; a look at the queue from its start would pay for each of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::delivery_keys::END;
use super::delivery_keys::QUEUE;
use super::delivery_keys::of_project;
use crate::domain::project::ProjectId;

/// The beginnings, of those that are not just the start.
#[derive(Debug, Default)]
pub(super) struct Floors(Mutex<HashMap<ProjectId, Floor>>);

/// Nothing is queued before this key.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    pub(super) key: Vec<u8>,
    /// How often something was put in.
    changes: u64,
}

impl Floors {
    fn all(&self) -> MutexGuard<'_, HashMap<ProjectId, Floor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to begin to look.
    pub(super) fn of(&self, project: &ProjectId) -> Floor {
        self.all().entry(project.clone()).or_insert_with(|| Floor::start(project)).clone()
    }

    /// A key was put in; call this when it can be seen.
    pub(super) fn put(&self, project: &ProjectId, key: Vec<u8>) {
        let mut all = self.all();
        let floor = all.entry(project.clone()).or_insert_with(|| Floor::start(project));
        floor.changes += 1;
        if key < floor.key {
            floor.key = key;
        }
    }

    /// Nothing was found before `key` by who began at `seen`. Of no use if something was put in since: it may have come
    /// behind their back.
    pub(super) fn raise(&self, project: &ProjectId, seen: &Floor, key: Vec<u8>) {
        if let Some(floor) = self.all().get_mut(project)
            && floor.changes == seen.changes
        {
            floor.key = key;
        }
    }

    /// The project is gone.
    pub(super) fn forget(&self, project: &ProjectId) {
        self.all().remove(project);
    }
}

impl Floor {
    fn start(project: &ProjectId) -> Self {
        Self { key: of_project(QUEUE, project, END), changes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_rises_only_over_what_nothing_was_put_under_meanwhile() {
        let (floors, project) = (Floors::default(), ProjectId::parse("proj_a").unwrap());
        let key = |due: u8| [&of_project(QUEUE, &project, END)[..], &[due]].concat();
        let seen = floors.of(&project);
        assert_eq!(seen.key, of_project(QUEUE, &project, END));
        floors.raise(&project, &seen, key(5));
        assert_eq!(floors.of(&project).key, key(5));
        floors.put(&project, key(7));
        assert_eq!(floors.of(&project).key, key(5));
        let seen = floors.of(&project);
        floors.put(&project, key(3));
        floors.raise(&project, &seen, key(9));
        assert_eq!(floors.of(&project).key, key(3), "what was put in meanwhile is found");
        floors.forget(&project);
        floors.raise(&project, &seen, key(9));
        assert_eq!(floors.of(&project).key, of_project(QUEUE, &project, END));
    }
}
