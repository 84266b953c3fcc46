//! The methods about other accounts: finding, naming, blocking them; and one's own username.

use grammers_tl_types as tl;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use crate::sandbox::hub::Hub;
use crate::sandbox::objects;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::Phone;
use crate::sandbox::world::Refusal;
use crate::sandbox::world::Sender;
use crate::sandbox::world::World;

use super::RpcError;
use super::change;

/// How many users one request may name.
const MAX_USERS: usize = 200;

/// `contacts.resolveUsername`
pub(super) fn resolve_username(
    hub: &Hub,
    me: AccountId,
    request: &f::contacts::ResolveUsername,
) -> Result<e::contacts::ResolvedPeer, RpcError> {
    let username = request.username.trim_start_matches('@');
    if username.is_empty() {
        return Err(Refusal::UsernameInvalid.into());
    }
    hub.look(|world| {
        let found = world.by_username(username).ok_or(Refusal::UsernameNotOccupied)?;
        Ok(resolved(world, me, found))
    })
}

/// `contacts.resolvePhone`
pub(super) fn resolve_phone(
    hub: &Hub,
    me: AccountId,
    request: &f::contacts::ResolvePhone,
) -> Result<e::contacts::ResolvedPeer, RpcError> {
    let phone = Phone::parse(&request.phone).ok_or(Refusal::PhoneInvalid)?;
    hub.look(|world| {
        only_people(world, me)?;
        let found = world.by_phone(&phone).ok_or(Refusal::PhoneNotOccupied)?;
        Ok(resolved(world, me, found.id))
    })
}

fn resolved(world: &World, me: AccountId, found: AccountId) -> e::contacts::ResolvedPeer {
    e::contacts::ResolvedPeer::Peer(t::contacts::ResolvedPeer {
        peer: e::Peer::User(t::PeerUser { user_id: found.0 }),
        chats: vec![],
        users: objects::users(world, me, [found]),
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
    hub.look(|world| {
        let named = request.id.iter().filter_map(|named| named_user(world, me, named).ok());
        Ok(named.map(|id| objects::user(world, me, id)).collect())
    })
}

/// `users.getFullUser`
pub(super) fn full_user(
    hub: &Hub,
    me: AccountId,
    request: &f::users::GetFullUser,
) -> Result<e::users::UserFull, RpcError> {
    hub.look(|world| {
        let id = named_user(world, me, &request.id)?;
        objects::full_user(world, me, id).ok_or_else(|| RpcError::new(500, "INTERNAL_SERVER_ERROR"))
    })
}

/// `contacts.block` and `contacts.unblock`
pub(super) fn block(hub: &Hub, me: AccountId, other: &e::InputPeer, blocked: bool) -> Result<bool, RpcError> {
    change(hub, |world, _| {
        only_people(world, me)?;
        let other = named_peer(world, me, other)?;
        world.block(me, other, blocked).map(|()| true)
    })
}

/// `account.updateUsername`
pub(super) fn rename(
    hub: &Hub,
    me: Sender,
    request: &f::account::UpdateUsername,
) -> Result<e::User, RpcError> {
    let username = Some(request.username.as_str()).filter(|username| !username.is_empty());
    change(hub, |world, _| {
        only_people(world, me.account)?;
        world.rename(me.account, username, me.device)?;
        Ok(objects::user(world, me.account, me.account))
    })
}

/// Whom an `InputUser` names.
pub(super) fn named_user(world: &World, me: AccountId, named: &e::InputUser) -> Result<AccountId, Refusal> {
    match named {
        e::InputUser::UserSelf => Ok(me),
        e::InputUser::User(user) => world.named_account(me, AccountId(user.user_id), user.access_hash),
        e::InputUser::Empty | e::InputUser::FromMessage(_) => Err(Refusal::UserInvalid),
    }
}

/// The other side of the chat that an `InputPeer` names. There are private chats only.
pub(super) fn named_peer(world: &World, me: AccountId, named: &e::InputPeer) -> Result<AccountId, Refusal> {
    if let e::InputPeer::User(user) = named {
        let named = world.named_account(me, AccountId(user.user_id), user.access_hash);
        return named.map_err(|_| Refusal::PeerInvalid);
    }
    (*named == e::InputPeer::PeerSelf).then_some(me).ok_or(Refusal::PeerInvalid)
}

/// Refuses bots what is for people.
pub(super) fn only_people(world: &World, me: AccountId) -> Result<(), Refusal> {
    (!world.is_bot(me)).then_some(()).ok_or(Refusal::BotMethodInvalid)
}

/// Refuses people what is for bots.
pub(super) fn only_bots(world: &World, me: AccountId) -> Result<(), Refusal> {
    world.is_bot(me).then_some(()).ok_or(Refusal::BotRequired)
}
