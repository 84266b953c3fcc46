//! The methods that only look: configuration and updates.

use grammers_tl_types as tl;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use crate::domain::clock::Clock;
use crate::sandbox::hub::Hub;
use crate::sandbox::objects;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::Missed;

use super::Caller;
use super::RpcError;
use super::slice_size;

/// `help.getConfig`
pub(super) fn config(hub: &Hub, caller: Caller) -> e::Config {
    objects::config(&hub.data_centres, caller.dc, objects::date(hub.clock.now()))
}

/// `help.getNearestDc`
pub(super) fn nearest_dc(caller: Caller) -> e::NearestDc {
    e::NearestDc::Dc(t::NearestDc { country: "XX".to_owned(), this_dc: caller.dc, nearest_dc: caller.dc })
}

/// `updates.getState`
pub(super) fn state(hub: &Hub, me: AccountId) -> e::updates::State {
    let pts = hub.look(|world| world.account(me).map_or(1, |account| account.pts));
    e::updates::State::State(update_state(hub, pts))
}

/// `updates.getDifference`
pub(super) fn difference(
    hub: &Hub,
    me: AccountId,
    request: &f::updates::GetDifference,
) -> Result<e::updates::Difference, RpcError> {
    if request.pts <= 0 {
        return Err(RpcError::new(400, "PERSISTENT_TIMESTAMP_EMPTY"));
    }
    let slice = slice_size(hub, request.pts_limit);
    hub.look(|world| {
        let current = world.account(me).map_or(1, |account| account.pts);
        if request.pts > current {
            return Err(RpcError::new(400, "PERSISTENT_TIMESTAMP_INVALID"));
        }
        let known = world.difference(me, request.pts, slice);
        let Some(difference) = known.filter(|_| !hub.faults.difference_too_long()) else {
            return Ok(e::updates::Difference::TooLong(t::updates::DifferenceTooLong { pts: current }));
        };
        let state = update_state(hub, difference.pts);
        if difference.missed.is_empty() {
            return Ok(e::updates::Difference::Empty(t::updates::DifferenceEmpty {
                date: state.date,
                seq: state.seq,
            }));
        }
        let (mut new_messages, mut other_updates, mut people) = (vec![], vec![], vec![me]);
        for missed in &difference.missed {
            match missed {
                Missed::New(message) => {
                    people.extend(objects::people_in(message));
                    new_messages.push(objects::message(me, message));
                }
                Missed::Edited(message) => {
                    people.extend(objects::people_in(message));
                    other_updates.push(objects::edited_message(me, message));
                }
                Missed::Deleted(id, pts) => other_updates.push(objects::deleted_message(*id, *pts)),
            }
        }
        let users = objects::users(world, me, people);
        let state = e::updates::State::State(state);
        let (new_encrypted_messages, chats) = (vec![], vec![]);
        Ok(if difference.complete {
            e::updates::Difference::Difference(t::updates::Difference {
                new_messages,
                new_encrypted_messages,
                other_updates,
                chats,
                users,
                state,
            })
        } else {
            e::updates::Difference::Slice(t::updates::DifferenceSlice {
                new_messages,
                new_encrypted_messages,
                other_updates,
                chats,
                users,
                intermediate_state: state,
            })
        })
    })
}

fn update_state(hub: &Hub, pts: i32) -> t::updates::State {
    t::updates::State { pts, qts: 1, date: objects::date(hub.clock.now()), seq: 0, unread_count: 0 }
}
