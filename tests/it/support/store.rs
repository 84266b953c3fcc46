//! A store of a test's own, opened as often as the test wants.

use std::path::Path;
use std::sync::Arc;

use telegram_connector::domain::account::Mode;
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::seal::Sealer;
use telegram_connector::store::{SledStore, Store, StoreError};

/// Opens the database below a store, to do what no store does to it.
pub(crate) fn open_database(folder: &Path) -> sled::Db {
    for _ in 0..60_000 / 5 {
        match sled::open(folder) {
            Ok(database) => return database,
            Err(error) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("somebody holds the store in {}", folder.display());
}

/// Opens the store in a folder, always with the same master key.
pub(crate) async fn open_store(folder: &Path) -> Arc<dyn Store> {
    for _ in 0..60_000 / 5 {
        let sealer = Sealer::new(&[7; 32], Ids::from_seed([9; 32]));
        match SledStore::open(folder, 1024 * 1024, Mode::Sandbox, sealer).await {
            // sled's own threads hold the folder for a moment longer than the store that was dropped.
            Err(StoreError::InUse(_)) => {
                telegram_connector::lifecycle::network_sleep(std::time::Duration::from_millis(5)).await;
            }
            opened => return Arc::new(opened.unwrap()),
        }
    }
    panic!("somebody holds the store in {}", folder.display());
}
