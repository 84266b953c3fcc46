//! A store of a test's own, opened as often as the test wants.

use std::path::Path;
use std::sync::Arc;

use telegram_connector::domain::account::Mode;
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::seal::Sealer;
use telegram_connector::store::{EmbeddedStore, Store, StoreError};

/// Opens the database below a store, to do what no store does to it.
pub(crate) fn open_database(folder: &Path) -> fjall::Database {
    for _ in 0..60_000 / 5 {
        match fjall::Database::builder(folder.join("database")).open() {
            Err(fjall::Error::Locked) => std::thread::sleep(std::time::Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
    panic!("somebody holds the store in {}", folder.display());
}

/// A tree of such a database.
pub(crate) fn open_tree(database: &fjall::Database, name: &str) -> fjall::Keyspace {
    assert!(database.keyspace_exists(name), "there is no {name}");
    database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap()
}

/// Opens the store in a folder, always with the same master key.
pub(crate) async fn open_store(folder: &Path) -> Arc<dyn Store> {
    for _ in 0..60_000 / 5 {
        let sealer = Sealer::new(&[7; 32], Ids::from_seed([9; 32]));
        match EmbeddedStore::open(folder, 1024 * 1024, Mode::Sandbox, sealer).await {
            // What runs aside of a request may hold the store for a moment longer than who dropped it.
            Err(StoreError::InUse(_)) => {
                telegram_connector::lifecycle::network_sleep(std::time::Duration::from_millis(5)).await;
            }
            opened => return Arc::new(opened.unwrap()),
        }
    }
    panic!("somebody holds the store in {}", folder.display());
}
