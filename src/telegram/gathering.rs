//! Making one batch of the updates that have come while the last one was being taken: what many people do at once takes the
//! store one turn and not one each. What becomes of a batch is `reader`'s business.

use futures_util::FutureExt as _;
use grammers_mtsender::{InvocationError, UpdatesReceiver};
use grammers_session::updates::State;
use grammers_tl_types as tl;

/// How many updates make a batch to which no more is added.
const ENOUGH: usize = 256;

/// Adds to a batch what is there already, and waits for nothing. The error, if any, is of what comes after the batch.
///
/// A difference gets nothing added: it may be a slice, and asking for the next one, which is what `next` does then, would be
/// broken off and begun again. Otherwise nothing is lost with a `next` that is broken off: it waits for its channel only, or
/// for a difference that it asks for again.
pub(super) fn gather(
    receiver: &mut UpdatesReceiver,
    updates: &mut Vec<(tl::enums::Update, State)>,
    users: &mut Vec<tl::enums::User>,
) -> Option<InvocationError> {
    while (1..ENOUGH).contains(&updates.len()) && !updates.iter().any(|(update, _)| is_of_difference(update))
    {
        match receiver.next().now_or_never()? {
            Ok((more, theirs, _chats)) => {
                updates.extend(more);
                users.extend(theirs);
            }
            Err(error) => return Some(error),
        }
    }
    None
}

/// What grammers makes of a message in a difference has no position of its own.
fn is_of_difference(update: &tl::enums::Update) -> bool {
    matches!(update, tl::enums::Update::NewMessage(new) if new.pts_count == 0)
}
