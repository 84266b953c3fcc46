//! The methods that only look: configuration, updates, users.

use grammers_tl_types as tl;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use crate::domain::clock::Clock;
use crate::sandbox::hub::Hub;
use crate::sandbox::objects;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::Refusal;
use crate::sandbox::world::SERVICE_ACCOUNT;

use super::Caller;
use super::RpcError;
use super::slice_size;

/// How many users one request may name.
const MAX_USERS: usize = 200;

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
        let missed = world.difference(me, request.pts, slice);
        let state = update_state(hub, missed.pts);
        if missed.messages.is_empty() {
            return Ok(e::updates::Difference::Empty(t::updates::DifferenceEmpty {
                date: state.date,
                seq: state.seq,
            }));
        }
        let senders = missed.messages.iter().map(|message| message.chat).chain([me, SERVICE_ACCOUNT]);
        let users = objects::users(world, me, senders);
        let new_messages = missed.messages.iter().map(|message| objects::message(me, message)).collect();
        Ok(if missed.complete {
            e::updates::Difference::Difference(t::updates::Difference {
                new_messages,
                new_encrypted_messages: vec![],
                other_updates: vec![],
                chats: vec![],
                users,
                state: e::updates::State::State(state),
            })
        } else {
            e::updates::Difference::Slice(t::updates::DifferenceSlice {
                new_messages,
                new_encrypted_messages: vec![],
                other_updates: vec![],
                chats: vec![],
                users,
                intermediate_state: e::updates::State::State(state),
            })
        })
    })
}

/// `users.getUsers`: leaves out who cannot be named.
pub(super) fn users(
    hub: &Hub,
    me: AccountId,
    request: &f::users::GetUsers,
) -> Result<Vec<e::User>, RpcError> {
    if request.id.len() > MAX_USERS {
        return Err(RpcError::new(400, "INPUT_REQUEST_TOO_LONG"));
    }
    Ok(request
        .id
        .iter()
        .filter_map(|named| named_user(hub, me, named).ok())
        .map(|id| hub.look(|world| objects::user(world, me, id)))
        .collect())
}

/// `users.getFullUser`
pub(super) fn full_user(
    hub: &Hub,
    me: AccountId,
    request: &f::users::GetFullUser,
) -> Result<e::users::UserFull, RpcError> {
    let id = named_user(hub, me, &request.id)?;
    hub.look(|world| objects::full_user(world, me, id))
        .ok_or_else(|| RpcError::new(500, "INTERNAL_SERVER_ERROR"))
}

fn named_user(hub: &Hub, me: AccountId, named: &e::InputUser) -> Result<AccountId, RpcError> {
    match named {
        e::InputUser::UserSelf => Ok(me),
        e::InputUser::User(user) => {
            let (id, hash) = (AccountId(user.user_id), user.access_hash);
            Ok(hub.look(|world| world.named_account(me, id, hash))?)
        }
        e::InputUser::Empty | e::InputUser::FromMessage(_) => Err(Refusal::UserInvalid.into()),
    }
}

fn update_state(hub: &Hub, pts: i32) -> t::updates::State {
    t::updates::State { pts, qts: 1, date: objects::date(hub.clock.now()), seq: 0, unread_count: 0 }
}
