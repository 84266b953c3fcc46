//! When an attempt is repeated (contract, section 3: webhooks), as data.

use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// Pauses after the first attempt and those that follow it, seconds.
const PAUSES: [u64; 8] = [5, 20, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR];
/// Every later pause; also the longest that a receiver may ask for.
const LAST_PAUSE: Duration = Duration::from_secs(12 * HOUR);
/// How long after the first attempt it is given up.
const PATIENCE: Duration = Duration::from_secs(72 * HOUR);

/// When to try again after `tries` attempts, the first of which began at `first` and the last of which ended at `ended`;
/// `None`: never.
pub(super) fn next(
    tries: u32,
    first: Timestamp,
    ended: Timestamp,
    asked_to_wait: Option<Duration>,
    ids: &Ids,
) -> Option<Timestamp> {
    let index = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let pause = PAUSES.get(index).map_or(LAST_PAUSE, |&seconds| Duration::from_secs(seconds));
    // 90 to 110 %, so that what failed together is not repeated together.
    let pause = pause * (9_000 + ids.below(2_001)) / 10_000;
    let due = ended.plus(asked_to_wait.map_or(pause, |asked| pause.max(asked.min(LAST_PAUSE))));
    (due <= first.plus(PATIENCE)).then_some(due)
}
